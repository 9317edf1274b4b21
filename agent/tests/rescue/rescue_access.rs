//! Who gets in, and who does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use russh::Disconnect;
use russh::client::{self, AuthResult};
use russh::keys::{Certificate, PrivateKey, PublicKeyOrCertificate};

use crate::security_key::SecurityKey;
use crate::server::{Bounded, Server, keygen, make_key, succeeds, text};

#[test]
fn every_kind_of_key_logs_in() {
    let server = Server::start("");
    let table: &[(&str, &[&str], &str)] = &[
        ("ed25519", &["-t", "ed25519"], "ssh-ed25519"),
        ("p256", &["-t", "ecdsa", "-b", "256"], "ecdsa-sha2-nistp256"),
        ("p384", &["-t", "ecdsa", "-b", "384"], "ecdsa-sha2-nistp384"),
        ("p521", &["-t", "ecdsa", "-b", "521"], "ecdsa-sha2-nistp521"),
        ("rsa", &["-t", "rsa", "-b", "3072"], "rsa-sha2-256"),
        ("rsa", &[], "rsa-sha2-512"),
    ];
    for (name, arguments, algorithm) in table {
        if !arguments.is_empty() {
            make_key(&server.path(name), arguments);
        }
        server.authorize(&server.read(&format!("{name}.pub")));
        let mut ssh = server.ssh_as(name);
        ssh.arg("-o").arg(format!("PubkeyAcceptedAlgorithms={algorithm}"));
        let output = ssh.arg("echo in").run();
        assert_eq!(text(&output.stdout), "in\n", "{algorithm}: {output:?}");
        server.logged(&format!("logged in: {algorithm} SHA256:"));
    }
}

#[test]
fn a_security_key_logs_in_where_its_touch_does_not_matter() {
    let server = Server::start("");
    let key = SecurityKey::new();
    server.authorize(&format!("no-touch-required {}", key.public_line()));
    server.write("sk.pub", &key.public_line());
    fs::set_permissions(server.path("sk.pub"), fs::Permissions::from_mode(0o600)).unwrap();
    let socket = server.path("agent");
    key.clone().serve(&socket);
    // The first agent that ssh is told counts.
    let mut ssh = Command::new("ssh");
    ssh.arg("-o").arg(format!("IdentityAgent={}", socket.display()));
    ssh.args(server.ssh_as("sk.pub").get_args()).arg("echo in");
    let output = ssh.run();
    assert_eq!(text(&output.stdout), "in\n", "{output:?}");
    server.logged("logged in: sk-ssh-ed25519@openssh.com SHA256:");
    server.authorize(&key.public_line());
    assert_eq!(ssh.code(), Some(255));
    server.logged("it logs in only with no-touch-required before it in authorized_keys");
}

#[test]
fn weak_signatures_and_short_keys_are_refused() {
    let server = Server::start("");
    make_key(&server.path("rsa"), &["-t", "rsa", "-b", "1024"]);
    server.authorize(&server.read("rsa.pub"));
    let output = server.ssh_as("rsa").arg("-oRequiredRSASize=1024").arg("true").run();
    assert_eq!(output.status.code(), Some(255));
    server.logged("expected an RSA key of at least 2048 bits, got 1024");
    make_key(&server.path("rsa2"), &["-t", "rsa", "-b", "2048"]);
    server.authorize(&server.read("rsa2.pub"));
    let mut ssh = server.ssh_as("rsa2");
    assert!(ssh.arg("-oPubkeyAcceptedAlgorithms=ssh-rsa").arg("true").code() != Some(0));
}

/// Signs `user.pub` with `authority`; without one, with that of the test.
fn certify(server: &Server, authority: &str, arguments: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command.arg("-q").arg("-s").arg(server.path(authority)).args(["-I", "night shift", "-z", "7"]);
    keygen(command.args(arguments).arg(server.path("user.pub")));
}

