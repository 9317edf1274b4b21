//! The role *shell*: busybox's shell on the console, for an operator who has no other way in, or
//! for everybody there if the image's policy has it so. Then it waits for the Enter key first.
//!
//! On entry this is a fresh child of PID 1. It becomes the shell; it returns only if that fails.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::chain::Chain;
use crate::console;
use crate::policy::{POLICY, Policy};

const BUSYBOX: &str = "/bin/busybox";
const ACTIVE_CONSOLES: &str = "/sys/class/tty/console/active";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot use {terminal} as the shell's terminal")]
    Terminal { terminal: String, source: io::Error },
    #[error("cannot start {BUSYBOX}")]
    Start(#[source] io::Error),
}

/// Becomes the shell.
pub(crate) fn run(_arguments: &[String]) -> ExitCode {
    let terminal = preferred_terminal(&fs::read_to_string(ACTIVE_CONSOLES).unwrap_or_default());
    if let Err(error) = control(&terminal) {
        // Without job control it is still a shell.
        log::warn!("{}", Chain(&error));
    }
    if Policy::read(Path::new(POLICY)).is_ok_and(|policy| policy.console_shell)
        && let Err(error) = wait_for_enter()
    {
        log::warn!("cannot read from {terminal}: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(BUSYBOX).arg0("-sh").env("HOME", "/root").current_dir("/").exec();
    log::error!("{}", Chain(&Error::Start(error)));
    ExitCode::FAILURE
}

/// A terminal that is hung up answers at once, and with nothing.
fn wait_for_enter() -> io::Result<()> {
    log::info!("press Enter on the console for a shell");
    match io::stdin().read_line(&mut String::new())? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Job control needs the terminal itself: `/dev/console` never controls a session.
fn control(terminal: &str) -> Result<(), Error> {
    let error = |source| Error::Terminal { terminal: terminal.to_owned(), source };
    let file = console::open_terminal(terminal).map_err(error)?;
    rustix::process::ioctl_tiocsctty(&file).map_err(|errno| error(errno.into()))?;
    console::use_as_standard(&file).map_err(error)
}

/// The last of the kernel's consoles is the one behind `/dev/console`.
fn preferred_terminal(active: &str) -> String {
    format!("/dev/{}", active.split_whitespace().next_back().unwrap_or("console"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_is_on_the_console_named_last() {
        assert_eq!(preferred_terminal("tty0 ttyS0\n"), "/dev/ttyS0");
        assert_eq!(preferred_terminal(""), "/dev/console");
    }
}
