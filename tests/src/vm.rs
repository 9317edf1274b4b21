//! A running machine in QEMU. It ends when dropped, or when the program that started it dies.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::console::{Console, Error, Found};
use crate::machine::{CONTROL, Machine, SECOND_SERIAL};
use crate::qmp::{self, Qmp};
use crate::server::{BootServer, RequestLog};

/// Chooses another accelerator than pure emulation, such as `kvm`.
pub const ACCELERATOR: &str = "STAGE2_TEST_ACCEL";

/// A running machine.
pub struct Vm {
    qemu: Child,
    keyboard: ChildStdin,
    /// What it says on its first serial port.
    pub console: Console,
    /// What it says on its second serial port, if it has one.
    pub second_console: Option<Console>,
    complaints: Arc<Mutex<String>>,
    /// Holds the control socket.
    directory: tempfile::TempDir,
    started: Instant,
    asked: Option<RequestLog>,
}

impl Vm {
    /// Starts a machine in the network namespace of the calling thread.
    pub fn start(machine: &Machine) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let accelerator = std::env::var(ACCELERATOR).unwrap_or_else(|_| "tcg".to_owned());
        let started = Instant::now();
        // A machine must not outlive the test that started it, even one that was killed.
        let mut qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
            .args(machine.arguments(&accelerator, directory.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-x86_64 by setpriv")?;
        let (Some(keyboard), Some(screen), Some(stderr)) =
            (qemu.stdin.take(), qemu.stdout.take(), qemu.stderr.take())
        else {
            bail!("QEMU has no pipes");
        };
        let console = Console::read(screen, started)?;
        let complaints = collect(stderr)?;
        let mut vm = Self {
            qemu,
            keyboard,
            console,
            second_console: None,
            complaints,
            directory,
            started,
            asked: None,
        };
        if machine.second_serial {
            vm.second_console = Some(vm.listen(SECOND_SERIAL)?);
        }
        Ok(vm)
    }

    /// Shows this server's log too when something is missing on the console.
    #[must_use]
    pub fn asking(mut self, server: &BootServer) -> Self {
        self.asked = Some(server.log().clone());
        self
    }

    /// When the machine was switched on.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// QEMU's process, for measuring.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.qemu.id()
    }

    /// Waits for `text` on the console.
    pub fn expect(&mut self, text: &str) -> anyhow::Result<Found> {
        let found = self.console.expect(text);
        self.explain(found)
    }

    /// Waits for `text` on the console for so long.
    pub fn expect_within(&mut self, bound: Duration, text: &str) -> anyhow::Result<Found> {
        let found = self.console.expect_within(bound, text);
        self.explain(found)
    }

    /// Waits for each of `texts` on the console, one after the other.
    pub fn expect_in_order(&mut self, texts: &[&str]) -> anyhow::Result<Vec<Found>> {
        let found = self.console.expect_in_order(texts);
        self.explain(found)
    }

    /// Holds if the console has shown no line with `text` so far.
    pub fn has_no(&self, text: &str) -> anyhow::Result<()> {
        self.explain(self.console.has_no(text))
    }

    /// Waits until the machine has ended by itself.
    pub fn wait_exit(&mut self, bound: Duration) -> anyhow::Result<ExitStatus> {
        if !self.console.closes_within(bound) {
            bail!("expected the machine to end within {bound:?}\n{}", self.evidence());
        }
        Ok(self.qemu.wait()?)
    }

    /// Types a line on the serial console.
    pub fn type_line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.keyboard, "{line}")?;
        Ok(self.keyboard.flush()?)
    }

    /// Opens QEMU's control socket.
    pub fn control(&self) -> anyhow::Result<Qmp> {
        Qmp::connect(&self.control_socket())
    }

    /// What is known about the machine, for an operator who wants to know what went wrong.
    #[must_use]
    pub fn evidence(&self) -> String {
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let asked = self.asked.as_ref().map(ToString::to_string).unwrap_or_default();
        format!(
            "── the console's last lines ──\n{}\n── QEMU's own words ──\n{complaints}\
             ── requests at the boot server ──\n{asked}",
            self.console.tail()
        )
    }

    fn control_socket(&self) -> PathBuf {
        self.directory.path().join(CONTROL)
    }

    /// Listens to a serial port that is a socket.
    fn listen(&self, socket: &str) -> anyhow::Result<Console> {
        let port = qmp::connect(&self.directory.path().join(socket));
        let port =
            port.with_context(|| format!("cannot reach the {socket}\n{}", self.evidence()))?;
        Ok(Console::read(port, self.started)?)
    }

    fn explain<T>(&self, result: Result<T, Error>) -> anyhow::Result<T> {
        result.map_err(|error| anyhow::anyhow!("{error}\n{}", self.evidence()))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if let Err(error) = self.qemu.kill().and_then(|()| self.qemu.wait()) {
            eprintln!("vmtest: cannot end QEMU: {error}");
        }
    }
}

/// Collects what QEMU says on standard error.
fn collect(stderr: impl std::io::Read + Send + 'static) -> std::io::Result<Arc<Mutex<String>>> {
    let complaints = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&complaints);
    std::thread::Builder::new().name("qemu-stderr".to_owned()).spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut text = writer.lock().unwrap_or_else(PoisonError::into_inner);
            *text += &line;
            *text += "\n";
        }
    })?;
    Ok(complaints)
}
