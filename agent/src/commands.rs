//! Runs the commands of a boot document, one after another, up to the first that fails.
//!
//! On entry every command is complete: templates are evaluated and files are in place. A command
//! inherits our environment, with the document's own on top; the program is looked up in the
//! document's `PATH`. On return a command that succeeded may have left processes running, as daemons
//! are started on purpose and always were. What did not succeed is tried again as a whole: nothing
//! of its process group is running.

mod output;

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use agent_types::redact::redact_words;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use self::output::Copying;
use crate::spawn;
use crate::watch;

pub(crate) use self::output::Output;

/// The original client's limit for one command; flashing a slow chip is the longest known.
pub(crate) const COMMAND_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// One command, ready to be run: the program and its arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Argv<'a>(pub(crate) &'a [String]);

/// Why a command did not succeed; `argv` is without its secrets, as it may be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no program to run.
    #[error("{argv} : expected a program name, got nothing")]
    Empty { argv: String },
    /// The program could not be started.
    #[error("{argv} : cannot start it")]
    Start { argv: String, source: io::Error },
    /// The program could not be waited for.
    #[error("{argv} : cannot wait for it")]
    Wait { argv: String, source: io::Error },
    /// The program ended, but not with exit status 0.
    #[error("{argv} : {end}")]
    Ended { argv: String, end: End },
    /// The program was still running at the limit, and was killed.
    #[error("{argv} : still running after {} s, killed", .limit.as_secs())]
    TooLong { argv: String, limit: Duration },
}

/// How a process ended, in the words that the original client's readers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End(ExitStatus);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "exit status {code}"),
            (None, Some(signal)) => match Signal::try_from(signal) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            (None, None) => write!(f, "{}", self.0),
        }
    }
}

/// Shown as operators and scripts read it: joined by `" "`, nothing escaped.
impl fmt::Display for Argv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.join("\" \""))
    }
}

/// Runs one command with `env` on top of our environment; it is killed when its time is `over`,
/// which tells how long that was.
pub(crate) async fn run(
    argv: Argv<'_>,
    env: &[(String, String)],
    output: Output<'_>,
    over: impl Future<Output = Duration>,
) -> Result<(), Error> {
    let shown = || format!("[{}]", Argv(&redact_words(argv.0)));
    let mut command = command(argv, env).ok_or_else(|| Error::Empty { argv: shown() })?;
    let mut copying = Copying::prepare(&mut command, output);
    // We are dispensable when memory is short; a flasher in the middle of a chip is not.
    let spawned = spawn::with_common_oom_score(|| command.spawn());
    drop(command);
    let mut child = spawned.map_err(|source| Error::Start { argv: shown(), source })?;
    let group = Group::of(&child);
    let result = tokio::select! {
        ended = child.wait() => match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::Ended { argv: shown(), end: End(status) }),
            Err(source) => Err(Error::Wait { argv: shown(), source }),
        },
        limit = over => Err(Error::TooLong { argv: shown(), limit }),
        never = copying.go_on() => match never {},
    };
    match result {
        Ok(()) => group.leave(),
        Err(_) => drop(group),
    }
    copying.finish().await;
    result
}

fn command(argv: Argv<'_>, env: &[(String, String)]) -> Option<Command> {
    let (program, arguments) = argv.0.split_first()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        // Ours alone: its number means something else in the command.
        .env_remove(watch::VARIABLE)
        .envs(env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    Some(command)
}

/// A command and all that it started, without those who made a group of their own. Killed when
/// dropped: two flashers on one card would be the end of it.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw))
    }

    /// Lets it run.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(group) = self.0 else { return };
        match killpg(group, Signal::SIGKILL) {
            // Nobody is left.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => log::debug!("cannot kill process group {group}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec};
    use rustix::process::PidfdFlags;

    fn words(argv: &[&str]) -> Vec<String> {
        argv.iter().map(ToString::to_string).collect()
    }

    async fn outcome(argv: &[&str], limit: Duration) -> Result<(), String> {
        let env = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        run(Argv(&words(argv)), &env, Output::Inherited, after(limit))
            .await
            .map_err(|error| error.to_string())
    }

    async fn after(limit: Duration) -> Duration {
        tokio::time::sleep(limit).await;
        limit
    }

    #[tokio::test]
    async fn every_end_of_a_command_has_its_words() {
        let minute = Duration::from_secs(60);
        let instant = Duration::ZERO;
        for (argv, limit, expected) in [
            (&["true"][..], minute, Ok(())),
            (&["false"], minute, Err(r#"["false"] : exit status 1"#)),
            (&["sh", "-c", "exit 7"], minute, Err(r#"["sh" "-c" "exit 7"] : exit status 7"#)),
            (
                &["sh", "-c", "kill -9 $$"],
                minute,
                Err(r#"["sh" "-c" "kill -9 $$"] : killed by SIGKILL"#),
            ),
            (&["/no/such"], minute, Err(r#"["/no/such"] : cannot start it"#)),
            (&[""], minute, Err(r#"[""] : cannot start it"#)),
            (&["sleep", "99"], instant, Err(r#"["sleep" "99"] : still running after 0 s, killed"#)),
        ] {
            assert_eq!(outcome(argv, limit).await, expected.map_err(str::to_owned), "{argv:?}");
        }
    }

    #[tokio::test]
    async fn the_program_is_looked_up_in_the_documents_path() {
        let bin = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/bin/true", bin.path().join("only-here")).unwrap();
        let env = [("PATH".to_owned(), bin.path().display().to_string())];
        let argv = words(&["only-here"]);
        let run = async |env: &[(String, String)]| {
            run(Argv(&argv), env, Output::Inherited, after(COMMAND_LIMIT)).await.is_ok()
        };
        assert!(run(&env).await);
        assert!(!run(&[]).await);
    }

    #[test]
    fn a_command_is_shown_between_one_pair_of_quotes() {
        assert_eq!(Argv(&words(&["/sbin/kexec", "a b"])).to_string(), r#""/sbin/kexec" "a b""#);
    }

    /// A process that was killed needs a moment; one that was not would live longer than we wait.
    fn has_ended(pid: i32) -> bool {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return true;
        };
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        let mut polled = [PollFd::new(&process, PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&limit)).unwrap() == 1
    }

    #[tokio::test]
    async fn nothing_that_a_failing_command_started_in_its_group_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid").display().to_string();
        let script = format!("sleep 999 & echo $! > {file}; exit 1");
        outcome(&["sh", "-c", &script], Duration::from_secs(60)).await.unwrap_err();
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        assert!(has_ended(pid), "still there");
    }

    #[tokio::test]
    async fn a_command_that_fails_tells_no_secret() {
        use crate::report::Outcome;
        let session = "--command-line=epoxy.stage3=https://s/v1/boot/h/5e5510n/stage3";
        let argv = ["false", "--token", "s3cr3t", session];
        let error = outcome(&argv, Duration::from_secs(60)).await.unwrap_err();
        // What the boot server gets.
        let report = Outcome::Failure(error.clone()).to_string();
        assert!(!report.contains("s3cr3t") && !report.contains("5e5510n"), "{report}");
        // What `retry` writes to the log and the console, as it stands.
        assert!(!error.contains("s3cr3t") && !error.contains("5e5510n"), "{error}");
    }
}
