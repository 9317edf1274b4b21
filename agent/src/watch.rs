//! The deadline between *init* and *boot*.
//!
//! Before each step the boot role says by when it will speak again: `<seconds> <step>\n` into a
//! pipe whose number is in [`VARIABLE`]. PID 1 replaces a boot role that misses its own deadline.
//! A boot role that is through and stays for the network or for keys says `over <exit code>\n`.
//! The same steps are published for operators on a [`Board`].

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::time::Duration;

use agent_types::exit::BootExit;
use rustix::io::FdFlags;
use rustix::pipe::PipeFlags;

use crate::state::Board;
use crate::sys;

/// Names the pipe's writing end in the boot role's environment. Commands must not inherit it.
pub(crate) const VARIABLE: &str = "STAGE2_WATCH_FD";

/// No announcement is longer; more without a newline is noise.
const LONGEST_ANNOUNCEMENT: usize = 1024;

/// What PID 1 waits longer than the boot role does itself.
pub(crate) const MARGIN: Duration = Duration::from_secs(60);

/// An operator may come next week, or next year.
pub(crate) const FOR_AN_OPERATOR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The boot role's end. Without PID 1 on the other end and without a board it does nothing.
#[derive(Debug)]
pub(crate) struct Watch {
    pipe: Option<std::fs::File>,
    /// What comes now is after the end of the boot, and has no deadline.
    is_over: Cell<bool>,
    /// What operators see.
    pub(crate) board: Board,
}

impl Watch {
    /// Takes the pipe that PID 1 left open; call it first thing in the role.
    pub(crate) fn from_env() -> Self {
        let number = std::env::var(VARIABLE).ok().and_then(|number| number.parse().ok());
        let pipe = number.and_then(sys::inherited_pipe).and_then(private).map(Into::into);
        Self { pipe, is_over: Cell::new(false), board: Board::nowhere() }
    }

    /// Announces into a pipe of [`Announcements`].
    #[cfg(test)]
    pub(crate) fn into(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe.into()), is_over: Cell::new(false), board: Board::nowhere() }
    }

    /// Publishes each step on this board too.
    pub(crate) fn on(self, board: Board) -> Self {
        Self { board, ..self }
    }

    /// Announces a step: the next announcement comes within `limit`, or PID 1 starts over.
    pub(crate) fn step(&self, name: &str, limit: Duration) {
        if !self.is_over.get() {
            self.board.step(name);
            self.announce(name, limit);
        }
    }

    /// Announces a pause of this length before the next attempt; it may last until `limit`.
    pub(crate) fn pause(&self, length: Duration, limit: Duration) {
        self.board.pause(length);
        self.announce("pause", limit);
    }

    /// Says how the boot went, from a role that stays: what it does from now on has no deadline, and
    /// PID 1 does not start it again. Said twice it counts once.
    pub(crate) fn over(&self, exit: BootExit) {
        if !self.is_over.replace(true) {
            self.board.over(exit);
            self.say(&Word::Over(exit));
        }
    }

    /// Steps have deadlines again.
    pub(crate) fn begin_anew(&self) {
        self.is_over.set(false);
    }

    fn announce(&self, name: &str, limit: Duration) {
        self.say(&Word::Step(Announcement { step: name.to_owned(), limit }));
    }

    fn say(&self, word: &Word) {
        let Some(pipe) = &self.pipe else { return };
        if let Err(error) = (&mut &*pipe).write_all(word.to_string().as_bytes()) {
            log::debug!("cannot tell PID 1 {word:?}: {error}");
        }
    }
}

/// Keeps the pipe from our own children, and PID 1 from holding us up.
fn private(pipe: OwnedFd) -> Option<OwnedFd> {
    rustix::io::fcntl_setfd(&pipe, FdFlags::CLOEXEC).ok()?;
    rustix::io::ioctl_fionbio(&pipe, true).ok()?;
    Some(pipe)
}

/// What the boot role says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// It begins a step.
    Step(Announcement),
    /// It is through, as with this exit code, and stays for the network or for keys.
    Over(BootExit),
}

/// What the boot role says it is going to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// What it does now.
    pub(crate) step: String,
    /// It speaks again within this time.
    pub(crate) limit: Duration,
}

/// A line that is no such word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected \"<seconds> <step>\" or \"over <exit code>\", got {0:?}")]
pub(crate) struct ParseWordError(String);

/// What an exit code follows.
const OVER: &str = "over";