#[test]
fn certificates_log_in_if_they_are_good_for_root_here_and_now() {
    let server = Server::start("");
    for name in ["ca", "other", "user"] {
        make_key(&server.path(name), &["-t", "ed25519"]);
    }
    server.authorize(&format!("cert-authority {}", server.read("ca.pub")));
    let refused = Some(255);
    let table: &[(&str, &[&str], Option<i32>, &str)] = &[
        (
            "ca",
            &["-n", "root"],
            Some(0),
            "certificate \"night shift\" number 7 of ssh-ed25519 SHA256:",
        ),
        ("ca", &["-n", "root,ops"], Some(0), "logged in"),
        ("ca", &["-n", "ops"], refused, "names none of the principals"),
        ("ca", &["-n", "root", "-V", "-2d:-1d"], refused, "expired"),
        ("ca", &["-n", "root", "-V", "+1d:+2d"], refused, "not yet valid"),
        ("other", &["-n", "root"], refused, "authority is not authorized"),
        (
            "ca",
            &["-n", "root", "-O", "source-address=192.0.2.0/24"],
            refused,
            "not authorized from here",
        ),
    ];
    for (authority, arguments, code, logged) in table {
        certify(&server, authority, arguments);
        let output = server.ssh_as("user").arg("true").run();
        assert_eq!(output.status.code(), *code, "{authority} {arguments:?}: {output:?}");
        server.logged(logged);
    }
}

#[test]
fn a_certificate_can_force_a_command() {
    let server = Server::start("");
    make_key(&server.path("ca"), &["-t", "ed25519"]);
    make_key(&server.path("user"), &["-t", "ed25519"]);
    server.authorize(&format!("cert-authority {}", server.read("ca.pub")));
    certify(
        &server,
        "ca",
        &["-n", "root", "-O", "force-command=echo forced $SSH_ORIGINAL_COMMAND"],
    );
    let output = server.ssh_as("user").arg("id").run();
    assert_eq!(text(&output.stdout), "forced id\n");
}

#[test]
fn keys_are_refused_for_what_their_line_says_and_the_log_tells_who_came() {
    let server = Server::start("");
    let key = server.read("key.pub");
    let table = [
        (String::new(), "this key is not authorized"),
        (format!("expiry-time=\"20200101\" {key}"), "this key has expired"),
        (format!("from=\"192.0.2.0/24\" {key}"), "this key is not authorized from here"),
        (format!("# none\nverify-required {key}"), "line 2: expected an option that we honour"),
    ];
    for (lines, logged) in table {
        server.authorize(&lines);
        assert_eq!(server.ssh().arg("true").code(), Some(255), "{lines}");
        server.logged(logged);
    }
    let from_somebody = |line: &str| {
        let address = line.split_once("ssh: ").and_then(|(_, rest)| rest.split(' ').next());
        address.is_some_and(|address| address.starts_with("127.0.0.1:"))
    };
    server.authorize(&key);
    server.write("root/.ssh/revoked_keys", &key);
    assert_eq!(server.ssh().arg("true").code(), Some(255));
    server.logged("this key is revoked");
    let log = server.log();
    let refused: Vec<_> = log.lines().filter(|line| line.contains(" refused: ")).collect();
    assert_eq!(refused.len(), 5, "{refused:?}");
    assert!(refused.iter().all(|line| from_somebody(line)), "{refused:?}");
    server.write("root/.ssh/revoked_keys", "not a key");
    assert_eq!(server.ssh().arg("true").code(), Some(255));
    server.logged("all keys are refused");
}

#[test]
fn keys_that_come_later_log_in_without_a_restart() {
    let server = Server::start("");
    make_key(&server.path("late"), &["-t", "ed25519"]);
    assert!(server.ssh_as("late").arg("true").code() != Some(0));
    for giver in ["", "parameter/", "document/"] {
        let file = format!("run/stage2/{giver}authorized_keys");
        server.write(&file, &server.read("late.pub"));
        succeeds(&server.ssh_as("late").arg("true").run());
        server.write(&file, "");
        assert!(server.ssh_as("late").arg("true").code() != Some(0), "{file}");
    }
}

