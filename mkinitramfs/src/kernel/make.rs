//! Runs the kernel's make, keeps what it says, and tells how far it is.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::progress::Progress;

/// How much of the log is shown when make fails.
const TAIL_LINES: usize = 30;

/// Why make did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// make cannot be started, or its log cannot be written.
    #[error("cannot run make in {}", directory.display())]
    Run {
        /// The build directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// make ended with an error.
    #[error("cannot build the kernel: make ended with {status}; the end of {}:\n{tail}", log.display())]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// All it said.
        log: PathBuf,
        /// The last of it.
        tail: String,
    },
}

/// One kernel source and one build directory.
#[derive(Debug, Clone)]
pub struct Make {
    /// The source.
    pub source: PathBuf,
    /// Where objects go.
    pub build: PathBuf,
    /// Where make's output is appended.
    pub log: PathBuf,
    /// The date that the kernel shows.
    pub timestamp: String,
}

impl Make {
    /// Runs make with targets and assignments; counts its steps.
    ///
    /// # Errors
    /// make cannot be started or fails.
    pub fn run(&self, arguments: &[&str], progress: &mut Progress) -> Result<(), Error> {
        let status = self
            .run_counting(arguments, progress)
            .map_err(|source| Error::Run { directory: self.build.clone(), source })?;
        if status.success() {
            return Ok(());
        }
        let text = std::fs::read(&self.log).unwrap_or_default();
        let tail = tail(&String::from_utf8_lossy(&text));
        Err(Error::Failed { status, log: self.log.clone(), tail })
    }

    fn run_counting(&self, arguments: &[&str], progress: &mut Progress) -> io::Result<ExitStatus> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let (reader, writer) = io::pipe()?;
        let mut child = {
            let mut command = self.command(arguments);
            command.stdin(std::process::Stdio::null());
            command.stdout(writer.try_clone()?).stderr(writer).spawn()?
            // The command is dropped here, and with it our ends for writing.
        };
        let (sender, lines) = channel();
        let copier = thread::spawn(move || copy_lines(reader, log, &sender));
        follow(&lines, progress);
        let copied =
            copier.join().unwrap_or_else(|_| Err(io::Error::other("the log's writer died")));
        let status = child.wait()?;
        copied.map(|()| status)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program("make");
        command
            .env("KBUILD_BUILD_TIMESTAMP", &self.timestamp)
            .env("KBUILD_BUILD_USER", "stage2")
            .env("KBUILD_BUILD_HOST", "stage2")
            .env("KBUILD_BUILD_VERSION", "1")
            .arg("-C")
            .arg(&self.source)
            .arg(assignment("O=", &self.build))
            .args(["ARCH=x86_64", "--no-print-directory"])
            .arg(format!("-j{}", thread::available_parallelism().map_or(1, usize::from)))
            .args(arguments);
        command
    }
}

/// A program of the build, with nothing of the caller's environment but what programs need:
/// `make image` itself runs under a make whose flags are not for this one, and a stray `KCFLAGS` or
/// `CPATH` would change the image.
pub(super) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    let kept = ["PATH", "HOME", "TMPDIR"];
    command
        .env_clear()
        .envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("LC_ALL", "C");
    command
}

fn assignment(name: &str, value: &Path) -> OsString {
    let mut assignment = OsString::from(name);
    assignment.push(value);
    assignment
}

fn copy_lines(reader: PipeReader, mut log: File, sender: &Sender<String>) -> io::Result<()> {
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        log.write_all(&line)?;
        log.write_all(b"\n")?;
        // Nobody counts any more: the log is still worth keeping.
        drop(sender.send(String::from_utf8_lossy(&line).into_owned()));
    }
    Ok(())
}

/// Counts lines until make closes its output.
fn follow(lines: &Receiver<String>, progress: &mut Progress) {
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => progress.line(&line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        progress.show();
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_in(directory: &Path, makefile: &str) -> Make {
        std::fs::write(directory.join("Makefile"), makefile).unwrap();
        Make {
            source: directory.to_owned(),
            build: directory.to_owned(),
            log: directory.join("log"),
            timestamp: "Thu Jan  1 00:00:00 UTC 1970".to_owned(),
        }
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log_and_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let makefile = "all:\n\t@seq 1 100\n\t@echo the reason >&2\n\t@false\n";
        let make = make_in(directory.path(), makefile);
        let error = make.run(&["all"], &mut Progress::start(1)).unwrap_err().to_string();
        assert!(error.contains(&directory.path().join("log").display().to_string()), "{error}");
        assert!(error.contains("\n100\nthe reason\n"), "{error}");
        assert!(!error.contains("\n60\n"), "{error}");
    }

    #[test]
    fn steps_are_counted_and_the_callers_flags_kept_out() {
        let directory = tempfile::tempdir().unwrap();
        let makefile =
            "all:\n\t@echo '  CC      a.o'\n\t@echo '  LD      b'\n\t@test -z \"$(KCFLAGS)\"\n";
        let make = make_in(directory.path(), makefile);
        let mut progress = Progress::start(1);
        make.run(&["all"], &mut progress).unwrap();
        assert_eq!(progress.finish().0, 2);
        assert_eq!(std::fs::read_to_string(&make.log).unwrap(), "  CC      a.o\n  LD      b\n");
    }
}
