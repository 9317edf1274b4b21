//! Claims about a machine's network, on the kernel's own.

mod lease;

use std::cell::RefCell;

use agent_types::net::{StaticIpv4, StaticIpv6};

use super::testbed::{Far, ip, isolated};
use super::*;

/// Long enough for anything that happens, short enough for what does not.
const LIMITS: Limits = Limits {
    card: Duration::from_secs(20),
    named: Duration::from_millis(100),
    carrier: Duration::from_secs(20),
    dhcp: Duration::from_secs(20),
};

const QUIET: OnWait<'_> = &|_| {};

fn by_hand(address: [u8; 4], prefix_len: u8, gateway: Option<[u8; 4]>) -> NetworkConfig {
    let ipv4 = StaticIpv4 { address: address.into(), prefix_len, gateway: gateway.map(Into::into) };
    NetworkConfig {
        interface: Some("eth0".to_owned()),
        ipv4: Ipv4Config::Static(ipv4),
        ipv6: None,
        hostname: None,
        dns: vec![],
        ntp: vec![],
        dhcp_client_id: None,
    }
}

fn usual() -> NetworkConfig {
    by_hand([192, 168, 0, 2], 24, Some([192, 168, 0, 1]))
}

async fn bring_up_in(root: &Path, config: &NetworkConfig) -> Result<Network, Error> {
    bring_up(config, &LIMITS, root, QUIET).await
}

/// Addresses of all interfaces but the loopback, as `ip` shows them.
fn addresses() -> Vec<String> {
    let lines = ip("-4 -brief address show");
    let is_ours = |line: &&str| !line.starts_with("lo ");
    let words = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap().split('@').next().unwrap().to_owned();
        words.skip(1).map(|address| format!("{name} {address}")).collect::<Vec<_>>()
    };
    lines.lines().filter(is_ours).flat_map(words).collect()
}

fn default_routes() -> String {
    ip("-4 route show default").replace(" proto static", "").trim().to_owned()
}

fn etc(root: &Path, name: &str) -> String {
    std::fs::read_to_string(root.join("etc").join(name)).unwrap()
}

#[test]
fn a_host_name_that_the_kernel_refuses_is_no_reason_to_have_no_network() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let root = tempfile::tempdir().unwrap();
        let config = NetworkConfig { hostname: Some("a".repeat(70)), ..usual() };
        bring_up_in(root.path(), &config).await.unwrap();
        assert_eq!(addresses(), ["eth0 192.168.0.2/24"]);
    });
}

#[test]
fn a_static_address_gets_its_route_and_the_machine_its_names() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let root = tempfile::tempdir().unwrap();
        let config = NetworkConfig {
            hostname: Some("mlab1.lga0t.example.org".to_owned()),
            dns: vec!["8.8.8.8".parse().unwrap(), "8.8.4.4".parse().unwrap()],
            ntp: vec!["192.168.0.9".parse().unwrap()],
            ..usual()
        };
        let network = bring_up_in(root.path(), &config).await.unwrap();
        let expected = Network {
            interface: "eth0".to_owned(),
            index: network.index,
            mac: network.mac,
            addresses: vec![("192.168.0.2".parse().unwrap(), 24)],
            gateway: Some("192.168.0.1".parse().unwrap()),
            hostname: config.hostname,
            dns: config.dns,
            ntp: config.ntp,
            lease: None,
        };
        assert_eq!(network, expected);
        assert_eq!(addresses(), ["eth0 192.168.0.2/24"]);
        assert!(ip("-4 address show eth0").contains("brd 192.168.0.255"));
        assert_eq!(default_routes(), "default via 192.168.0.1 dev eth0");
        assert!(ip("-brief link show lo").contains("LOWER_UP"));
        assert_eq!(rustix::system::uname().nodename().to_str(), Ok("mlab1.lga0t.example.org"));
        let own = "192.168.0.2 mlab1.lga0t.example.org mlab1\n";
        assert!(etc(root.path(), "hosts").ends_with(own));
        assert_eq!(etc(root.path(), "resolv.conf"), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    });
}

#[test]
fn a_static_ipv6_address_is_usable_at_once_and_routers_are_ignored() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let root = tempfile::tempdir().unwrap();
        let ipv6 = StaticIpv6 {
            address: "2001:db8::86".parse().unwrap(),
            prefix_len: 64,
            gateway: Some("2001:db8::1".parse().unwrap()),
        };
        let config = NetworkConfig { ipv6: Some(ipv6), ..usual() };
        bring_up_in(root.path(), &config).await.unwrap();
        let shown = ip("-6 address show dev eth0 scope global");
        assert!(shown.contains("2001:db8::86/64") && shown.contains("nodad"), "{shown}");
        assert!(!shown.contains("tentative"), "{shown}");
        let route = ip("-6 route show default");
        assert!(route.starts_with("default via 2001:db8::1 dev eth0"), "{route}");
        for switch in ["accept_ra", "autoconf"] {
            let path = format!("/proc/sys/net/ipv6/conf/eth0/{switch}");
            assert_eq!(std::fs::read_to_string(path).unwrap(), "0\n", "{switch}");
        }
    });
}

