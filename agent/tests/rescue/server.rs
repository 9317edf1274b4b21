//! A rescue role to test, and clients for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// How long anything may take before a test fails; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_agent");

/// What clients are told that the server is called.
pub(crate) const NAME: &str = "192.168.0.2";

pub(crate) struct Server {
    pub(crate) root: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) process: Child,
    log: Arc<Mutex<String>>,
    lines: Receiver<()>,
}

impl Server {
    /// One that lets the key `key` in, with these words before it.
    pub(crate) fn start(options: &str) -> Self {
        Self::start_with(options, &[])
    }

    pub(crate) fn start_with(options: &str, arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        make_key(&root.path().join("key"), &["-t", "ed25519"]);
        let mut server = Self::run(root, arguments);
        server.authorize(&format!("{options} {}", server.read("key.pub")));
        server.port = server.wait_for_port();
        let known_hosts = server.logged("known_hosts: ");
        fs::write(server.path("known_hosts"), known_hosts).unwrap();
        server
    }

    fn run(root: tempfile::TempDir, arguments: &[&str]) -> Self {
        // As from a script's background: its programs must hear their terminal all the same.
        let mut agent = Command::new("env");
        agent.args(["--ignore-signal=HUP,INT,QUIT,TSTP", AGENT]);
        agent.args(["rescue", "--listen", "127.0.0.1:0", "--name", NAME, "--root"]);
        agent.arg(root.path()).args(arguments);
        Self::from_command(root, &mut agent)
    }

    /// One that this command starts.
    pub(crate) fn from_command(root: tempfile::TempDir, command: &mut Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                writer.lock().unwrap().push_str(&(line + "\n"));
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        Self { root, port: 0, process, log, lines }
    }

    fn wait_for_port(&self) -> u16 {
        let address = self.logged("listening on ");
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The same so that nobody sees half of it.
    pub(crate) fn put(&self, name: &str, text: &str) {
        self.write("put", text);
        fs::rename(self.path("put"), self.path(name)).unwrap();
    }

    /// Starts a client whose program says a line, and returns it.
    pub(crate) fn converse(&self, program: &str) -> (Child, BufReader<ChildStdout>, String) {
        let mut ssh = self.ssh();
        let mut child = ssh.arg(program).stdin(Stdio::piped()).stdout(Stdio::piped()).start();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        (child, output, line)
    }

    /// Makes these the only keys.
    pub(crate) fn authorize(&self, lines: &str) {
        self.write("root/.ssh/authorized_keys", lines);
    }

    /// The rest of the first line of the log that has this in it; waits for it.
    pub(crate) fn logged(&self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log.lock().unwrap().clone();
            let rest = log.split_once(what).map(|(_, rest)| rest);
            if let Some((line, _)) = rest.and_then(|rest| rest.split_once('\n')) {
                return line.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "\"{what}\" is not in the log:\n{log}");
            let _new_line = self.lines.recv_timeout(left.min(Duration::from_millis(100)));
        }
    }

    /// All lines so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// `ssh`, `sftp` or `scp` with the options that they share.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, path: &str| format!("{name}={}", self.path(path).display());
        command.args(["-F", "none", "-o"]).arg(format!("Port={}", self.port));
        command.arg("-o").arg(option("UserKnownHostsFile", "known_hosts"));
        command.args(["-o", "StrictHostKeyChecking=yes", "-o"]);
        command.arg(format!("HostKeyAlias={NAME}"));
        command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
        command.args(["-o", "IdentityAgent=none", "-o", "LogLevel=ERROR"]);
        command.stdin(Stdio::null());
        command
    }

    /// `ssh` with this identity.
    pub(crate) fn ssh_as(&self, identity: &str) -> Command {
        let mut command = self.client("ssh");
        command.arg("-i").arg(self.path(identity)).arg("root@127.0.0.1");
        command
    }

    /// `ssh` as the operator that may log in.
    pub(crate) fn ssh(&self) -> Command {
        self.ssh_as("key")
    }

    /// Does what `sftp` is told on its standard input.
    pub(crate) fn sftp(&self, batch: &str) -> Output {
        self.write("batch", batch);
        let mut command = self.client("sftp");
        command.arg("-i").arg(self.path("key")).arg("-b").arg(self.path("batch"));
        command.arg("root@127.0.0.1").run()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.process.kill();
        self.process.wait().unwrap();
    }
}

pub(crate) fn make_key(path: &Path, arguments: &[&str]) {
    keygen(
        Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", "test", "-f"])
            .arg(path)
            .args(arguments),
    );
}

pub(crate) fn keygen(command: &mut Command) {
    succeeds(&command.run());
}

/// Programs that end by themselves, or are ended after [`PATIENCE`]: no test hangs.
pub(crate) trait Bounded {
    /// Starts it.
    fn start(&mut self) -> Child;
    /// Lets it run to its end, and collects what it says.
    fn run(&mut self) -> Output;
    /// Lets it run to its end.
    fn code(&mut self) -> Option<i32> {
        let output = self.run();
        eprint!("{}", text(&output.stderr));
        output.status.code()
    }
}

impl Bounded for Command {
    fn start(&mut self) -> Child {
        let child = self.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        std::thread::spawn(move || end_when_patience_does(&process));
        child
    }

    fn run(&mut self) -> Output {
        self.stdout(Stdio::piped()).stderr(Stdio::piped()).start().wait_with_output().unwrap()
    }
}

fn end_when_patience_does(process: &OwnedFd) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    if matches!(rustix::event::poll(&mut ended, Some(&patience)), Ok(0)) {
        // It may end at this very moment.
        let _ended = rustix::process::pidfd_send_signal(process, Signal::KILL);
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails with what was said if the command failed.
pub(crate) fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Bytes that do not repeat and are the same in every run.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
