//! What the boot role is doing, for whoever wants to know: `/run/stage2/state.json` and
//! `/run/stage2/plan.json`.
//!
//! The boot role depends on no reader: it replaces the files atomically and goes on, also when that
//! fails. There are no secrets in them. Times are seconds since the kernel started, the clock that
//! never jumps. A boot role that replaces a dead one goes on from what that one left.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_types::exit::BootExit;
use agent_types::redact::redact;
use serde::{Deserialize, Serialize};

use crate::sys;

/// Where the state is published.
pub(crate) const DIRECTORY: &str = "/run/stage2";

const STATE: &str = "state.json";
const PLAN: &str = "plan.json";

/// Changes when a reader of an older version would misunderstand the file.
const VERSION: u32 = 1;

/// What the boot role is doing. A member that a version does not know is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// The version of this format.
    pub(crate) version: u32,
    /// The boot role's process; it may have ended since.
    pub(crate) pid: u32,
    /// The step, as it was announced to PID 1.
    pub(crate) phase: String,
    /// When it began.
    pub(crate) phase_since_s: u64,
    /// How many attempts have begun, this one included.
    pub(crate) attempt: u32,
    /// Why the last attempt, or the last wait for the network, failed.
    pub(crate) last_error: Option<Failure>,
    /// When the next attempt begins, in a pause.
    pub(crate) next_try_s: Option<u64>,
    /// The interface that leads to the boot server.
    pub(crate) interface: Option<String>,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// One line.
    pub(crate) message: String,
    /// When.
    pub(crate) at_s: u64,
}

impl State {
    /// What was published last.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let text = fs::read(directory.join(STATE))?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }

    /// How the boot went, if it is over.
    pub(crate) fn over(&self) -> Option<BootExit> {
        BootExit::ALL.into_iter().find(|exit| last_phase(*exit) == self.phase)
    }

    fn begin(former: Option<Self>, pid: u32, now_s: u64) -> Self {
        let died = |former: &Self| !former.phase.is_empty() && former.over().is_none();
        let mut state = former.unwrap_or_default();
        if died(&state) {
            let message = format!("the boot role died in: {}", state.phase);
            state.last_error = Some(Failure { message, at_s: now_s });
        }
        Self { version: VERSION, pid, phase_since_s: now_s, next_try_s: None, ..state }
    }

    fn step(&mut self, name: &str, now_s: u64) {
        if self.phase != name {
            name.clone_into(&mut self.phase);
            self.phase_since_s = now_s;
        }
        self.next_try_s = None;
    }
}

/// What operators read when the boot role is through.
fn last_phase(exit: BootExit) -> &'static str {
    match exit {
        BootExit::Done => "done",
        BootExit::GaveUp => "gave up",
        BootExit::NothingToDo => "nothing to do",
        BootExit::NeedsOperator => "needs an operator",
        BootExit::Restart => "restarting",
    }
}

/// Where the boot role writes its state, or nowhere.
#[derive(Debug, Default)]
pub(crate) struct Board {
    directory: Option<PathBuf>,
    state: RefCell<State>,
}

impl Board {
    /// Nothing is published.
    pub(crate) fn nowhere() -> Self {
        Self::default()
    }

    /// Publishes in this directory from now on.
    pub(crate) fn open(directory: &Path) -> Self {
        if let Err(error) = fs::create_dir_all(directory) {
            log::debug!("cannot make {}: {error}", directory.display());
        }
        let former = State::read(directory).ok();
        let state = State::begin(former, std::process::id(), now_s());
        Self { directory: Some(directory.to_owned()), state: RefCell::new(state) }
    }

    /// A step begins, or goes on.
    pub(crate) fn step(&self, name: &str) {
        self.change(|state| state.step(name, now_s()));
    }

    /// The boot is over.
    pub(crate) fn over(&self, exit: BootExit) {
        self.step(last_phase(exit));
    }

    /// A pause begins; the next attempt is after it.
    pub(crate) fn pause(&self, length: std::time::Duration) {
        self.change(|state| {
            state.step("pause", now_s());
            state.next_try_s = Some(now_s() + length.as_secs());
        });
    }

