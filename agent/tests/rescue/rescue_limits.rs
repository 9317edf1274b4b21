//! What clients with a good key cannot do either.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use russh::ChannelMsg;
use russh::client;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{Bounded, Server};

fn pause() {
    std::thread::park_timeout(Duration::from_millis(100));
}

#[test]
fn the_eleventh_login_is_refused_until_another_ends() {
    let server = Server::start("");
    let mut sessions: Vec<_> = (0..10).map(|_| server.converse("echo in; read word")).collect();
    assert!(sessions.iter().all(|(_, _, line)| line == "in\n"));
    assert_eq!(server.ssh().arg("true").code(), Some(255));
    server.logged("refused: too many are logged in");
    let (mut first, _, _) = sessions.remove(0);
    drop(first.stdin.take());
    first.wait().unwrap();
    assert!((0..100).any(|_| {
        pause();
        server.ssh().arg("true").code() == Some(0)
    }));
}

/// How much the process has written, once it writes no more.
fn written_in_the_end(process: &str) -> String {
    let written = || {
        pause();
        fs::read_to_string(format!("/proc/{process}/io")).unwrap()
    };
    let mut before = written();
    for _ in 0..600 {
        let now = written();
        if now == before {
            return now;
        }
        before = now;
    }
    unreachable!("it still writes: {before}")
}

#[test]
fn output_that_a_client_does_not_take_stays_with_its_program() {
    let server = Server::start("");
    let (mut ssh, _output, line) = server.converse("echo $PPID $$; exec cat /dev/zero");
    let (connection, program) = line.trim().split_once(' ').unwrap();
    written_in_the_end(program);
    let status = fs::read_to_string(format!("/proc/{connection}/status")).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = most.split_whitespace().next().unwrap().parse().unwrap();
    // A debug build with its 10 MiB of code, and what waits for the client.
    assert!(kib < 40 * 1024, "{kib} KiB");
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    server.logged("logged out");
}

/// A client that grants more than the kernel buffers, and then takes nothing.
#[tokio::test]
async fn a_client_that_takes_nothing_of_what_it_has_granted_is_given_up() {
    let server = Server::start_with("", &["--patience", "10"]);
    let config = client::Config { window_size: 1 << 30, ..client::Config::default() };
    let address = ("127.0.0.1", server.port);
    let mut client = client::connect(Arc::new(config), address, AnyServer).await.unwrap();
    let key = Arc::new(PrivateKey::from_openssh(server.read("key")).unwrap());
    let key = PrivateKeyWithHashAlg::new(key, None);
    assert!(client.authenticate_publickey("root", key).await.unwrap().success());
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "cat /dev/zero").await.unwrap();
    while !matches!(channel.wait().await.unwrap(), ChannelMsg::Data { .. }) {}
    // Nothing of the client runs from here on: this waits without its runtime.
    server.logged("logged out");
}

struct AnyServer;

impl client::Handler for AnyServer {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

#[test]
fn a_client_that_is_silent_is_given_up_whether_it_is_sent_anything_or_not() {
    for program in ["echo in; exec sleep 1000", "echo in; exec cat /dev/zero"] {
        let server = Server::start_with("", &["--patience", "10"]);
        let (mut ssh, mut output, line) = server.converse(program);
        assert_eq!(line, "in\n");
        kill_process(Pid::from_child(&ssh), Signal::STOP).unwrap();
        server.logged("logged out");
        ssh.kill().unwrap();
        ssh.wait().unwrap();
        // Ends, as nobody holds the other end any more.
        output.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn a_connection_is_idle_only_as_long_as_nothing_runs_in_it() {
    let server = Server::start_with("", &["--idle", "1"]);
    // Silent, and longer than a connection may be idle.
    assert_eq!(server.ssh().arg("sleep 3; exit 7").code(), Some(7));
    assert!(!server.log().contains("nothing runs here"), "{}", server.log());
    let mut ssh = server.ssh();
    let mut nothing = ssh.arg("-N").start();
    server.logged("logged out: nothing runs here");
    assert_eq!(nothing.wait().unwrap().code(), Some(255));
}
