//! Claims about the plan.

use std::time::Duration;

use agent_types::net::{StaticIpv4, StaticIpv6};

use super::LinkChange::{AddAddress, AddRoute, RemoveAddress, RemoveRoute, SetMtu};
use super::*;
use crate::links::{LinkKind, LinkState};

const INDEX: IfIndex = IfIndex(2);

fn link() -> Link {
    Link {
        index: INDEX,
        name: "eth0".to_owned(),
        kind: LinkKind::Card,
        state: LinkState::Carrier,
        mac: None,
        mtu: 1500,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn address(index: IfIndex, text: &str) -> LinkAddress {
    let (address, prefix_len) = text.split_once('/').unwrap();
    LinkAddress { index, address: ip(address), prefix_len: prefix_len.parse().unwrap() }
}

fn route(destination: &str, gateway: Option<&str>) -> Route {
    let (destination, prefix_len) = destination.split_once('/').unwrap();
    Route {
        destination: ip(destination),
        prefix_len: prefix_len.parse().unwrap(),
        gateway: gateway.map(ip),
    }
}

fn add_route(destination: &str, gateway: Option<&str>) -> LinkChange {
    AddRoute { index: INDEX, route: route(destination, gateway) }
}

fn ipv4(address: &str, gateway: Option<&str>) -> NetworkConfig {
    let (address, prefix_len) = address.split_once('/').unwrap();
    NetworkConfig {
        interface: None,
        ipv4: Ipv4Config::Static(StaticIpv4 {
            address: address.parse().unwrap(),
            prefix_len: prefix_len.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }),
        ipv6: None,
        hostname: None,
        dns: vec![],
        ntp: vec![],
        dhcp_client_id: None,
    }
}

fn lease(routes: Vec<Route>, mtu: Option<u16>) -> Lease {
    Lease {
        address: "10.0.0.7".parse().unwrap(),
        prefix_len: 24,
        server: "10.0.0.1".parse().unwrap(),
        routes,
        dns: vec![],
        ntp: vec![],
        domain: None,
        hostname: None,
        mtu,
        obtained: Duration::ZERO,
        renew_after: Duration::from_secs(1800),
        rebind_after: Duration::from_secs(3150),
        expires_after: Duration::from_secs(3600),
    }
}

fn plan_for(config: &NetworkConfig, lease: Option<&Lease>, found: &Found) -> Vec<LinkChange> {
    plan(&link(), &Addressing::new(config, lease), found)
}

#[test]
fn a_static_address_comes_before_the_route_that_needs_it() {
    assert_eq!(
        plan_for(&ipv4("192.168.0.2/24", Some("192.168.0.1")), None, &Found::default()),
        [AddAddress(address(INDEX, "192.168.0.2/24")), add_route("0.0.0.0/0", Some("192.168.0.1"))]
    );
}

#[test]
fn both_families_get_an_address_and_a_route() {
    let mut config = ipv4("4.14.159.86/26", Some("4.14.159.65"));
    config.ipv6 = Some(StaticIpv6 {
        address: "2001:db8::86".parse().unwrap(),
        prefix_len: 64,
        gateway: Some("fe80::1".parse().unwrap()),
    });
    assert_eq!(
        plan_for(&config, None, &Found::default()),
        [
            AddAddress(address(INDEX, "4.14.159.86/26")),
            AddAddress(address(INDEX, "2001:db8::86/64")),
            add_route("0.0.0.0/0", Some("4.14.159.65")),
            add_route("::/0", Some("fe80::1")),
        ]
    );
}

#[test]
fn a_gateway_is_installed_only_where_it_can_be_reached() {
    for (address, gateway, is_reachable) in [
        ("192.168.0.2/24", "192.168.0.254", true),
        ("192.168.0.2/24", "192.168.1.1", false),
        ("192.168.0.2/16", "192.168.1.1", true),
        ("192.168.0.2/32", "192.168.0.1", false),
        ("192.168.0.2/31", "192.168.0.3", true),
        ("192.168.0.2/0", "1.2.3.4", true),
    ] {
        let addressing = Addressing::new(&ipv4(address, Some(gateway)), None);
        let expected = vec![Route::default_via(ip(gateway))];
        let (routes, unreachable) =
            if is_reachable { (expected, vec![]) } else { (vec![], expected) };
        assert_eq!(
            (addressing.routes, addressing.unreachable),
            (routes, unreachable),
            "{address} {gateway}"
        );
    }
}

#[test]
fn a_lease_may_bring_the_network_of_its_gateway_along() {
    let config = NetworkConfig { ipv4: Ipv4Config::Dhcp, ..ipv4("1.1.1.1/8", None) };
    let lease = lease(
        vec![
            route("0.0.0.0/0", Some("10.9.0.1")),
            route("172.16.0.0/12", Some("10.0.0.3")),
            route("10.9.0.0/24", None),
        ],
        None,
    );
    assert_eq!(
        plan_for(&config, Some(&lease), &Found::default()),
        [
            AddAddress(address(INDEX, "10.0.0.7/24")),
            add_route("10.9.0.0/24", None),
            add_route("0.0.0.0/0", Some("10.9.0.1")),
            add_route("172.16.0.0/12", Some("10.0.0.3")),
        ]
    );
}

#[test]
fn an_mtu_is_set_if_it_differs_and_makes_sense() {
    let config = NetworkConfig { ipv4: Ipv4Config::Dhcp, ..ipv4("1.1.1.1/8", None) };
    for (mtu, expected) in [
        (None, None),
        (Some(1500), None),
        (Some(68), None),
        (Some(9000), Some(SetMtu { index: INDEX, mtu: 9000 })),
    ] {
        let changes = plan_for(&config, Some(&lease(vec![], mtu)), &Found::default());
        assert_eq!(
            changes.iter().find(|change| matches!(change, SetMtu { .. })).cloned(),
            expected
        );
    }
}

#[test]
fn what_an_earlier_run_left_behind_goes_first() {
    let other = IfIndex(3);
    let wanted = Route::default_via(ip("192.168.0.1"));
    let stale = Route::default_via(ip("192.168.0.9"));
    let found = Found {
        addresses: vec![
            address(INDEX, "192.168.0.2/24"),
            address(INDEX, "192.168.0.2/16"),
            address(INDEX, "10.0.0.1/8"),
            address(INDEX, "fe80::1/64"),
            address(INDEX, "2001:db8::7/64"),
            address(other, "192.168.0.2/24"),
        ],
        default_routes: vec![(INDEX, wanted), (INDEX, stale), (other, wanted)],
    };
    assert_eq!(
        plan_for(&ipv4("192.168.0.2/24", Some("192.168.0.1")), None, &found),
        [
            RemoveRoute { index: INDEX, route: stale },
            RemoveRoute { index: other, route: wanted },
            RemoveAddress(address(INDEX, "192.168.0.2/16")),
            RemoveAddress(address(INDEX, "10.0.0.1/8")),
            RemoveAddress(address(INDEX, "2001:db8::7/64")),
            RemoveAddress(address(other, "192.168.0.2/24")),
            AddAddress(address(INDEX, "192.168.0.2/24")),
            AddRoute { index: INDEX, route: wanted },
        ]
    );
}