#[test]
fn a_carrier_that_comes_late_is_waited_for() {
    isolated(async || {
        let far = Far::new().await;
        far.cable("eth0");
        let root = tempfile::tempdir().unwrap();
        let words = RefCell::new(vec![]);
        let on_wait = |word: &str| {
            words.borrow_mut().push(word.to_owned());
            far.plug("eth0");
        };
        bring_up(&usual(), &LIMITS, root.path(), &on_wait).await.unwrap();
        assert_eq!(words.into_inner(), ["waiting for a carrier on eth0 (0 of 20 s)"]);
        assert_eq!(addresses(), ["eth0 192.168.0.2/24"]);
    });
}

#[test]
fn no_carrier_is_an_error_that_names_the_interfaces() {
    isolated(async || {
        let far = Far::new().await;
        far.cable("eth0");
        far.cable("eth1");
        let root = tempfile::tempdir().unwrap();
        let limits = Limits { carrier: Duration::from_secs(1), ..LIMITS };
        for (interface, expected) in [
            (Some("eth0"), "no carrier on eth0 after 1 s: check cable and switch port"),
            (None, "no carrier on eth0, eth1 after 1 s: check cable and switch port"),
        ] {
            let config = NetworkConfig { interface: interface.map(str::to_owned), ..usual() };
            let error = bring_up(&config, &limits, root.path(), QUIET).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(addresses(), Vec::<String>::new());
    });
}

#[test]
fn a_machine_without_a_card_says_so() {
    isolated(async || {
        let root = tempfile::tempdir().unwrap();
        let limits = Limits { card: Duration::from_secs(1), ..LIMITS };
        let error = bring_up(&usual(), &limits, root.path(), QUIET).await.unwrap_err();
        let expected = "no network card after 1 s: its driver or its firmware may be missing";
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn a_card_whose_driver_comes_late_is_waited_for() {
    isolated(async || {
        let far = Far::new().await;
        let root = tempfile::tempdir().unwrap();
        let on_wait = |word: &str| {
            assert_eq!(word, "waiting for a network card (0 of 20 s)");
            far.link("eth0");
        };
        bring_up(&usual(), &LIMITS, root.path(), &on_wait).await.unwrap();
        assert_eq!(addresses(), ["eth0 192.168.0.2/24"]);
    });
}

#[test]
fn a_second_card_may_come_late_and_be_the_right_one() {
    isolated(async || {
        let far = Far::new().await;
        far.cable("eth0");
        let root = tempfile::tempdir().unwrap();
        let on_wait = |word: &str| {
            assert_eq!(word, "waiting for a carrier on eth0 (0 of 20 s)");
            far.link("eth1");
        };
        let config = NetworkConfig { interface: None, ..usual() };
        bring_up(&config, &LIMITS, root.path(), &on_wait).await.unwrap();
        assert_eq!(addresses(), ["eth1 192.168.0.2/24"]);
    });
}

#[test]
fn a_name_that_does_not_exist_is_replaced_by_the_only_card() {
    isolated(async || {
        let far = Far::new().await;
        far.link("enp0s2");
        ip("link add br0 type bridge");
        let root = tempfile::tempdir().unwrap();
        let network = bring_up_in(root.path(), &usual()).await.unwrap();
        assert_eq!(network.interface, "enp0s2");
        assert_eq!(addresses(), ["enp0s2 192.168.0.2/24"]);
    });
}

#[test]
fn of_several_cards_the_one_with_a_carrier_is_taken() {
    isolated(async || {
        let far = Far::new().await;
        far.cable("eth1");
        far.link("eth2");
        far.cable("eth3");
        let root = tempfile::tempdir().unwrap();
        for interface in [None, Some("eth0".to_owned())] {
            let config = NetworkConfig { interface, ..usual() };
            assert_eq!(bring_up_in(root.path(), &config).await.unwrap().interface, "eth2");
        }
        assert_eq!(addresses(), ["eth2 192.168.0.2/24"]);
    });
}

#[test]
fn a_second_run_changes_nothing_and_clears_what_others_left_behind() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        far.link("eth1");
        let root = tempfile::tempdir().unwrap();
        let first = bring_up_in(root.path(), &usual()).await.unwrap();
        ip("address add 192.168.0.2/16 dev eth0");
        ip("address add 10.9.9.9/8 dev eth0");
        ip("link set eth1 up");
        ip("address add 192.168.0.2/24 dev eth1");
        ip("route add default via 10.0.0.1 metric 5");
        let second = bring_up_in(root.path(), &usual()).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(addresses(), ["eth0 192.168.0.2/24"]);
        assert_eq!(default_routes(), "default via 192.168.0.1 dev eth0");
    });
}

#[test]
fn another_gateway_replaces_the_one_of_an_earlier_run() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let root = tempfile::tempdir().unwrap();
        for (gateway, expected) in [
            (Some([192, 168, 0, 1]), "default via 192.168.0.1 dev eth0"),
            (Some([192, 168, 0, 254]), "default via 192.168.0.254 dev eth0"),
            (None, ""),
        ] {
            let config = by_hand([192, 168, 0, 2], 24, gateway);
            bring_up_in(root.path(), &config).await.unwrap();
            assert_eq!(default_routes(), expected);
        }
    });
}

#[test]
fn a_gateway_that_cannot_be_reached_is_left_out() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let root = tempfile::tempdir().unwrap();
        let config = by_hand([192, 168, 0, 2], 24, Some([10, 0, 0, 1]));
        let network = bring_up_in(root.path(), &config).await.unwrap();
        assert_eq!(network.gateway, None);
        assert_eq!(
            (addresses(), default_routes()),
            (vec!["eth0 192.168.0.2/24".to_owned()], String::new())
        );
    });
}
