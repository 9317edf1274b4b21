//! The role *depart*: turns the links off, writes the disks back, and leaves this kernel.
//!
//! All of it can wait for ever: the kernel's network lock for a driver that hangs, a disk that does
//! not answer, `reboot(2)` for a driver's own shutdown. So this is a child of PID 1, which waits for
//! it only so long. By then everything but the two has been stopped.

use std::path::Path;
use std::process::ExitCode;

use crate::interfaces;
use crate::settle;
use crate::sys::{Linux, Reboot, System};

/// The ways out, by the names that PID 1 passes.
const WAYS: [Reboot; 4] = [Reboot::Kexec, Reboot::Restart, Reboot::PowerOff, Reboot::Halt];

/// The name of a way out on the command line of the role.
pub(crate) const fn name(way: Reboot) -> &'static str {
    match way {
        Reboot::Kexec => "kexec",
        Reboot::Restart => "restart",
        Reboot::PowerOff => "poweroff",
        Reboot::Halt => "halt",
    }
}

/// Leaves; returns only when that did not work.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let named = |word: &String| WAYS.into_iter().find(|way| name(*way) == word);
    let Some(way) = arguments.first().and_then(named) else {
        let names = WAYS.map(name).join(", ");
        eprintln!("depart: expected one of {names}, got {arguments:?}; init starts this role");
        return ExitCode::FAILURE;
    };
    interfaces::all_down(&mut Linux, Path::new(interfaces::INTERFACES));
    if settle::is_needed() {
        settle::settle(&mut Linux);
    }
    let Err(error) = Linux.reboot(way);
    log::error!("cannot leave this kernel: {error}");
    ExitCode::FAILURE
}
