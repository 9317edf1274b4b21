//! What commands print, on its way to the console.
//!
//! A program that prints to a console waits until the console takes it, which may be for ever:
//! serial flow control, a terminal server that hangs. So in the machine's boot role a command
//! prints into a pipe, and the role copies that to its own standard output line by line. A console
//! that takes nothing costs [`PATIENCE`] once per command, and what it does not take is dropped.
//! For a user's terminal nothing of this holds: there a program must see that it is one.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustix::pipe::PipeFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe::Receiver;
use tokio::process::Command;

use crate::kmsg;

/// A serial line of 9600 baud, with its buffer of 4 KiB full, has room again after 4 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Less than what PID 1 waits longer for a command than we do.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// As much as a pipe holds is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Where the output of commands goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Output<'a> {
    /// Where ours goes, which the command inherits.
    Inherited,
    /// Into a pipe, from which it is copied to this file.
    Copied {
        /// A terminal or a pipe, by a name under which it can be opened again.
        to: &'a Path,
        /// How long it may take nothing.
        patience: Duration,
    },
}

impl Output<'static> {
    /// Where ours goes, without waiting for a console that takes nothing.
    pub(crate) fn of_the_machine() -> Self {
        Self::Copied { to: Path::new("/proc/self/fd/1"), patience: PATIENCE }
    }
}

/// One command's output on its way; nothing, if the command inherits ours.
#[derive(Debug)]
pub(super) struct Copying(Option<Copier>);

impl Copying {
    /// Prepares the command. It is to be dropped when it has been started: it holds the pipe open.
    pub(super) fn prepare(command: &mut Command, output: Output<'_>) -> Self {
        let Output::Copied { to, patience } = output else { return Self(None) };
        match Copier::new(command, to, patience) {
            Ok(copier) => Self(Some(copier)),
            Err(error) => {
                // Neither a terminal nor a pipe: nothing that could keep a command waiting.
                log::debug!("the command prints to {} itself: {error}", to.display());
                Self(None)
            }
        }
    }

    /// Copies what comes, for as long as it is asked to.
    pub(super) async fn go_on(&mut self) -> Infallible {
        if let Some(copier) = &mut self.0 {
            copier.copy_all().await;
        }
        std::future::pending().await
    }

    /// Copies what the command has left in the pipe, as far as time allows, and from now on beside
    /// everything else what is printed by processes that it has left running.
    pub(super) async fn finish(self) {
        let Some(mut copier) = self.0 else { return };
        if tokio::time::timeout(FINISH_LIMIT, copier.copy_rest()).await.is_err() {
            log::debug!("the console is slow: going on while it takes the rest");
        }
        tokio::spawn(async move { copier.copy_all().await });
    }
}

#[derive(Debug)]
struct Copier {
    pipe: Receiver,
    console: Console,
    /// What was read and is still to be written; nothing is lost when waiting ends early.
    pending: BytesMut,
}

impl Copier {
    /// Both outputs share one pipe, so that lines stay in their order.
    fn new(command: &mut Command, to: &Path, patience: Duration) -> io::Result<Self> {
        let console = Console::open(to, patience)?;
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let pipe = Receiver::from_owned_fd(reader)?;
        let (variable, name) = kmsg::console_pipe(&writer)?;
        let second = writer.try_clone()?;
        command.stdout(Stdio::from(writer)).stderr(Stdio::from(second)).env(variable, name);
        Ok(Self { pipe, console, pending: BytesMut::new() })
    }

