//! The way out of this kernel: stop children, then have a child turn links off, settle, and go.
//!
//! What waits in the kernel, perhaps for ever, waits in a child: PID 1 always gets to the end. It
//! returns only when the kernel refuses to be left; by then everything but PID 1 has been stopped.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::depart;
use crate::reap::{self, Look};
use crate::settle;
use crate::signals::{Meaning, Signals};
use crate::spawn;
use crate::sys::{self, Reboot, Signal, System, Target};

/// For a program to put its things in order.
const TERMINATE_LIMIT: Duration = Duration::from_secs(3);
/// Longer than that only a process that hangs in the kernel takes, and it may take for ever.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// A slow USB stick writes 64 MiB in that time.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// Some cards take seconds each to be turned off, and again for their drivers' shutdown.
const DEPART_LIMIT: Duration = Duration::from_secs(30);

/// The firmware may take a while.
const FORCE_LIMIT: Duration = Duration::from_secs(10);

const SYSRQ: &str = "/proc/sysrq-trigger";

/// Leaves; returns only when that did not work, which has been logged.
pub(crate) fn leave(system: &mut impl System, signals: &Signals, way: Reboot) {
    stop_everything(system, signals);
    let limit = if settle::is_needed() { DEPART_LIMIT + SETTLE_LIMIT } else { DEPART_LIMIT };
    let waited = wait_for_role(spawn::role("depart").arg(depart::name(way)), signals, limit);
    match (waited, way) {
        (Ok(Waited::Gone), Reboot::Restart) => force(signals, Force::Restart),
        (Ok(Waited::Gone), _) => {}
        (Ok(Waited::StillThere), _) => leave_by_force(system, signals, way),
        (Err(error), _) => {
            log::warn!("cannot start the depart role: {error}: going without turning links off");
            leave_at_once(system, way);
        }
    }
}

fn leave_at_once(system: &mut impl System, way: Reboot) {
    let Err(error) = system.reboot(way);
    log::error!("cannot leave this kernel: {error}");
}

/// A card whose driver hangs may still write into this memory, so nothing else is entered in it.
fn leave_by_force(system: &mut impl System, signals: &Signals, way: Reboot) {
    let seconds = DEPART_LIMIT.as_secs();
    log::error!("a driver or a disk holds this kernel for {seconds} s: leaving it by force");
    if settle::is_needed() {
        match wait_for_role(&mut spawn::role("settle"), signals, SETTLE_LIMIT) {
            Ok(Waited::Gone) => {}
            Ok(Waited::StillThere) => log::warn!("the disks do not answer: going without them"),
            Err(error) => log::warn!("cannot write the disks back: {error}"),
        }
    }
    match way {
        Reboot::Kexec | Reboot::Restart => force(signals, Force::Restart),
        Reboot::PowerOff => force(signals, Force::PowerOff),
        // Waiting for the same driver is a halt, too.
        Reboot::Halt => {
            log::error!("the machine is halted, though a driver still holds it");
            leave_at_once(system, way);
        }
    }
}

/// Starts a role and waits for its end.
fn wait_for_role(
    role: &mut std::process::Command,
    signals: &Signals,
    limit: Duration,
) -> io::Result<Waited> {
    let child = role.spawn()?;
    Ok(wait_for(Awaited::Process(child.id()), signals, limit))
}

fn stop_everything(system: &mut impl System, signals: &Signals) {
    // A stopped process sees no SIGTERM, and an interactive shell ignores it.
    for signal in [Signal::Terminate, Signal::HangUp, Signal::Continue] {
        signal_everybody(system, signal);
    }
    if wait_for(Awaited::Everybody, signals, TERMINATE_LIMIT) == Waited::Gone {
        return;
    }
    signal_everybody(system, Signal::Kill);
    if wait_for(Awaited::Everybody, signals, KILL_LIMIT) == Waited::StillThere {
        log::warn!("not waiting for {}", survivors().join(", "));
    }
}

fn signal_everybody(system: &mut impl System, signal: Signal) {
    if let Err(error) = system.signal(Target::Everybody, signal) {
        // That there is nobody is as good.
        log::debug!("cannot send {signal:?} to all processes: {error}");
    }
}

/// Whose end is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Everybody,
    Process(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    Gone,
    StillThere,
}

fn wait_for(awaited: Awaited, signals: &Signals, limit: Duration) -> Waited {
    let deadline = sys::uptime() + limit;
    loop {
        match reap::look() {
            Look::Alone => return Waited::Gone,
            Look::Ended(pid, _) if awaited == Awaited::Process(pid) => return Waited::Gone,
            Look::Ended(..) => continue,
            Look::AllRun => {}
        }
        let left = deadline.saturating_sub(sys::uptime());
        if left.is_zero() {
            return Waited::StillThere;
        }
        signals.wait(None, Some(left));
        for received in signals.received().filter(|received| received.meaning != Meaning::Child) {
            log::debug!("already on the way out, ignoring {received}");
        }
    }
}

/// Processes that even SIGKILL does not end; kernel threads have no session.
fn survivors() -> Vec<String> {
    reap::processes(Path::new("/proc"))
        .filter(|process| process.session != 0 && process.pid != 1)
        .map(|process| process.to_string())
        .collect()
}

/// What the kernel does without asking drivers, see its admin-guide/sysrq.rst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    Restart,
    PowerOff,
}

/// A worker of the kernel turns the power off, a little later.
fn force(signals: &Signals, what: Force) {
    let key = match what {
        Force::Restart => "b",
        Force::PowerOff => "o",
    };
    match fs::write(SYSRQ, key) {
        Ok(()) => outlive(signals, FORCE_LIMIT),
        Err(error) => log::error!("cannot leave this kernel through {SYSRQ}: {error}"),
    }
}

fn outlive(signals: &Signals, limit: Duration) {
    let deadline = sys::uptime() + limit;
    while let Some(left) = deadline.checked_sub(sys::uptime()).filter(|left| !left.is_zero()) {
        signals.wait(None, Some(left));
        signals.received().for_each(|received| log::debug!("ignoring {received}"));
    }
    log::error!("the kernel is still here after {} s", limit.as_secs());
}
