//! Runs what a session asks for: a shell, a command, SFTP.
//!
//! On entry the client has logged in and its permissions allow the request. A program gets a fixed
//! environment, nothing from the client. On return of [`Program::start`] it runs; its output, exit
//! status or signal reach the client by themselves, and when the client goes, the program is hung
//! up on.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal};
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

use super::flow::{self, Line, PACKET_BYTES, Stream};
use super::listener::OURSELVES;
use super::terminal::{self, Terminal};

/// Where root is at home.
pub(crate) const HOME: &str = "/root";

const PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";

/// The shell of the ramdisk; on other machines `/bin/sh` will do.
const BUSYBOX: &str = "/bin/busybox";
const SHELL: &str = "/bin/sh";

/// A transfer moves a MiB with one call each on both sides.
const PIPE_BYTES: usize = 1024 * 1024;

/// The status of a program that could not be told from none: as OpenSSH reports it.
const UNKNOWN_STATUS: u32 = 255;

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

/// The words of the program, its own name first.
fn words(purpose: &Purpose) -> Vec<OsString> {
    match purpose {
        Purpose::Shell => shell(&["-l".into()]),
        Purpose::Sftp => vec![OURSELVES.into(), "rescue".into(), "--sftp".into()],
        Purpose::Command(command) => match scp_arguments(command) {
            // The shell expands what the client's `scp` left for it to expand.
            Some(arguments) => {
                let mut text = OsString::from("exec \"$0\" rescue --scp ");
                text.push(arguments);
                let ourselves = format!("/proc/{}/exe", std::process::id());
                shell(&["-c".into(), text, ourselves.into()])
            }
            None => shell(&["-c".into(), command.clone()]),
        },
    }
}

/// The ramdisk has no `scp` of its own.
fn scp_arguments(command: &OsStr) -> Option<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    let rest = command.as_bytes().strip_prefix(b"scp ")?;
    Some(OsStr::from_bytes(rest))
}

fn shell(arguments: &[OsString]) -> Vec<OsString> {
    let mut words: Vec<OsString> = match Path::new(BUSYBOX).exists() {
        true => vec![BUSYBOX.into(), "sh".into()],
        false => vec![SHELL.into()],
    };
    words.extend_from_slice(arguments);
    words
}

fn command(words: &[OsString], session: &Session) -> Command {
    let (name, arguments) = words
        .split_first()
        .map_or((OsStr::new(SHELL), &[][..]), |(name, rest)| (name.as_os_str(), rest));
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(environment(session));
    if Path::new(HOME).is_dir() {
        command.current_dir(HOME);
    }
    command
}

fn environment(session: &Session) -> Vec<(&'static str, OsString)> {
    let (client, server) = (session.client, session.server);
    let ends = format!("{} {} {} {}", client.ip(), client.port(), server.ip(), server.port());
    let mut variables = vec![
        ("HOME", HOME.into()),
        ("LOGNAME", "root".into()),
        ("PATH", PATH.into()),
        ("SHELL", SHELL.into()),
        ("SSH_CONNECTION", ends.into()),
        ("USER", "root".into()),
    ];
    if let Some(original) = &session.original {
        variables.push(("SSH_ORIGINAL_COMMAND", original.clone()));
    }
    if let Some(terminal) = &session.terminal {
        variables.push(("TERM", terminal.term.clone().into()));
    }
    variables
}

/// The kernel may refuse; then it is slower.
fn enlarge_pipes(child: &Child) {
    let pipes = [child.stdin.as_ref().map(AsFd::as_fd), child.stdout.as_ref().map(AsFd::as_fd)];
    for pipe in pipes.into_iter().flatten() {
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES) {
            log::debug!("ssh: cannot enlarge a pipe: {error}");
        }
    }
}

/// What it takes to bring a program to its end.
struct Run {
    leader: Arc<Leader>,
    child: Child,
    handle: Handle,
    line: Arc<Line>,
}

impl Run {
    async fn with_pipes(mut self, channel: Channel<Msg>) {
        let (mut from_client, to_client) = channel.split();
        let (stdin, stdout, stderr) =
            (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
            return;
        };
        let line = Arc::clone(&self.line);
        let input = async {
            flow::receive(&mut from_client, stdin, &line).await;
            std::future::pending::<()>().await;
        };
        let output = async {
            let sent = tokio::join!(
                flow::send(&mut stdout, Stream::Output, &to_client, &line),
                flow::send(&mut stderr, Stream::Errors, &to_client, &line),
            );
            sent.0.and(sent.1)
        };
        tokio::select! {
            sent = output => log_end(sent),
            () = input => {}
            () = line.hung_up() => self.leader.signal(Signal::HUP),
        }
        drop((stdout, stderr));
        self.end(&to_client).await;
    }

    async fn with_terminal(
        mut self,
        channel: Channel<Msg>,
        master: Arc<AsyncFd<OwnedFd>>,
        message: Vec<u8>,
    ) {
        let (mut from_client, to_client) = channel.split();
        let line = Arc::clone(&self.line);
        let input = async {
            flow::receive(&mut from_client, TerminalInput(Arc::clone(&master)), &line).await;
            std::future::pending::<()>().await;
        };
        let output = async {
            if !message.is_empty() {
                flow::send_bytes(message, Stream::Output, &to_client, &line).await?;
            }
            copy_terminal(&master, &mut self.child, &to_client, &line).await
        };
        tokio::select! {
            sent = output => log_end(sent),
            () = input => {}
            () = line.hung_up() => self.leader.signal(Signal::HUP),
        }
        self.end(&to_client).await;
    }

