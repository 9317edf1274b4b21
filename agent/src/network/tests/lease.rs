//! Claims about a machine and its DHCP servers, which are real.

use std::net::Ipv4Addr;

use agent_types::net::DhcpClientId;
use tokio::sync::mpsc;

use super::*;

const RANGE: &str = "--dhcp-range=10.0.0.50,10.0.0.50,255.255.255.0,120s";

fn by_dhcp(interface: Option<&str>) -> NetworkConfig {
    NetworkConfig {
        interface: interface.map(str::to_owned),
        ipv4: Ipv4Config::Dhcp,
        ..by_hand([0; 4], 0, None)
    }
}

#[test]
fn a_dhcp_server_gives_address_routes_and_names() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let options = [
            RANGE,
            "--dhcp-option=option:router,10.0.0.254",
            "--dhcp-option=option:dns-server,10.0.0.3,10.0.0.4",
            "--dhcp-option=option:ntp-server,10.0.0.5",
            "--dhcp-option=option:mtu,1400",
            "--domain=example.org",
        ];
        let mut server = far.dhcp_server("eth0", "10.0.0.1/24", &options).await;
        let root = tempfile::tempdir().unwrap();
        let config = NetworkConfig { hostname: Some("mlab1".to_owned()), ..by_dhcp(Some("eth0")) };
        let network = bring_up_in(root.path(), &config).await.unwrap();
        let lease = network.lease.clone().unwrap();
        let addresses_of = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let expected = Lease {
            address: Ipv4Addr::new(10, 0, 0, 50),
            prefix_len: 24,
            server: Ipv4Addr::new(10, 0, 0, 1),
            routes: vec![netlink::Route::default_via("10.0.0.254".parse().unwrap())],
            dns: addresses_of(&["10.0.0.3", "10.0.0.4"]),
            ntp: addresses_of(&["10.0.0.5"]),
            domain: Some("example.org".to_owned()),
            hostname: Some("mlab1".to_owned()),
            mtu: Some(1400),
            obtained: lease.obtained,
            renew_after: Duration::from_secs(60),
            rebind_after: Duration::from_secs(105),
            expires_after: Duration::from_secs(120),
        };
        assert_eq!(lease, expected);
        server.says("client provides name: mlab1").await;
        assert_eq!(addresses(), ["eth0 10.0.0.50/24"]);
        assert_eq!(default_routes(), "default via 10.0.0.254 dev eth0");
        assert!(ip("link show eth0").contains("mtu 1400"));
        let resolv_conf = "search example.org\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        assert_eq!(etc(root.path(), "resolv.conf"), resolv_conf);
        assert!(etc(root.path(), "hosts").ends_with("10.0.0.50 mlab1\n"));
    });
}

#[test]
fn what_the_command_line_says_comes_before_what_the_dhcp_server_says() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        ip("link set eth0 address 02:00:00:00:00:07");
        let options = [
            RANGE,
            "--dhcp-option=option:dns-server,10.0.0.3",
            "--dhcp-option=option:ntp-server,10.0.0.5",
            "--dhcp-host=02:00:00:00:00:07,theirs",
        ];
        let _server = far.dhcp_server("eth0", "10.0.0.1/24", &options).await;
        let root = tempfile::tempdir().unwrap();
        let theirs = bring_up_in(root.path(), &by_dhcp(Some("eth0"))).await.unwrap();
        let config = NetworkConfig {
            hostname: Some("ours".to_owned()),
            dns: vec!["9.9.9.9".parse().unwrap()],
            ntp: vec!["9.9.9.8".parse().unwrap()],
            ..by_dhcp(Some("eth0"))
        };
        let ours = bring_up_in(root.path(), &config).await.unwrap();
        assert_eq!(theirs.hostname.as_deref(), Some("theirs"));
        assert_eq!(theirs.dns, ["10.0.0.3".parse::<IpAddr>().unwrap()]);
        assert_eq!(theirs.ntp, ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!((ours.hostname, ours.dns, ours.ntp), (config.hostname, config.dns, config.ntp));
        assert_eq!(etc(root.path(), "resolv.conf"), "nameserver 9.9.9.9\n");
    });
}

#[test]
fn a_server_knows_the_machine_by_the_identifier_of_the_command_line() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let options = [RANGE, "--dhcp-host=id:ff:72:37,10.0.0.77"];
        let _server = far.dhcp_server("eth0", "10.0.0.1/24", &options).await;
        let root = tempfile::tempdir().unwrap();
        let id = DhcpClientId { kind: 255, id: "r7".to_owned() };
        let config = NetworkConfig { dhcp_client_id: Some(id), ..by_dhcp(Some("eth0")) };
        bring_up_in(root.path(), &config).await.unwrap();
        assert_eq!(addresses(), ["eth0 10.0.0.77/24"]);
    });
}