impl FromStr for Word {
    type Err = ParseWordError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let word = line.split_once(' ').and_then(|(first, rest)| match first {
            OVER => Some(Self::Over(rest.parse::<i32>().ok()?.try_into().ok()?)),
            seconds => {
                let limit = Duration::from_secs(seconds.parse().ok()?);
                let step = Some(rest.trim()).filter(|step| !step.is_empty())?.to_owned();
                Some(Self::Step(Announcement { step, limit }))
            }
        });
        word.ok_or_else(|| ParseWordError(line.to_owned()))
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step(announcement) => announcement.fmt(f),
            Self::Over(exit) => writeln!(f, "{OVER} {}", exit.code()),
        }
    }
}

impl std::fmt::Display for Announcement {
    /// A part of a second counts as a whole one: the deadline must not come early.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.limit.as_secs() + u64::from(self.limit.subsec_nanos() > 0);
        writeln!(f, "{seconds} {}", self.step.replace('\n', " "))
    }
}

/// PID 1's end: what has been announced since the last look.
#[derive(Debug)]
pub(crate) struct Announcements {
    pipe: std::fs::File,
    unfinished: Vec<u8>,
    open: bool,
}

impl Announcements {
    /// Makes a pipe; the second value is for the boot role, which inherits it.
    pub(crate) fn open() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        rustix::io::fcntl_setfd(&writer, FdFlags::empty())?;
        Ok((Self { pipe: reader.into(), unfinished: Vec::new(), open: true }, writer))
    }

    /// Reads what is there without waiting.
    pub(crate) fn read(&mut self) -> Vec<Result<Word, ParseWordError>> {
        let mut buffer = [0; 4096];
        if let Ok(count) = self.pipe.read(&mut buffer) {
            self.open = count > 0;
            self.unfinished.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        take_lines(&mut self.unfinished).iter().map(|line| line.parse()).collect()
    }

    /// Whether more can come: the boot role still has its end.
    pub(crate) fn are_open(&self) -> bool {
        self.open
    }
}

impl AsFd for Announcements {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Removes all complete lines.
fn take_lines(unfinished: &mut Vec<u8>) -> Vec<String> {
    let complete = unfinished.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines: Vec<u8> = unfinished.drain(..complete).collect();
    if unfinished.len() > LONGEST_ANNOUNCEMENT {
        unfinished.clear();
    }
    String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Watch {
        Watch { pipe: None, is_over: Cell::new(false), board: Board::nowhere() }
    }

    fn step(seconds: u64, step: &str) -> Word {
        let limit = Duration::from_secs(seconds);
        Word::Step(Announcement { step: step.to_owned(), limit })
    }

    #[test]
    fn pid_1_hears_what_the_boot_role_announces() {
        let (mut announcements, writer) = Announcements::open().unwrap();
        let watch = Watch::into(writer);
        watch.step("network", Duration::from_millis(120_001));
        watch.step("fetch\nkernel", Duration::from_secs(30));
        watch.over(BootExit::NothingToDo);
        watch.step("report", Duration::from_secs(30));
        watch.over(BootExit::NothingToDo);
        assert_eq!(
            announcements.read(),
            [
                Ok(step(121, "network")),
                Ok(step(30, "fetch kernel")),
                Ok(Word::Over(BootExit::NothingToDo))
            ]
        );
        watch.begin_anew();
        watch.step("network", Duration::from_secs(60));
        assert_eq!(announcements.read(), [Ok(step(60, "network"))]);
        assert!(announcements.are_open());
        drop(watch);
        assert_eq!(announcements.read(), []);
        assert!(!announcements.are_open());
    }

    #[test]
    fn a_boot_role_without_pid_1_announces_to_nobody() {
        nobody().step("network", Duration::from_secs(1));
    }

    #[test]
    fn what_is_not_an_announcement_is_refused() {
        let steps = ["", "30", "30 ", "soon network", "-1 network", "1.5 network"];
        for line in steps.into_iter().chain(["over", "over ", "over 1", "over it"]) {
            assert_eq!(line.parse::<Word>(), Err(ParseWordError(line.to_owned())), "{line:?}");
        }
    }

    #[test]
    fn half_a_line_waits_for_its_other_half_and_noise_is_dropped() {
        let mut unfinished = b"1 a\n2 b\n3".to_vec();
        assert_eq!(take_lines(&mut unfinished), ["1 a", "2 b"]);
        unfinished.extend_from_slice(b" c\n");
        assert_eq!(take_lines(&mut unfinished), ["3 c"]);
        unfinished.extend_from_slice(&[b'x'; LONGEST_ANNOUNCEMENT + 1]);
        assert_eq!(take_lines(&mut unfinished), Vec::<String>::new());
        assert_eq!(unfinished, Vec::<u8>::new());
    }
}
