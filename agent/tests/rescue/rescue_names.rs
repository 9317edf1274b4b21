//! How operators learn which machine this is.

use std::process::Command;

use crate::server::{AGENT, Bounded, Server, succeeds};

/// Runs `ip` where the server is.
fn ip(server: &Server, words: &str) {
    let namespace = format!("--net=/proc/{}/ns/net", server.process.id());
    let mut nsenter = Command::new("nsenter");
    succeeds(&nsenter.args([&namespace, "ip"]).args(words.split(' ')).run());
}

#[test]
fn the_line_for_known_hosts_is_told_for_every_address_as_it_appears() {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", AGENT, "rescue", "--root"]).arg(root.path());
    let server = Server::from_command(root, &mut command);
    let fingerprint = server.logged("host key ");
    assert!(fingerprint.starts_with("SHA256:"), "{fingerprint}");
    ip(&server, "link set lo up");
    ip(&server, "link add eth0 type veth peer name eth1");
    ip(&server, "address add 192.0.2.7/24 dev eth0");
    let key = server.logged("known_hosts: 192.0.2.7 ");
    assert!(key.starts_with("ssh-ed25519 AAAA"), "{key}");
    ip(&server, "address add 2001:db8::2/64 dev eth0 nodad");
    assert_eq!(server.logged("known_hosts: 192.0.2.7,2001:db8::2 "), key);
    ip(&server, "address add 198.51.100.7/24 dev eth1");
    assert_eq!(server.logged("known_hosts: 192.0.2.7,198.51.100.7,2001:db8::2 "), key);
    assert_eq!(server.log().matches("known_hosts: ").count(), 3);
}
