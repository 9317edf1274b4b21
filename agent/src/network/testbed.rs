//! A machine's network to try things on: a namespace for the machine, another one for the switch
//! and the servers, and veth pairs between them.
//!
//! Nothing is simulated: the kernel's own links, addresses and routes, and dnsmasq.

use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// Set for the copy of the test program that runs inside.
const INSIDE: &str = "STAGE2_TEST_NAMESPACE";

/// No test takes a second unless something hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test's body in network and host name namespaces of its own; as root, or as anybody where
/// user namespaces are allowed.
///
/// The test program starts itself anew for this one test: threads cannot share a namespace that
/// one of them makes.
pub(super) fn isolated<Body: AsyncFnOnce()>(body: Body) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(LIMIT, body()).await.unwrap() });
        return;
    }
    let mut unshare = StdCommand::new("unshare");
    unshare.args(["--net", "--uts"]);
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    let program = std::env::current_exe().unwrap();
    run(unshare
        .arg(program)
        .args([test_name::<Body>(), "--exact", "--nocapture"])
        .env(INSIDE, "1"));
}

/// The test in which the closure `Body` was written, as the test program calls it.
fn test_name<Body>() -> &'static str {
    let path = std::any::type_name::<Body>();
    let (_crate, path) = path.split_once("::").unwrap();
    path.trim_end_matches("::{{closure}}")
}

/// Runs `ip` with these words and returns what it prints.
pub(super) fn ip(words: &str) -> String {
    run(StdCommand::new("ip").args(words.split_whitespace()))
}

fn run(command: &mut StdCommand) -> String {
    let output = command.output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {stdout}\n{stderr}");
    stdout.trim_end().to_owned()
}

/// The other end of the cables.
pub(super) struct Far {
    /// Keeps the namespace alive: ends when this program does.
    holder: Child,
}

impl Far {
    pub(super) async fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo here; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = holder.stdout.take().unwrap();
        let line = BufReader::new(stdout).lines().next_line().await.unwrap();
        assert_eq!(line.as_deref(), Some("here"));
        Self { holder }
    }

    fn pid(&self) -> u32 {
        self.holder.id().unwrap()
    }

    /// Lays a cable from the machine's interface `name` to the far end's of the same name.
    pub(super) fn cable(&self, name: &str) {
        ip(&format!("link add {name} type veth peer name {name} netns {}", self.pid()));
    }

    /// The far end of the cable gets ready: the machine sees a carrier when its own end is up.
    pub(super) fn plug(&self, name: &str) {
        self.ip(&format!("link set {name} up"));
    }

    /// A cable to a port that is ready.
    pub(super) fn link(&self, name: &str) {
        self.cable(name);
        self.plug(name);
    }

    /// Runs `ip` at the far end.
    pub(super) fn ip(&self, words: &str) -> String {
        run(StdCommand::new("nsenter")
            .args([&format!("--net=/proc/{}/ns/net", self.pid()), "ip"])
            .args(words.split_whitespace()))
    }

    /// Starts a DHCP server at the far end of `name`, with the address `own` and these options.
    pub(super) async fn dhcp_server(&self, name: &str, own: &str, options: &[&str]) -> DhcpServer {
        self.ip(&format!("address flush dev {name}"));
        self.ip(&format!("address add {own} dev {name}"));
        let mut child = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.pid()))
            .args(["setpriv", "--pdeathsig", "KILL", "dnsmasq", "--no-daemon"])
            .args(["--conf-file=/dev/null", "--port=0", "--no-ping", "--dhcp-authoritative"])
            .args(["--leasefile-ro", "--log-dhcp", "--bind-interfaces"])
            .arg(format!("--interface={name}"))
            .args(options)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut server = DhcpServer { child, log };
        server.says("IP range").await;
        server
    }
}

/// A running dnsmasq.
pub(super) struct DhcpServer {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl DhcpServer {
    /// Waits for a line of its log with these words.
    pub(super) async fn says(&mut self, words: &str) -> String {
        let mut seen = Vec::new();
        while let Some(line) = self.log.next_line().await.unwrap() {
            if line.contains(words) {
                return line;
            }
            seen.push(line);
        }
        panic!("dnsmasq ended without saying {words:?}: {seen:#?}");
    }

    pub(super) async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}
