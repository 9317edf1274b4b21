//! Collects processes that have ended, and kills what a role leaves behind.

use std::fmt;
use std::fs;
use std::path::Path;

use nix::sys::signal::Signal as Named;
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus};

use crate::sys::{Signal, System, Target};

/// A flasher, as the kernel names its process; it tells how it went. What it starts has other names.
const FLASHER_NAME: &str = "flasher";

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It returned this status.
    Exit(i32),
    /// This signal ended it.
    Signal(i32),
}

impl From<WaitStatus> for End {
    fn from(status: WaitStatus) -> Self {
        match status.terminating_signal() {
            Some(signal) => Self::Signal(signal),
            None => Self::Exit(status.exit_status().unwrap_or_default()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit status {status}"),
            Self::Signal(number) => match Named::try_from(*number) {
                Ok(named) => write!(f, "signal {number} ({named})"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// One look for an ended child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// This process has ended and is collected now.
    Ended(u32, End),
    /// There are children, and all of them run.
    AllRun,
    /// There are no children.
    Alone,
}

/// Collects one ended child, a role's or an orphan, without waiting.
pub(crate) fn look() -> Look {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            Look::Ended(pid.as_raw_nonzero().get().unsigned_abs(), status.into())
        }
        Ok(None) => Look::AllRun,
        Err(Errno::CHILD) => Look::Alone,
        Err(_) => Look::AllRun,
    }
}

/// All children that have ended by now.
pub(crate) fn ended() -> impl Iterator<Item = (u32, End)> {
    std::iter::from_fn(|| match look() {
        Look::Ended(pid, end) => Some((pid, end)),
        Look::AllRun | Look::Alone => None,
    })
}

/// Kills every process of a session, whatever group it has moved to. Only a flasher is left alone, with
/// what it started: half of a ROM on a chip is no ROM. It holds a lock on its card, and ends by
/// itself.
pub(crate) fn kill_session(system: &mut impl System, proc: &Path, session: u32) {
    let session: Vec<_> = processes(proc).filter(|process| process.session == session).collect();
    for process in &session {
        if process.name == FLASHER_NAME {
            log::warn!("{process} goes on: it may be writing to a card");
        }
        if is_of_a_flasher(process, &session) {
            continue;
        }
        if let Err(error) = system.signal(Target::Process(process.pid), Signal::Kill) {
            // It may have ended since.
            log::debug!("cannot kill {process}: {error}");
        }
    }
}

/// One that runs: nobody can see from outside whether it writes to a card just now.
pub(crate) fn running_flasher(proc: &Path) -> Option<Process> {
    processes(proc).find(|process| process.name == FLASHER_NAME)
}

/// Whether it is one, or an offspring of one.
fn is_of_a_flasher(process: &Process, all: &[Process]) -> bool {
    let parent = |process: &&Process| all.iter().find(|other| other.pid == process.parent);
    // Numbers are used again, so the line might not end.
    let line = std::iter::successors(Some(process), parent).take(all.len());
    line.into_iter().any(|process| process.name == FLASHER_NAME)
}

/// A process as `/proc/<pid>/stat` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// Its program, cut to 15 bytes by the kernel.
    pub(crate) name: String,
    /// Who started it, or who has taken it over.
    pub(crate) parent: u32,
    /// The session that it belongs to.
    pub(crate) session: u32,
}

impl Process {
    /// None if it has ended, and only waits to be collected. The name is in parentheses and may contain
    /// some itself.
    fn parse(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let (state, numbers) = rest.split_once(' ')?;
        if matches!(state, "Z" | "X") {
            return None;
        }
        let mut numbers = numbers.split(' ').map(|number| number.parse().ok());
        let (parent, session) = (numbers.next()??, numbers.nth(1)??);
        Some(Self { pid: pid.parse().ok()?, name: name.to_owned(), parent, session })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The name of a process, for the log; it may have ended.
pub(crate) fn name(proc: &Path, pid: u32) -> String {
    let name = fs::read_to_string(proc.join(pid.to_string()).join("comm"));
    name.map_or_else(|_| "somebody".to_owned(), |name| name.trim().to_owned())
}

/// All processes that have not ended; kernel threads have session 0.
pub(crate) fn processes(proc: &Path) -> impl Iterator<Item = Process> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        Process::parse(&stat)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Call, FakeSystem};

    #[test]
    fn an_end_is_told_with_the_signals_name() {
        for (end, text) in [
            (End::Exit(2), "exit status 2"),
            (End::Signal(9), "signal 9 (SIGKILL)"),
            (End::Signal(40), "signal 40"),
        ] {
            assert_eq!(end.to_string(), text);
        }
    }

    #[test]
    fn a_program_may_have_any_name() {
        let process = |name: &str| Process { pid: 7, name: name.to_owned(), parent: 1, session: 5 };
        for (stat, expected) in [
            ("7 (boot) S 1 6 5 0 -1", Some(process("boot"))),
            ("7 (a) R 1 (b) S 1 6 5 0 -1", Some(process("a) R 1 (b"))),
            ("7 (boot) Z 1 6 5 0 -1", None),
            ("7 (boot) S 1 6", None),
            ("", None),
        ] {
            assert_eq!(Process::parse(stat), expected, "{stat}");
        }
    }

    #[test]
    fn what_a_dead_role_leaves_behind_is_killed_but_for_a_flasher_and_nothing_else() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, parent, session, name) in [
            (10, 1, 10, "boot"),
            (11, 10, 10, "x"),
            (12, 1, 12, "x"),
            (13, 2, 0, "x"),
            (14, 11, 10, "flasher"),
            (15, 14, 10, "exe"),
            (16, 15, 10, "mstflint"),
            // Who started whom is no line without an end.
            (17, 18, 10, "y"),
            (18, 17, 10, "y"),
        ] {
            let directory = proc.path().join(pid.to_string());
            fs::create_dir(&directory).unwrap();
            let stat = format!("{pid} ({name}) S {parent} {pid} {session} 0");
            fs::write(directory.join("stat"), stat).unwrap();
        }
        let mut system = FakeSystem::default();
        kill_session(&mut system, proc.path(), 10);
        system.calls.sort_by_key(|call| format!("{call:?}"));
        let kill = |pid| Call::Signal(Target::Process(pid), Signal::Kill);
        assert_eq!(system.calls, [kill(10), kill(11), kill(17), kill(18)]);
    }
}
