//! One role that PID 1 keeps running: how far it is, and how long it pauses after a failure.

use std::time::Duration;

use super::Order;

/// A role that lived this long was healthy: its next failure is a first one.
const HEALTHY_AFTER: Duration = Duration::from_secs(300);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// With so many failures in a row the operator gets a shell.
const HOPELESS: u32 = 5;

/// What PID 1 keeps running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Fetches and enters the next kernel.
    Boot,
    /// Lets the operator in over the network.
    Rescue,
    /// Lets the operator in on the console when nothing else does.
    Shell,
}

impl Role {
    /// Its name on the command line and in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Rescue => "rescue",
            Self::Shell => "shell",
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Off,
    Starting,
    Running {
        pid: u32,
        since: Duration,
    },
    Pausing {
        until: Duration,
    },
    /// Through, and running only for the network or for keys.
    Resting {
        pid: u32,
    },
    Done,
}

/// A role that PID 1 keeps running.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) role: Role,
    pub(super) state: State,
    /// Failures in a row.
    failures: u32,
}

impl Worker {
    pub(super) fn new(role: Role) -> Self {
        Self { role, state: State::Off, failures: 0 }
    }

    pub(super) fn start(&mut self) -> Order {
        self.state = State::Starting;
        Order::Start(self.role)
    }

    pub(super) fn is(&self, process: u32) -> bool {
        match self.state {
            State::Running { pid, .. } | State::Resting { pid } => pid == process,
            _ => false,
        }
    }

    pub(super) fn has_lived(&self, now: Duration, least: Duration) -> bool {
        matches!(self.state, State::Running { since, .. } if now >= since + least)
    }

    /// Counts the failure and answers with the pause before the next start.
    pub(super) fn fail(&mut self, now: Duration) -> Duration {
        if self.has_lived(now, HEALTHY_AFTER) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let pause = pause_after(self.failures);
        self.state = State::Pausing { until: now + pause };
        pause
    }

    pub(super) fn is_alive_or_promising(&self) -> bool {
        let is_through = matches!(self.state, State::Off | State::Resting { .. } | State::Done);
        !is_through && self.failures < HOPELESS
    }
}

/// 1, 2, 4, … seconds.
fn pause_after(failures: u32) -> Duration {
    let seconds = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST_PAUSE)
}