    /// Copies until everybody has closed the pipe.
    async fn copy_all(&mut self) {
        loop {
            self.write_pending().await;
            self.pending.reserve(CHUNK_BYTES);
            match self.pipe.read_buf(&mut self.pending).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// Copies what is in the pipe now; who goes on printing does not hold us up.
    async fn copy_rest(&mut self) {
        self.write_pending().await;
        let mut chunk = vec![0; CHUNK_BYTES];
        // Asked directly: the runtime may not have heard yet that there is something.
        let length = rustix::io::read(&self.pipe, &mut *chunk).unwrap_or_default();
        self.pending.extend_from_slice(chunk.get(..length).unwrap_or_default());
        self.write_pending().await;
    }

    /// A line that is not taken is dropped to its end.
    async fn write_pending(&mut self) {
        while !self.pending.is_empty() {
            let newline = self.pending.iter().position(|byte| *byte == b'\n');
            let line = newline.map_or(self.pending.len(), |at| at + 1);
            let written = self.console.write(self.pending.get(..line).unwrap_or_default()).await;
            self.pending.advance(written.unwrap_or(line));
        }
    }
}

/// What is copied to.
#[derive(Debug)]
struct Console {
    terminal: AsyncFd<File>,
    patience: Duration,
    /// It took nothing the last time, and is not waited for until it does.
    is_stuck: bool,
    was_told: bool,
}

impl Console {
    /// Opened again, because what we share with others must keep waiting for them.
    fn open(path: &Path, patience: Duration) -> io::Result<Self> {
        let terminal = kmsg::open_for_writing(path)?;
        #[expect(deprecated, reason = "unsound for types that may change their descriptor only")]
        let terminal = AsyncFd::new(terminal)?;
        Ok(Self { terminal, patience, is_stuck: false, was_told: false })
    }

    /// How much was taken; `None` if nothing was, in all the time that it may take.
    async fn write(&mut self, text: &[u8]) -> Option<usize> {
        let write =
            |terminal: &File| -> io::Result<usize> { Ok(rustix::io::write(terminal, text)?) };
        let written = match write(self.terminal.get_ref()) {
            Ok(length) => Some(length),
            Err(_) if self.is_stuck => None,
            Err(_) => {
                let waiting = self.terminal.async_io(Interest::WRITABLE, write);
                tokio::time::timeout(self.patience, waiting).await.ok().and_then(Result::ok)
            }
        };
        self.is_stuck = written.is_none();
        if self.is_stuck && !self.was_told {
            self.was_told = true;
            log::warn!("the console takes nothing: dropping what the command prints");
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{Argv, run};
    use std::os::fd::{AsRawFd as _, OwnedFd};

    const LIMIT: Duration = Duration::from_secs(60);

    /// A console of 64 KiB, which somebody may read.
    struct Screen {
        reader: Receiver,
        writer: OwnedFd,
    }

    impl Screen {
        fn new() -> Self {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
            Self { reader: Receiver::from_owned_fd(reader).unwrap(), writer }
        }

        async fn run(&self, script: &str) -> Result<(), String> {
            let argv = ["sh", "-c", script].map(str::to_owned);
            let to = format!("/proc/self/fd/{}", self.writer.as_raw_fd());
            let output = Output::Copied { to: Path::new(&to), patience: Duration::from_millis(10) };
            let over = async {
                tokio::time::sleep(LIMIT).await;
                LIMIT
            };
            run(Argv(&argv), &[], output, over).await.map_err(|error| error.to_string())
        }

        /// What is there now, or comes first.
        async fn shown(&mut self) -> String {
            let mut text = vec![0; CHUNK_BYTES];
            let length = self.reader.read(&mut text).await.unwrap();
            String::from_utf8_lossy(&text[..length]).into_owned()
        }
    }

    #[tokio::test]
    async fn both_outputs_arrive_in_their_order_before_the_command_is_over() {
        let mut screen = Screen::new();
        screen.run("echo out; echo err >&2; printf 'no newline'").await.unwrap();
        assert_eq!(screen.shown().await, "out\nerr\nno newline");
    }

    #[tokio::test]
    async fn a_console_that_takes_nothing_does_not_hold_a_command_up() {
        let mut screen = Screen::new();
        screen.run("yes | head -c 400000").await.unwrap();
        assert!(screen.shown().await.starts_with("y\ny\n"), "what it took is there");
        screen.run("echo again").await.unwrap();
        assert_eq!(screen.shown().await, "again\n");
    }

    #[tokio::test]
    async fn what_a_command_that_succeeds_leaves_running_goes_on_and_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut screen = Screen::new();
        let daemon = format!("{{ read word < {}; echo $word; }} &", fifo.display());
        screen.run(&daemon).await.unwrap();
        std::fs::write(&fifo, "late\n").unwrap();
        assert_eq!(screen.shown().await, "late\n");
    }

    #[tokio::test]
    async fn a_command_knows_the_pipe_that_leads_to_the_console() {
        let mut screen = Screen::new();
        let script =
            "[ \"$STAGE2_CONSOLE_PIPE\" = \"$(stat -L -c %d:%i /proc/self/fd/2)\" ] && echo same";
        screen.run(script).await.unwrap();
        assert_eq!(screen.shown().await, "same\n");
    }
}
