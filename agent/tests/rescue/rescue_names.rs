//! How operators learn which machine this is.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;

use crate::server::{AGENT, Bounded, NAME, Server, make_key, succeeds};

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

/// One line of known_hosts for a key that was made by ssh-keygen.
fn line_of(server: &Server, key: &str) -> String {
    let public = server.read(&format!("{key}.pub"));
    public.trim_end().strip_suffix(" test").unwrap().to_owned()
}

#[test]
fn a_host_key_of_a_boot_document_is_the_next_clients_and_is_told_again() {
    let server = Server::start("");
    let first = server.read("known_hosts");
    let (mut session, mut output, line) = server.converse("echo in; read word; echo $word");
    assert_eq!(line, "in\n");
    make_key(&server.path("fleet"), &["-t", "ed25519"]);
    server.put("run/stage2/document/ssh_host_ed25519_key", &server.read("fleet"));
    server.logged(&format!("known_hosts: {NAME} {}", line_of(&server, "fleet")));
    assert!(server.ssh().arg("true").code() != Some(0), "it is not the machine that we know");
    server.write("known_hosts", &format!("{NAME} {}\n", line_of(&server, "fleet")));
    succeeds(&server.ssh().arg("true").run());
    session.stdin.take().unwrap().write_all(b"alive\n").unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "alive\n", "a session that has begun goes on");
    session.wait().unwrap();
    fs::remove_file(server.path("run/stage2/document/ssh_host_ed25519_key")).unwrap();
    server.write("known_hosts", &first);
    assert!((0..1000).any(|_| server.ssh().arg("true").code() == Some(0)), "the first one again");
}

#[test]
fn a_host_key_that_cannot_be_used_locks_nobody_out() {
    let server = Server::start("");
    make_key(&server.path("rsa"), &["-t", "rsa"]);
    server.put("run/stage2/document/ssh_host_ed25519_key", &server.read("rsa"));
    server.logged("expected an ed25519 key without a passphrase");
    succeeds(&server.ssh().arg("true").run());
}
