//! The role *stage2*: what an operator sees and can do, by hand or by script.
//!
//! It shows what the boot role publishes ([`crate::state`]) and writes down what the operator wishes
//! ([`crate::wishes`]); the boot role depends on neither. PID 1 is asked with the signals that every
//! tool uses. Without a command it is the message of the day, which a login shows too.

mod arguments;
mod chroot;
mod command;
mod fetch;
mod inventory;
mod log;
mod net;
mod status;
mod wish;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use self::arguments::{Request, UsageError};
use crate::chain::Chain;
use crate::pid1::Pid1;
use crate::reap::{self, Process};
use crate::screen::screen;
use crate::state;
use crate::status::Status;
use crate::sys::{Linux, Signal, System as _, Target};
use crate::wishes::WISHES;

const WRONG_USAGE: u8 = 2;
/// A terminal that nobody has widened.
const WIDTH: usize = 80;
const HINT: &str = "`stage2 --help` tells what you can do: hold, set, retry, resume, log, plan ...";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("cannot write the answer")]
    Output(#[from] io::Error),
    #[error("expected stage2's own ramdisk, got a machine whose PID 1 is {0}: nobody obeys there")]
    NotOurs(Pid1),
    #[error("cannot write the wish to {WISHES}")]
    Wish(#[source] io::Error),
    #[error("cannot watch {}: it is there in stage2's own ramdisk", state::DIRECTORY)]
    Watch(#[source] io::Error),
    #[error("no boot document has been read yet: `stage2 status` tells why")]
    NoPlan,
    #[error("cannot read the kernel log: only root may")]
    Log(#[source] io::Error),
    #[error("{0} may be writing to a card: ask again when it has ended, or force it: `reboot -f`")]
    Flasher(Process),
    #[error("cannot ask PID 1")]
    Signal(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot show the network")]
    Net(#[from] net::Error),
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    #[error(transparent)]
    Chroot(#[from] chroot::Error),
}

/// Does what the arguments ask for.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let request = match Request::parse(arguments) {
        Ok(Request::Kexec(arguments)) => return crate::kexec::run(&arguments),
        Ok(request) => request,
        Err(error) => {
            eprintln!("stage2: {}", Chain(&error));
            return WRONG_USAGE.into();
        }
    };
    match carry_out(request, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stage2: {}", Chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// What the machine is doing, in a few lines for a login: at most 80 columns of plain ASCII, each
/// line ended.
pub(crate) fn message_of_the_day() -> String {
    let mut lines = screen(&Status::now(), WIDTH);
    lines.push(HINT.to_owned());
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn carry_out(request: Request, out: &mut impl Write) -> Result<(), Error> {
    match request {
        Request::Message => Ok(write!(out, "{}", message_of_the_day())?),
        Request::Help => Ok(write!(out, "{}", command::help())?),
        Request::HelpFor(command) => Ok(write!(out, "{}", command.help())?),
        Request::Version => Ok(writeln!(out, "stage2 {}", Status::now().stage2)?),
        Request::Status(form, times) => status::show(form, times, out),
        Request::Log(lines, times) => log::show(lines, times, out),
        Request::Plan => {
            let plan = state::read_plan(Path::new(state::DIRECTORY)).map_err(|_| Error::NoPlan)?;
            Ok(writeln!(out, "{}", plan.trim_end())?)
        }
        Request::Hold | Request::Resume | Request::Retry | Request::Set(_) => {
            ours()?;
            wish::make(&request, out)
        }
        Request::Fetch(fetch) => Ok(fetch::fetch(&fetch)?),
        // The role of that name has taken it already.
        Request::Kexec(_) => Ok(()),
        Request::Inventory(form) => Ok(inventory::show(form, out)?),
        Request::Net => net::show(out),
        Request::Chroot(chroot) => Ok(chroot::enter(&mut Linux, &chroot)?),
        Request::Reboot => ask_pid1(Signal::Terminate),
        Request::PowerOff => ask_pid1(Signal::PowerOff),
    }
}

/// Whether there is somebody who obeys.
fn ours() -> Result<(), Error> {
    match Pid1::find() {
        Pid1::Ours => Ok(()),
        other => Err(Error::NotOurs(other)),
    }
}

/// PID 1 would refuse on the consoles only, where nobody may look.
fn ask_pid1(signal: Signal) -> Result<(), Error> {
    ours()?;
    if let Some(flasher) = reap::running_flasher(Path::new("/proc")) {
        return Err(Error::Flasher(flasher));
    }
    Linux.signal(Target::Process(1), signal).map_err(Error::Signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_the_day_fits_the_smallest_terminal() {
        let message = message_of_the_day();
        assert!(message.ends_with(&format!("{HINT}\n")), "{message}");
        assert!(message.lines().count() <= 24, "{message}");
        assert!(message.lines().all(|line| line.len() <= WIDTH && line.is_ascii()), "{message}");
    }

    #[test]
    fn nobody_is_asked_on_a_machine_that_is_not_ours() {
        for request in [Request::Hold, Request::Reboot, Request::PowerOff] {
            let error = carry_out(request, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with("expected stage2's own ramdisk, got a machine"), "{error}");
        }
    }
}
