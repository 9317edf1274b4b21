//! What people and tools ask of PID 1 with signals.
//!
//! All signals are blocked and read from a file descriptor, so none interrupts PID 1 and none is
//! lost between two looks.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Named};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::reap;
use crate::sys::{self, Reboot};

/// With nothing to wait on, PID 1 looks around this often.
const BLIND_LOOK: Duration = Duration::from_secs(1);

/// A signal that PID 1 has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// What it asks for.
    pub(crate) meaning: Meaning,
    /// Its number.
    number: u32,
    /// Who sent it; 0 is the kernel.
    sender: u32,
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i32::try_from(self.number).map(|number| (number, Named::try_from(number))) {
            Ok((_, Ok(named))) => write!(f, "{named} from ")?,
            Ok((number, _)) if number == sys::enter_kernel_signal() => {
                write!(f, "SIGRTMIN+6 from ")?;
            }
            _ => write!(f, "signal {} from ", self.number)?,
        }
        match self.sender {
            0 => write!(f, "the kernel"),
            pid => write!(f, "{} (process {pid})", reap::name(Path::new("/proc"), pid)),
        }
    }
}

/// What a signal means to PID 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Leave this kernel.
    Asked(Reboot),
    /// An operator's wishes have changed.
    Wish,
    /// A child has ended.
    Child,
    /// A signal that means nothing to us.
    Nothing,
}

impl Meaning {
    /// busybox `reboot`, `poweroff` and `halt` send SIGTERM, SIGUSR2 and SIGUSR1; the kernel turns
    /// ctrl-alt-del into SIGINT; `kexec` sends SIGRTMIN+6 and `stage2 hold`, `resume` and `retry` SIGHUP.
    fn from_number(number: u32) -> Self {
        let Ok(signed) = i32::try_from(number) else { return Self::Nothing };
        match Named::try_from(signed) {
            Ok(Named::SIGTERM | Named::SIGINT) => Self::Asked(Reboot::Restart),
            Ok(Named::SIGUSR2) => Self::Asked(Reboot::PowerOff),
            Ok(Named::SIGUSR1) => Self::Asked(Reboot::Halt),
            Ok(Named::SIGHUP) => Self::Wish,
            Ok(Named::SIGCHLD) => Self::Child,
            _ if signed == sys::enter_kernel_signal() => Self::Asked(Reboot::Kexec),
            _ => Self::Nothing,
        }
    }
}

/// The signals of this process.
#[derive(Debug)]
pub(crate) struct Signals(Option<SignalFd>);

impl Signals {
    /// Takes all signals; in case of an error, waiting still works but hears none.
    pub(crate) fn take_over() -> (Self, io::Result<()>) {
        let all = SigSet::all();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        match all.thread_block().and_then(|()| SignalFd::with_flags(&all, flags)) {
            Ok(descriptor) => (Self(Some(descriptor)), Ok(())),
            Err(errno) => (Self(None), Err(errno.into())),
        }
    }

    /// Waits until a signal is there, or `also` can be read, or the time is over.
    pub(crate) fn wait(&self, also: Option<BorrowedFd<'_>>, limit: Option<Duration>) {
        let limit = match self.0 {
            Some(_) => limit,
            None => Some(limit.unwrap_or(BLIND_LOOK).min(BLIND_LOOK)),
        };
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut polled: Vec<_> = self
            .0
            .iter()
            .map(AsFd::as_fd)
            .chain(also)
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        match rustix::event::poll(&mut polled, limit.as_ref()) {
            // Whatever interrupts it, the caller looks at everything anyway.
            Ok(_) | Err(_) => {}
        }
    }

    /// The signals that have come since the last look.
    pub(crate) fn received(&self) -> impl Iterator<Item = Received> {
        std::iter::from_fn(|| {
            let signal = self.0.as_ref()?.read_signal().ok()??;
            let (number, sender) = (signal.ssi_signo, signal.ssi_pid);
            Some(Received { meaning: Meaning::from_number(number), number, sender })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_reads_which_signal_came_from_whom() {
        let own = std::process::id();
        for (number, sender, expected) in [
            (2, 0, "SIGINT from the kernel".to_owned()),
            (40, 0, "SIGRTMIN+6 from the kernel".to_owned()),
            (41, u32::MAX, format!("signal 41 from somebody (process {})", u32::MAX)),
            (15, own, format!("SIGTERM from agent-TEST (process {own})")),
        ] {
            let received = Received { meaning: Meaning::from_number(number), number, sender };
            let name = reap::name(Path::new("/proc"), own);
            assert_eq!(received.to_string().replace(&name, "agent-TEST"), expected);
        }
    }

    #[test]
    fn pid_1_understands_the_signals_of_busybox_systemd_and_the_kernel() {
        for (number, expected) in [
            (15, Meaning::Asked(Reboot::Restart)),
            (2, Meaning::Asked(Reboot::Restart)),
            (12, Meaning::Asked(Reboot::PowerOff)),
            (10, Meaning::Asked(Reboot::Halt)),
            (40, Meaning::Asked(Reboot::Kexec)),
            (17, Meaning::Child),
            (1, Meaning::Wish),
            (41, Meaning::Nothing),
            (u32::MAX, Meaning::Nothing),
        ] {
            assert_eq!(Meaning::from_number(number), expected, "{number}");
        }
    }
}