    async fn end(mut self, channel: &ChannelWriteHalf<Msg>) {
        let status = self.child.wait().await;
        self.leader.has_ended();
        let reported = match status {
            Ok(status) => self.report(channel, status).await,
            Err(error) => Err(error.into()),
        };
        log_end(reported);
        let closed = async {
            channel.eof().await?;
            channel.close().await
        };
        log_end(closed.await);
    }

    async fn report(
        &self,
        channel: &ChannelWriteHalf<Msg>,
        end: ExitStatus,
    ) -> Result<(), russh::Error> {
        let Some(signal) = end.signal() else {
            let status = end.code().and_then(|code| u32::try_from(code).ok());
            return channel.exit_status(status.unwrap_or(UNKNOWN_STATUS)).await;
        };
        let (id, name, core) = (channel.id(), name_of(signal), end.core_dumped());
        let sent = self.handle.exit_signal_request(id, name, core, String::new(), String::new());
        sent.await.map_err(|()| russh::Error::SendError)
    }
}

/// The client may have gone; that is no news.
fn log_end(result: Result<(), russh::Error>) {
    if let Err(error) = result {
        log::debug!("ssh: a session ended early: {error}");
    }
}

/// Sends what is shown until the program ends, and what it has shown by then. What it left running
/// in the background does not keep the session open.
async fn copy_terminal(
    master: &AsyncFd<OwnedFd>,
    child: &mut Child,
    channel: &ChannelWriteHalf<Msg>,
    line: &Line,
) -> Result<(), russh::Error> {
    loop {
        let read = tokio::select! {
            biased;
            read = master.async_io(tokio::io::Interest::READABLE, read_terminal) => read,
            ended = child.wait() => {
                ended?;
                break;
            }
        };
        match read {
            Ok(bytes) if bytes.is_empty() => return Ok(()),
            Ok(bytes) => flow::send_bytes(bytes, Stream::Output, channel, line).await?,
            // The last program that had the terminal open is gone.
            Err(_) => return Ok(()),
        }
    }
    while let Ok(bytes) = read_terminal(master.get_ref()) {
        if bytes.is_empty() {
            break;
        }
        flow::send_bytes(bytes, Stream::Output, channel, line).await?;
    }
    Ok(())
}

fn read_terminal(master: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PACKET_BYTES as usize);
    rustix::io::read(master, rustix::buffer::spare_capacity(&mut bytes))?;
    Ok(bytes)
}

/// Our end of a terminal, as something to write to. Closing it does not close the terminal: a client
/// that has no more input still wants to see the output.
struct TerminalInput(Arc<AsyncFd<OwnedFd>>);

impl tokio::io::AsyncWrite for TerminalInput {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        loop {
            let mut ready = std::task::ready!(self.0.poll_write_ready(context))?;
            let written = ready.try_io(|master| Ok(rustix::io::write(master, bytes)?));
            if let Ok(result) = written {
                return std::task::Poll::Ready(result);
            }
        }
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// The signals of RFC 4254 section 6.10.
const SIGNALS: &[(Sig, Signal)] = &[
    (Sig::ABRT, Signal::ABORT),
    (Sig::ALRM, Signal::ALARM),
    (Sig::FPE, Signal::FPE),
    (Sig::HUP, Signal::HUP),
    (Sig::ILL, Signal::ILL),
    (Sig::INT, Signal::INT),
    (Sig::KILL, Signal::KILL),
    (Sig::PIPE, Signal::PIPE),
    (Sig::QUIT, Signal::QUIT),
    (Sig::SEGV, Signal::SEGV),
    (Sig::TERM, Signal::TERM),
    (Sig::USR1, Signal::USR1),
];

fn signal_of(sig: &Sig) -> Option<Signal> {
    let same = |known: &Sig| std::mem::discriminant(known) == std::mem::discriminant(sig);
    match sig {
        Sig::Custom(name) if name == "USR2" => Some(Signal::USR2),
        Sig::Custom(_) => None,
        _ => SIGNALS.iter().find(|(known, _)| same(known)).map(|(_, signal)| *signal),
    }
}

fn name_of(number: i32) -> Sig {
    let known = SIGNALS.iter().find(|(_, signal)| signal.as_raw() == number);
    match known {
        Some((sig, _)) => sig.clone(),
        None if number == Signal::USR2.as_raw() => Sig::Custom("USR2".to_owned()),
        None => Sig::Custom(format!("{number}@stage2")),
    }
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

    #[test]
    fn scp_is_ours_and_nothing_else_is() {
        let arguments = |text: &str| scp_arguments(text.as_ref()).map(OsStr::to_owned);
        assert_eq!(arguments("scp -t /tmp"), Some("-t /tmp".into()));
        assert_eq!(arguments("scpx -t /tmp"), None);
        assert_eq!(arguments("cat scp "), None);
    }

    #[test]
    fn the_names_of_signals_go_there_and_back() {
        for (sig, signal) in SIGNALS {
            assert_eq!(signal_of(sig), Some(*signal));
            assert_eq!(signal_of(&name_of(signal.as_raw())), Some(*signal));
        }
        assert_eq!(signal_of(&Sig::Custom("NONSENSE".into())), None);
    }
}
