//! One run of `mstflint`: with a time limit, and its last words kept.

use std::io;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A program that says more says nothing that matters.
const MOST_WORDS_BYTES: u64 = 64 << 10;
/// How much of it is shown.
const SHOWN_CHARACTERS: usize = 200;

/// Why `mstflint` did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("cannot start {}: is Debian's package mstflint in this image?", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It failed.
    #[error("{}: {status}: {said}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// Its exit status.
        status: ExitStatus,
        /// Its last words.
        said: String,
    },
    /// It did not come to an end.
    #[error("no end of {} within {} s; it was killed", program.display(), limit.as_secs())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// How long it was allowed to take.
        limit: Duration,
    },
    /// A file that passes between us.
    #[error("cannot pass {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Runs a program to its end.
pub(super) fn run(program: &Path, arguments: &[&str], limit: Duration) -> Result<(), Error> {
    let start = |source| Error::Start { program: program.to_owned(), source };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let group = Pid::from_raw(child.id().cast_signed());
    let end = followed(child);
    let Ok((said, status)) = end.recv_timeout(limit) else {
        // It may be gone already, which is what we want.
        let _gone = killpg(group, Signal::SIGKILL);
        return Err(Error::TimedOut { program: program.to_owned(), limit });
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::Failed { program: program.to_owned(), status, said: last(&said) }),
        Err(source) => Err(start(source)),
    }
}

/// What it says, and its end: neither has a time limit of its own.
fn followed(mut child: Child) -> mpsc::Receiver<(String, io::Result<ExitStatus>)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(output) = child.stdout.take() {
            // What cannot be read was not said.
            let _unsaid = output.take(MOST_WORDS_BYTES).read_to_end(&mut said);
        }
        sender.send((String::from_utf8_lossy(&said).into_owned(), child.wait()))
    });
    receiver
}

/// The last line that says something.
fn last(said: &str) -> String {
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().take(SHOWN_CHARACTERS).collect()
}