    /// Another attempt begins.
    pub(crate) fn attempt(&self) {
        self.change(|state| state.attempt += 1);
    }

    /// An attempt has failed.
    pub(crate) fn failed(&self, reason: &str) {
        let failure = Failure { message: redact(reason), at_s: now_s() };
        self.change(|state| state.last_error = Some(failure));
    }

    /// The network is up.
    pub(crate) fn network(&self, interface: &str) {
        self.change(|state| state.interface = Some(interface.to_owned()));
    }

    /// The boot document as far as it is evaluated, without its secrets.
    pub(crate) fn plan(&self, plan: &str) {
        self.publish(PLAN, plan.as_bytes());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.borrow_mut());
        match serde_json::to_vec(&*self.state.borrow()) {
            Ok(text) => self.publish(STATE, &text),
            Err(error) => log::debug!("cannot write the state as JSON: {error}"),
        }
    }

    fn publish(&self, name: &str, contents: &[u8]) {
        let Some(directory) = &self.directory else { return };
        let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
        if let Err(error) = fs::write(&new, contents).and_then(|()| fs::rename(&new, &path)) {
            log::debug!("cannot write {}: {error}", path.display());
        }
    }
}

/// The boot document that was evaluated last, without its secrets.
pub(crate) fn read_plan(directory: &Path) -> io::Result<String> {
    fs::read_to_string(directory.join(PLAN))
}

/// Seconds since the kernel started.
pub(crate) fn now_s() -> u64 {
    sys::uptime().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_rest(state: State) -> State {
        let last_error = state.last_error.map(|failure| Failure { at_s: 0, ..failure });
        let next_try_s = state.next_try_s.map(|_| 0);
        State { phase_since_s: 0, next_try_s, last_error, ..state }
    }

    fn state(phase: &str) -> State {
        let (version, pid) = (VERSION, std::process::id());
        State { version, pid, phase: phase.to_owned(), ..State::default() }
    }

    fn failure(message: &str) -> Option<Failure> {
        Some(Failure { message: message.to_owned(), at_s: 0 })
    }

    #[test]
    fn every_change_can_be_read_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let board = Board::open(&directory.path().join("stage2"));
        let read = || at_rest(State::read(&directory.path().join("stage2")).unwrap());
        board.step("network");
        assert_eq!(read(), state("network"));
        board.network("eth0");
        board.attempt();
        board.failed("https://boot/v1/boot/h/s3cr3t/stage2: HTTP 500");
        board.pause(std::time::Duration::from_secs(10));
        let expected = State {
            attempt: 1,
            interface: Some("eth0".to_owned()),
            last_error: failure("https://boot/v1/boot/h/…/stage2: HTTP 500"),
            next_try_s: Some(0),
            ..state("pause")
        };
        assert_eq!(read(), expected);
        board.step("report");
        assert_eq!(read(), State { next_try_s: None, phase: "report".to_owned(), ..expected });
    }

    #[test]
    fn a_new_boot_role_tells_where_the_former_one_died() {
        for (phase, expected) in [
            ("fetch", failure("the boot role died in: fetch")),
            ("done", None),
            ("nothing to do", None),
            ("", None),
        ] {
            let former = State { attempt: 2, ..state(phase) };
            let now = State::begin(Some(former.clone()), former.pid, 0);
            assert_eq!(now, State { last_error: expected, ..former }, "{phase}");
        }
    }

    #[test]
    fn nobody_can_keep_the_boot_role_from_going_on() {
        Board::nowhere().step("network");
        Board::open(Path::new("/proc/no/such")).step("network");
    }

    #[test]
    fn a_file_of_another_version_can_still_be_read() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(STATE), r#"{"version": 2, "phase": "x", "new": 1}"#)
            .unwrap();
        let expected = State { version: 2, phase: "x".to_owned(), ..State::default() };
        assert_eq!(State::read(directory.path()).unwrap(), expected);
    }
}