#[test]
fn there_is_no_user_but_root() {
    let server = Server::start("");
    let mut ssh = server.client("ssh");
    ssh.arg("-i").arg(server.path("key")).args(["-l", "admin", "127.0.0.1", "true"]);
    assert_eq!(ssh.code(), Some(255));
    server.logged("refused: user \"admin\", ssh-ed25519 SHA256:");
}

/// A client that asks for what OpenSSH's would not after it was told that there are only keys.
struct Pushy;

impl client::Handler for Pushy {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

#[tokio::test]
async fn a_certificate_does_not_make_a_sha1_signature_good() {
    let server = Server::start("");
    make_key(&server.path("ca"), &["-t", "ed25519"]);
    make_key(&server.path("user"), &["-t", "rsa", "-b", "3072"]);
    server.authorize(&format!("cert-authority {}", server.read("ca.pub")));
    certify(&server, "ca", &["-n", "root"]);
    assert_eq!(server.ssh_as("user").arg("true").code(), Some(0), "OpenSSH signs with SHA-2");
    let key = Arc::new(PrivateKey::from_openssh(server.read("user")).unwrap());
    let certificate = Certificate::from_openssh(&server.read("user-cert.pub")).unwrap();
    let address = ("127.0.0.1", server.port);
    let mut client = client::connect(Default::default(), address, Pushy).await.unwrap();
    let result = client.authenticate_openssh_cert("root", key, certificate).await.unwrap();
    assert!(!result.success(), "{result:?}");
    server.logged("ssh-rsa signatures use SHA-1");
}

#[tokio::test]
async fn none_passwords_and_questions_are_refused() {
    let server = Server::start("");
    let address = ("127.0.0.1", server.port);
    let mut client = client::connect(Default::default(), address, Pushy).await.unwrap();
    let refused = |result: AuthResult| assert!(!result.success(), "{result:?}");
    refused(client.authenticate_none("root").await.unwrap());
    refused(client.authenticate_password("root", "").await.unwrap());
    server.logged("user \"root\", password: there are no passwords");
    let asked = client.authenticate_keyboard_interactive_start("root", None).await.unwrap();
    assert!(matches!(asked, client::KeyboardInteractiveAuthResponse::Failure { .. }), "{asked:?}");
    server.logged("user \"root\", keyboard-interactive: there are no passwords");
    client.disconnect(Disconnect::ByApplication, "", "").await.unwrap();
    // Ends with the disconnect that was asked for.
    let _end = client.await;
    server.logged("did not log in");
}

#[tokio::test]
async fn six_tries_are_all_there_are() {
    let server = Server::start("");
    let address = ("127.0.0.1", server.port);
    let mut client = client::connect(Default::default(), address, Pushy).await.unwrap();
    assert!(!client.authenticate_none("root").await.unwrap().success());
    for _ in 0..20 {
        if client.authenticate_password("root", "guess").await.is_err() {
            break;
        }
    }
    server.logged("did not log in");
    assert_eq!(server.log().matches("there are no passwords").count(), 6);
}

#[test]
fn ssh_audit_finds_no_failure() {
    let server = Server::start("");
    let port = server.port.to_string();
    let output = ssh_audit().args(["-l", "fail", "-p", &port, "127.0.0.1"]).run();
    let shown = text(&output.stdout);
    assert!(!shown.contains("[fail]"), "{shown}");
    let all = ssh_audit().args(["-p", &port, "127.0.0.1"]).run();
    assert!(text(&all.stdout).contains("(key) ssh-ed25519"), "{}", text(&all.stdout));
}

/// Debian's, by Debian's own Python, whatever else is called `python3` here.
fn ssh_audit() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("/usr/bin/ssh-audit");
    command
}
