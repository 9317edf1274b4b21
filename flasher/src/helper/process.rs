//! A process as its parent sees it: the lines that it says, and its end.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::chip::ChipError;
use crate::operation::Answer;

/// How the talk with a process ended.
pub(super) enum Heard {
    Answer(Answer),
    Failed(ChipError),
    Garbage(String),
    End,
    Nothing,
}

impl Heard {
    pub(super) fn into_result(
        self,
        operation: &str,
        limit: Duration,
        status: Option<ExitStatus>,
    ) -> Result<Answer, ChipError> {
        let operation = operation.to_owned();
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::Failed(error) => Err(error),
            Self::Garbage(line) => {
                Err(ChipError::Died { operation, how: format!("it said {line:?}") })
            }
            Self::Nothing => Err(ChipError::TimedOut { operation, limit }),
            Self::End => Err(ChipError::Died { operation, how: status_text(status) }),
        }
    }
}

fn status_text(status: Option<ExitStatus>) -> String {
    match status {
        None => "it does not die".to_owned(),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown status".to_owned(),
        },
    }
}

/// It may be gone already, which is what we want.
pub(super) fn kill(group: Pid) {
    let _gone = killpg(group, Signal::SIGKILL);
}

/// The longest line that a process may say; erase blocks come in one.
const MOST_LINE_BYTES: u64 = 4 << 20;

/// Lines that may wait to be understood.
const LINES_AHEAD: usize = 256;

pub(super) fn lines_of(child: &mut Child) -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::sync_channel(LINES_AHEAD);
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || send_lines(BufReader::new(output), &sender));
    }
    receiver
}

fn send_lines(mut output: impl io::BufRead, lines: &mpsc::SyncSender<io::Result<String>>) {
    let mut heard = true;
    while heard {
        let mut line = String::new();
        heard = match (&mut output).take(MOST_LINE_BYTES).read_line(&mut line) {
            Ok(0) => false,
            Ok(_) => lines.send(Ok(line)).is_ok(),
            Err(error) => {
                // The listener takes an error for the end, as it takes the closed channel.
                let _nobody_listens = lines.send(Err(error));
                false
            }
        };
    }
}

/// The status of `child`, when it has ended: waiting has no time limit of its own.
pub(super) fn reaped(mut child: Child) -> mpsc::Receiver<ExitStatus> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || child.wait().map(|status| sender.send(status)));
    receiver
}
