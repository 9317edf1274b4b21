//! Runs what a session asks for: a shell, a command, SFTP.
//!
//! On entry the client has logged in and its permissions allow the request. A program gets a fixed
//! environment, nothing from the client. On return of [`Program::start`] it runs; its output, exit
//! status or signal reach the client by themselves, and when the client goes, the program is hung
//! up on.

mod command;
mod run;
mod signal;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use russh::server::{Handle, Msg};
use russh::{Channel, Sig};
use rustix::process::{Pid, Signal};
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

use super::flow::Line;
use super::listener::OURSELVES;
use super::terminal::{self, Terminal};
use command::{command, enlarge_pipes, words};
use run::Run;
use signal::signal_of;

/// Where root is at home.
pub(crate) const HOME: &str = "/root";

/// What a session is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    Shell,
    Command(OsString),
    Sftp,
}

impl Purpose {
    /// What runs when a key is good for one command only.
    pub(crate) fn forced(self, command: Option<&str>) -> (Self, Option<OsString>) {
        match (command, self) {
            (None, purpose) => (purpose, None),
            (Some("internal-sftp"), _) => (Self::Sftp, None),
            (Some(command), Self::Command(original)) => {
                (Self::Command(command.into()), Some(original))
            }
            (Some(command), _) => (Self::Command(command.into()), None),
        }
    }
}

/// A session that is about to begin.
pub(crate) struct Session {
    pub(crate) purpose: Purpose,
    /// What the client wanted instead, for `SSH_ORIGINAL_COMMAND`.
    pub(crate) original: Option<OsString>,
    pub(crate) terminal: Option<terminal::Request>,
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    /// Shown before a shell on a terminal.
    pub(crate) message: Vec<u8>,
}

/// A program that runs.
pub(crate) struct Program {
    leader: Arc<Leader>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
}

/// The first process of a program's group, while it has not been reaped.
struct Leader(Mutex<Option<Pid>>);

impl Leader {
    fn signal(&self, signal: Signal) {
        let pid = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = pid.map(|pid| rustix::process::kill_process_group(pid, signal)) {
            log::debug!("ssh: cannot signal a program: {error}");
        }
    }

    fn has_ended(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Program {
    /// Starts it; its client sees the rest.
    pub(crate) fn start(
        session: &Session,
        channel: Channel<Msg>,
        handle: Handle,
        line: Arc<Line>,
    ) -> io::Result<Self> {
        match &session.terminal {
            None => Self::start_with_pipes(session, channel, handle, line),
            Some(request) => {
                let terminal = terminal::open(request)?;
                Self::start_on(terminal, session, channel, handle, line)
            }
        }
    }

    fn start_with_pipes(
        session: &Session,
        channel: Channel<Msg>,
        handle: Handle,
        line: Arc<Line>,
    ) -> io::Result<Self> {
        let mut command = command(&words(&session.purpose), session);
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
        enlarge_pipes(&child);
        let leader = leader_of(&child);
        let run = Run { leader: Arc::clone(&leader), child, handle, line };
        tokio::spawn(run.with_pipes(channel));
        Ok(Self { leader, terminal: None })
    }

    fn start_on(
        terminal: Terminal,
        session: &Session,
        channel: Channel<Msg>,
        handle: Handle,
        line: Arc<Line>,
    ) -> io::Result<Self> {
        let mut leading: Vec<OsString> =
            vec![OURSELVES.into(), "rescue".into(), "--terminal".into()];
        leading.extend(words(&session.purpose));
        let mut command = command(&leading, session);
        command.env("SSH_TTY", &terminal.name);
        command.stdin(Stdio::from(terminal.slave.try_clone()?));
        command.stdout(Stdio::from(terminal.slave.try_clone()?));
        command.stderr(Stdio::from(terminal.slave));
        let child = command.spawn()?;
        // Dropping the command closes our copies of the program's end.
        drop(command);
        let leader = leader_of(&child);
        #[expect(deprecated, reason = "an OwnedFd keeps its descriptor, so there is no duty left")]
        let master = Arc::new(AsyncFd::new(terminal.master)?);
        let run = Run { leader: Arc::clone(&leader), child, handle, line };
        let message =
            if session.purpose == Purpose::Shell { session.message.clone() } else { vec![] };
        tokio::spawn(run.with_terminal(channel, Arc::clone(&master), message));
        Ok(Self { leader, terminal: Some(master) })
    }

    /// The client's window has changed.
    pub(crate) fn resize(&self, size: Winsize) {
        if let Some(Err(error)) =
            self.terminal.as_ref().map(|master| terminal::resize(master, size))
        {
            log::debug!("ssh: cannot resize a terminal: {error}");
        }
    }

    /// The client sends a signal.
    pub(crate) fn signal(&self, signal: &Sig) {
        if let Some(signal) = signal_of(signal) {
            self.leader.signal(signal);
        }
    }

    /// The client has gone.
    pub(crate) fn hang_up(&self) {
        self.leader.signal(Signal::HUP);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.hang_up();
    }
}

fn leader_of(child: &Child) -> Arc<Leader> {
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    Arc::new(Leader(Mutex::new(pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_command_replaces_what_the_client_asked_for() {
        let run = |text: &str| Purpose::Command(text.into());
        let table = [
            (Purpose::Shell, None, (Purpose::Shell, None)),
            (run("id"), None, (run("id"), None)),
            (run("id"), Some("uptime"), (run("uptime"), Some("id".into()))),
            (Purpose::Shell, Some("uptime"), (run("uptime"), None)),
            (Purpose::Sftp, Some("uptime"), (run("uptime"), None)),
            (run("id"), Some("internal-sftp"), (Purpose::Sftp, None)),
        ];
        for (purpose, command, expected) in table {
            assert_eq!(purpose.forced(command), expected, "{command:?}");
        }
    }
}
