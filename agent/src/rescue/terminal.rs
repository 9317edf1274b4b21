//! Pseudo terminals for sessions.
//!
//! The program of a session with a terminal is started through [`become_leader`], in a process that
//! has the terminal as its standard input: it makes itself the leader of a session on that terminal
//! and then becomes the program. So ctrl-C and a hang-up reach the right processes.
//!
//! Kernel rules: tty_ioctl(4), TIOCSCTTY; modes: RFC 4254 section 8.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use russh::Pty;
use rustix::pty::OpenptFlags;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
};

/// What a client says about its own terminal.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// For `TERM`.
    pub(crate) term: String,
    pub(crate) size: Winsize,
    pub(crate) modes: Vec<(Pty, u32)>,
}

/// A terminal whose far end is ours.
pub(crate) struct Terminal {
    /// Our end; does not block.
    pub(crate) master: OwnedFd,
    /// The program's end.
    pub(crate) slave: OwnedFd,
    /// For `SSH_TTY`.
    pub(crate) name: String,
}

/// Rows, columns and pixels of a request, which may be anything.
pub(crate) fn winsize(columns: u32, rows: u32, width: u32, height: u32) -> Winsize {
    let cell = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    Winsize {
        ws_row: cell(rows),
        ws_col: cell(columns),
        ws_xpixel: cell(width),
        ws_ypixel: cell(height),
    }
}

/// Opens a terminal as the client's is.
pub(crate) fn open(request: &Request) -> io::Result<Terminal> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?.to_string_lossy().into_owned();
    rustix::termios::tcsetwinsize(&slave, request.size)?;
    let mut termios = rustix::termios::tcgetattr(&slave)?;
    apply(&mut termios, &request.modes);
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &termios)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok(Terminal { master, slave, name })
}

/// The client's window has changed; the kernel tells the program.
pub(crate) fn resize(master: impl AsFd, size: Winsize) -> io::Result<()> {
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

const CODES: &[(Pty, SpecialCodeIndex)] = &[
    (Pty::VINTR, SpecialCodeIndex::VINTR),
    (Pty::VQUIT, SpecialCodeIndex::VQUIT),
    (Pty::VERASE, SpecialCodeIndex::VERASE),
    (Pty::VKILL, SpecialCodeIndex::VKILL),
    (Pty::VEOF, SpecialCodeIndex::VEOF),
    (Pty::VEOL, SpecialCodeIndex::VEOL),
    (Pty::VSTART, SpecialCodeIndex::VSTART),
    (Pty::VSTOP, SpecialCodeIndex::VSTOP),
    (Pty::VSUSP, SpecialCodeIndex::VSUSP),
    (Pty::VWERASE, SpecialCodeIndex::VWERASE),
    (Pty::VLNEXT, SpecialCodeIndex::VLNEXT),
    (Pty::VREPRINT, SpecialCodeIndex::VREPRINT),
];

const INPUT: &[(Pty, InputModes)] = &[
    (Pty::ISTRIP, InputModes::ISTRIP),
    (Pty::INLCR, InputModes::INLCR),
    (Pty::IGNCR, InputModes::IGNCR),
    (Pty::ICRNL, InputModes::ICRNL),
    (Pty::IXON, InputModes::IXON),
    (Pty::IXANY, InputModes::IXANY),
    (Pty::IXOFF, InputModes::IXOFF),
    (Pty::IUTF8, InputModes::IUTF8),
];

const LOCAL: &[(Pty, LocalModes)] = &[
    (Pty::ISIG, LocalModes::ISIG),
    (Pty::ICANON, LocalModes::ICANON),
    (Pty::ECHO, LocalModes::ECHO),
    (Pty::ECHOE, LocalModes::ECHOE),
    (Pty::ECHOK, LocalModes::ECHOK),
    (Pty::ECHONL, LocalModes::ECHONL),
    (Pty::ECHOCTL, LocalModes::ECHOCTL),
    (Pty::ECHOKE, LocalModes::ECHOKE),
    (Pty::NOFLSH, LocalModes::NOFLSH),
    (Pty::TOSTOP, LocalModes::TOSTOP),
    (Pty::IEXTEN, LocalModes::IEXTEN),
];

const OUTPUT: &[(Pty, OutputModes)] = &[
    (Pty::OPOST, OutputModes::OPOST),
    (Pty::ONLCR, OutputModes::ONLCR),
    (Pty::OCRNL, OutputModes::OCRNL),
    (Pty::ONOCR, OutputModes::ONOCR),
    (Pty::ONLRET, OutputModes::ONLRET),
];

fn apply(termios: &mut Termios, modes: &[(Pty, u32)]) {
    for (mode, value) in modes {
        if let (Some(index), Ok(code)) = (found(CODES, *mode), u8::try_from(*value)) {
            termios.special_codes[index] = code;
        }
        if let Some(flag) = found(INPUT, *mode) {
            termios.input_modes.set(flag, *value != 0);
        }
        if let Some(flag) = found(LOCAL, *mode) {
            termios.local_modes.set(flag, *value != 0);
        }
        if let Some(flag) = found(OUTPUT, *mode) {
            termios.output_modes.set(flag, *value != 0);
        }
    }
}

fn found<T: Copy>(table: &[(Pty, T)], mode: Pty) -> Option<T> {
    table.iter().find(|(name, _)| *name == mode).map(|(_, meaning)| *meaning)
}

/// Why a program did not get its terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("expected a program")]
    NoProgram,
    #[error("cannot lead a session")]
    Session(#[source] io::Error),
    #[error("cannot make standard input the terminal of this session")]
    Terminal(#[source] io::Error),
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
}

/// Becomes the program, with standard input as its terminal. Returns only what went wrong.
pub(crate) fn become_leader(program: &[OsString]) -> Error {
    let Some((name, arguments)) = program.split_first() else { return Error::NoProgram };
    if let Err(error) = rustix::process::setsid() {
        return Error::Session(error.into());
    }
    if let Err(error) = rustix::process::ioctl_tiocsctty(io::stdin()) {
        return Error::Terminal(error.into());
    }
    let source = Command::new(name).args(arguments).exec();
    Error::Start { program: name.display().to_string(), source }
}
