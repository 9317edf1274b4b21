//! What hostile clients cannot do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::server::{Bounded, PATIENCE, Server, noise, text};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Four kinds of clients that never log in.
fn attack(server: &Server, kind: usize) -> TcpStream {
    let mut stream = connect(server);
    // The server may have closed the connection before we said everything; it is welcome to.
    let _said = match kind % 4 {
        0 => Ok(()),
        1 => stream.write_all(b"SSH-2.0-attacker\r\n"),
        2 => stream.write_all(&noise(4096)),
        _ => stream.write_all(b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff"),
    };
    stream
}

#[test]
fn an_operator_logs_in_while_two_hundred_hostile_connections_hang() {
    let mut server = Server::start("");
    let hostile: Vec<_> = (0..200).map(|kind| attack(&server, kind)).collect();
    for _ in 0..3 {
        let output = server.ssh().arg("echo in").run();
        assert_eq!(text(&output.stdout), "in\n", "{output:?}");
    }
    server.logged("refused: too many connections that have not logged in");
    drop(hostile);
    assert_eq!(server.process.try_wait().unwrap(), None, "the listener lives");
    assert!(server.ssh().arg("true").code() == Some(0));
}

#[test]
fn a_session_goes_on_while_others_attack() {
    let server = Server::start("");
    let mut ssh = server.ssh();
    ssh.arg("read word; echo $word").stdin(std::process::Stdio::piped());
    let mut child = ssh.stdout(std::process::Stdio::piped()).start();
    server.logged("logged in");
    let hostile: Vec<_> = (0..100).map(|kind| attack(&server, kind)).collect();
    child.stdin.take().unwrap().write_all(b"alive\n").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "alive\n");
    drop(hostile);
}

#[test]
fn one_that_does_not_log_in_in_time_is_closed() {
    let server = Server::start_with("", &["--login-grace", "1"]);
    for greeting in [&b""[..], b"SSH-2.0-slow\r\n"] {
        let mut stream = connect(&server);
        stream.write_all(greeting).unwrap();
        let mut said = Vec::new();
        // Closed, or reset because of what we had not read.
        let _end = stream.read_to_end(&mut said);
        assert!(said.starts_with(b"SSH-2.0-stage2\r\n"));
    }
    server.logged("it did not speak in time");
    server.logged("it did not log in in time");
}

#[test]
fn a_second_server_on_the_same_port_says_so_and_fails() {
    let server = Server::start("");
    let address = format!("127.0.0.1:{}", server.port);
    let mut second = Command::new(env!("CARGO_BIN_EXE_agent"));
    let output = second.args(["rescue", "--listen", &address]).run();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("Address already in use"), "{output:?}");
}

#[test]
fn the_host_key_stays_the_same_when_rescue_restarts() {
    let mut server = Server::start("");
    let before = server.logged("host key ");
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    let mut again = Command::new(env!("CARGO_BIN_EXE_agent"));
    again.args(["rescue", "--listen", "127.0.0.1:0", "--root"]).arg(server.root.path());
    let mut again = again.stderr(std::process::Stdio::piped()).start();
    let mut log = std::io::BufReader::new(again.stderr.take().unwrap());
    let mut lines = String::new();
    for _ in 0..2 {
        std::io::BufRead::read_line(&mut log, &mut lines).unwrap();
    }
    again.kill().unwrap();
    again.wait().unwrap();
    assert!(lines.contains(&before), "{lines}");
}

#[test]
fn a_flood_of_strangers_does_not_wash_the_log_away() {
    let server = Server::start("");
    for _ in 0..300 {
        let mut stream = connect(&server);
        stream.write_all(b"SSH-2.0-flood\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Closed, or reset because of what we had not read.
        let _end = stream.read_to_end(&mut Vec::new());
    }
    server.logged("too many connections: for a minute, only logins are told");
    assert_eq!(server.ssh().arg("true").code(), Some(0));
    server.logged("logged in: ssh-ed25519 SHA256:");
    let log = server.log();
    let told = log.lines().filter(|line| line.contains("did not log in")).count();
    assert!(told <= 60, "{told} lines");
}
