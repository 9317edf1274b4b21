//! A disk behind a process, which is killed when an operation takes too long and is not waited for
//! longer than [`REAP_LIMIT`]: a process that waits for a disk that hangs does not die.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::device::{BlockDevice, DiskError, Extent, Geometry};
use super::operation::{ARGUMENT, Access, DONE, FAILED, Head, Kind};
use crate::helper::REAP_LIMIT;

/// The kernel tries a command of 30 s six times, and resets the device in between.
pub const OPERATION_LIMIT: Duration = Duration::from_secs(300);

/// A disk behind a process.
pub struct Session {
    program: PathBuf,
    path: PathBuf,
    access: Access,
    sector_bytes: u64,
    limit: Duration,
    process: Option<Process>,
    /// Opened, and not used yet.
    fresh: Option<Geometry>,
    stuck: bool,
}

impl Session {
    /// `program` is started with [`ARGUMENT`] to work on the disk at `path`.
    #[must_use]
    pub const fn new(program: PathBuf, path: PathBuf, access: Access, sector_bytes: u64) -> Self {
        let (limit, process) = (OPERATION_LIMIT, None);
        Self { program, path, access, sector_bytes, limit, process, fresh: None, stuck: false }
    }

    /// Bounds every operation.
    #[must_use]
    pub fn limit(mut self, limit: Option<Duration>) -> Self {
        self.limit = limit.unwrap_or(self.limit);
        self
    }

    /// Opens the disk; the first [`BlockDevice::reopen`] finds it open.
    ///
    /// # Errors
    /// It is gone, or somebody else uses it.
    pub fn open(&mut self) -> Result<(), DiskError> {
        self.fresh = Some(self.reopen()?);
        Ok(())
    }

    fn ask(&mut self, name: &str, head: Head, bytes: Vec<u8>) -> Result<Vec<u8>, DiskError> {
        if self.stuck {
            return Err(DiskError::Stuck);
        }
        let gone = || DiskError::Gone("it was stopped".to_owned());
        let process = self.process.as_ref().ok_or_else(gone)?;
        let asked = process.requests.send((head, bytes));
        let answer = match asked {
            Ok(()) => process.answers.recv_timeout(self.limit),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        match answer {
            Ok(Ok((_, Ok(bytes)))) => Ok(bytes),
            Ok(Ok((_, Err(why)))) => Err(DiskError::Failed { operation: name.to_owned(), why }),
            Ok(Err(error)) => {
                self.stop();
                Err(DiskError::Gone(error.to_string()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.stop();
                Err(gone())
            }
            Err(RecvTimeoutError::Timeout) => {
                self.stop();
                Err(DiskError::TimedOut { operation: name.to_owned(), limit: self.limit })
            }
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let access = match self.access {
            Access::ReadOnly => "ro",
            Access::Write => "rw",
        };
        // A terminal's Ctrl-C is not for this process: it is in a group of its own.
        let mut child = Command::new(&self.program)
            .arg(ARGUMENT)
            .arg(&self.path)
            .arg(access)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        self.process = Some(Process::talking(child, input, output));
        Ok(())
    }

    /// Ends the process, which may have other plans.
    fn stop(&mut self) {
        let Some(Process { group, end, requests, .. }) = self.process.take() else { return };
        // Without requests it ends by itself, unless it waits for the disk.
        drop(requests);
        if end.recv_timeout(Duration::ZERO).is_err() {
            // It may be gone already, which is what we want.
            let _gone = killpg(group, Signal::SIGKILL);
            self.stuck = end.recv_timeout(REAP_LIMIT) == Err(RecvTimeoutError::Timeout);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the process answers: a number, and bytes or why not.
type Answer = io::Result<(u64, Result<Vec<u8>, String>)>;

/// The process, and the thread that talks with it: a pipe has no time limit of its own.
struct Process {
    group: Pid,
    requests: SyncSender<(Head, Vec<u8>)>,
    answers: Receiver<Answer>,
    end: Receiver<()>,
}

impl Process {
    fn talking(mut child: Child, mut input: ChildStdin, mut output: ChildStdout) -> Self {
        let group = Pid::from_raw(child.id().cast_signed());
        let (requests, to_do) = sync_channel::<(Head, Vec<u8>)>(1);
        let (said, answers) = channel();
        let (ended, end) = channel();
        thread::spawn(move || {
            let mut listened = said.send(heard(&mut output)).is_ok();
            while listened {
                let Ok((head, bytes)) = to_do.recv() else { return };
                let asked = head.write(&mut input).and_then(|()| input.write_all(&bytes));
                let asked = asked.and_then(|()| input.flush());
                listened = said.send(asked.and_then(|()| heard(&mut output))).is_ok();
            }
        });
        thread::spawn(move || child.wait().map(|_| ended.send(())));
        Self { group, requests, answers, end }
    }
}

fn heard(output: &mut ChildStdout) -> Answer {
    let head = Head::read(output)?;
    let mut bytes = vec![0; usize::try_from(head.length).map_err(io::Error::other)?];
    output.read_exact(&mut bytes)?;
    match head.kind {
        DONE => Ok((head.at, Ok(bytes))),
        FAILED => Ok((head.at, Err(String::from_utf8_lossy(&bytes).into_owned()))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl BlockDevice for Session {
    fn reopen(&mut self) -> Result<Geometry, DiskError> {
        if let Some(geometry) = self.fresh.take() {
            return Ok(geometry);
        }
        self.stop();
        if self.stuck {
            return Err(DiskError::Stuck);
        }
        self.start().map_err(|error| DiskError::Gone(error.to_string()))?;
        let operation = format!("open {}", self.path.display());
        let answer = self.process.as_ref().map(|process| process.answers.recv_timeout(self.limit));
        let failed = match answer {
            Some(Ok(Ok((size_bytes, Ok(_))))) => {
                return Ok(Geometry { size_bytes, sector_bytes: self.sector_bytes });
            }
            Some(Ok(Ok((_, Err(why))))) => DiskError::Failed { operation, why },
            Some(Ok(Err(error))) => DiskError::Gone(error.to_string()),
            Some(Err(RecvTimeoutError::Timeout)) => {
                DiskError::TimedOut { operation, limit: self.limit }
            }
            _ => DiskError::Gone("it said nothing".to_owned()),
        };
        self.stop();
        Err(failed)
    }

    fn read(&mut self, extent: Extent) -> Result<Vec<u8>, DiskError> {
        let name = format!("read {} bytes at {}", extent.length, extent.at);
        let head = Head::request(Kind::Read, extent.at, extent.length);
        self.ask(&name, head, Vec::new())
    }

    fn write(&mut self, at: u64, bytes: Vec<u8>) -> Result<(), DiskError> {
        let name = format!("write {} bytes at {at}", bytes.len());
        let head = Head::request(Kind::Write, at, bytes.len() as u64);
        self.ask(&name, head, bytes).map(drop)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.ask("flush", Head::request(Kind::Flush, 0, 0), Vec::new()).map(drop)
    }
}