#[test]
fn of_several_cards_the_one_whose_server_answers_is_taken() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        far.link("eth1");
        far.cable("eth2");
        let _server = far.dhcp_server("eth1", "10.0.0.1/24", &[RANGE]).await;
        let root = tempfile::tempdir().unwrap();
        let network = bring_up_in(root.path(), &by_dhcp(None)).await.unwrap();
        assert_eq!(network.interface, "eth1");
        assert_eq!(addresses(), ["eth1 10.0.0.50/24"]);
    });
}

#[test]
fn a_link_without_a_dhcp_server_is_an_error_that_names_it() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let root = tempfile::tempdir().unwrap();
        let limits = Limits { dhcp: Duration::from_secs(1), ..LIMITS };
        for interface in [Some("eth0"), None] {
            let failed = bring_up(&by_dhcp(interface), &limits, root.path(), QUIET).await;
            let expected = "no DHCP server answers on eth0 after 1 s";
            assert_eq!(failed.unwrap_err().to_string(), expected);
        }
    });
}

/// Keeps `network` until its lease is another one, and returns what it is then.
async fn kept(network: Network, root: &Path) -> Network {
    let (changed, mut changes) = mpsc::unbounded_channel();
    let config = by_dhcp(Some("eth0"));
    let on_change = |network: &Network| changed.send(network.clone()).unwrap();
    tokio::select! {
        ended = keep(network, &config, &LIMITS, root, &on_change) => panic!("{ended:?}"),
        network = changes.recv() => network.unwrap(),
    }
}

/// The machine as it is when so much of its lease's time has passed.
fn aged(network: &Network, age: fn(&mut Lease)) -> Network {
    let mut aged = network.clone();
    age(aged.lease.as_mut().unwrap());
    aged
}

/// The terms of a lease, without its times.
fn terms(network: &Network) -> (Ipv4Addr, Ipv4Addr) {
    let lease = network.lease.as_ref().unwrap();
    (lease.address, lease.server)
}

#[test]
fn a_lease_is_renewed_by_its_server_and_rebound_by_another() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let mut server = far.dhcp_server("eth0", "10.0.0.1/24", &[RANGE]).await;
        let root = tempfile::tempdir().unwrap();
        let first = bring_up_in(root.path(), &by_dhcp(Some("eth0"))).await.unwrap();
        server.says("DHCPACK").await;

        let due = aged(&first, |lease| lease.renew_after = Duration::ZERO);
        let renewed = kept(due, root.path()).await;
        server.says("DHCPACK").await;
        assert!(renewed.serves_as(&first));
        assert_eq!(terms(&renewed), ([10, 0, 0, 50].into(), [10, 0, 0, 1].into()));
        let [before, after] = [&first, &renewed].map(|of| of.lease.clone().unwrap().obtained);
        assert!(before < after, "{before:?} {after:?}");

        server.stop().await;
        let mut server = far.dhcp_server("eth0", "10.0.0.2/24", &[RANGE]).await;
        let due = aged(&renewed, |lease| lease.rebind_after = Duration::ZERO);
        let rebound = kept(due, root.path()).await;
        server.says("DHCPACK").await;
        assert_eq!(terms(&rebound), ([10, 0, 0, 50].into(), [10, 0, 0, 2].into()));
        assert_eq!(addresses(), ["eth0 10.0.0.50/24"]);
        assert_eq!(default_routes(), "default via 10.0.0.2 dev eth0");
    });
}

#[test]
fn a_refused_or_expired_lease_is_replaced_and_its_address_goes() {
    isolated(async || {
        let far = Far::new().await;
        far.link("eth0");
        let server = far.dhcp_server("eth0", "10.0.0.1/24", &[RANGE]).await;
        let root = tempfile::tempdir().unwrap();
        let first = bring_up_in(root.path(), &by_dhcp(Some("eth0"))).await.unwrap();
        server.stop().await;

        let range = "--dhcp-range=10.0.0.60,10.0.0.60,255.255.255.0,120s";
        let mut server = far.dhcp_server("eth0", "10.0.0.1/24", &[range]).await;
        let due = aged(&first, |lease| lease.renew_after = Duration::ZERO);
        let second = kept(due, root.path()).await;
        server.says("DHCPNAK").await;
        assert_eq!(terms(&second), ([10, 0, 0, 60].into(), [10, 0, 0, 1].into()));
        assert_eq!(addresses(), ["eth0 10.0.0.60/24"]);
        server.stop().await;

        let range = "--dhcp-range=10.1.0.70,10.1.0.70,255.255.255.0,120s";
        let _server = far.dhcp_server("eth0", "10.1.0.1/24", &[range]).await;
        let over = aged(&second, |lease| lease.expires_after = Duration::ZERO);
        let third = kept(over, root.path()).await;
        assert_eq!(terms(&third), ([10, 1, 0, 70].into(), [10, 1, 0, 1].into()));
        assert_eq!(addresses(), ["eth0 10.1.0.70/24"]);
        assert_eq!(default_routes(), "default via 10.1.0.1 dev eth0");
    });
}
