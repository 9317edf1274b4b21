//! The way out of this kernel: stop children, links down, sync, unmount, go.
//!
//! Each part is bounded in time, so that PID 1 always gets to the end. It returns only when the
//! kernel refuses to be left; by then everything but PID 1 has been stopped.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::interfaces;
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

const SYSRQ: &str = "/proc/sysrq-trigger";

/// Leaves; returns only with the reason why that did not work.
pub(crate) fn leave(
    system: &mut impl System,
    signals: &Signals,
    way: Reboot,
) -> io::Result<Infallible> {
    stop_everything(system, signals);
    interfaces::all_down(system, Path::new(interfaces::INTERFACES));
    settle(signals);
    let result = system.reboot(way);
    if way == Reboot::Restart {
        force_restart();
    }
    result
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

fn settle(signals: &Signals) {
    if !settle::is_needed() {
        return;
    }
    match spawn::role("settle").spawn() {
        Ok(child) => wait_until_settled(child.id(), signals),
        Err(error) => log::warn!("cannot write the disks back: {error}"),
    }
}

fn wait_until_settled(pid: u32, signals: &Signals) {
    if wait_for(Awaited::Process(pid), signals, SETTLE_LIMIT) == Waited::StillThere {
        log::warn!("the disks do not answer for {SETTLE_LIMIT:?}: going without them");
    }
}

/// The last resort when `reboot(2)` does not restart the machine.
fn force_restart() {
    if let Err(error) = fs::write(SYSRQ, "b") {
        log::error!("cannot restart through {SYSRQ}: {error}");
    }
}
