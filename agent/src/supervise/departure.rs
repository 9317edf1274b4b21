//! Whether this kernel is being left, after what, and when.

use std::time::Duration;

use log::Level;

use super::worker::State;
use super::{Flasher, GIVE_UP_AFTER, Hold, Order, Supervisor, doing, needs_operator};
use crate::commands::COMMAND_LIMIT;
use crate::sys::Reboot;

/// Time to read why, on a console that the restart clears.
const RESTART_DELAY: Duration = Duration::from_secs(10);
/// How often it is looked, and said, whether a flasher still runs.
const FLASHER_LOOK: Duration = Duration::from_secs(10);
/// No command of a document takes longer.
const FLASHER_LIMIT: Duration = COMMAND_LIMIT;

/// Whether this kernel is being left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    Staying,
    /// When the time has come, unless this flasher runs then, for which it is waited since then.
    Later {
        way: Reboot,
        at: Duration,
        after: Reason,
        flasher: Option<(u32, Duration)>,
    },
    /// An operator has stopped the countdown.
    Held {
        way: Reboot,
        after: Reason,
    },
    Ordered,
}

impl Departure {
    /// Whether it is not worth while to begin anything. For a flasher it may be hours.
    pub(super) fn is_close(self) -> bool {
        matches!(self, Self::Ordered | Self::Later { flasher: None, .. })
    }
}

/// What this kernel is left after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    GaveUp,
    Fails,
    Updated,
    Hangs { pid: u32 },
    Refused,
}

impl Reason {
    /// For the operator.
    pub(super) fn text(self) -> String {
        match self {
            Self::GaveUp => "boot role gave up (exit status 2)".to_owned(),
            Self::Fails => {
                format!("the boot role has failed for {} h", GIVE_UP_AFTER.as_secs() / 3600)
            }
            Self::Updated => "the update is done".to_owned(),
            Self::Hangs { pid } => format!("boot role (process {pid}) hangs in the kernel"),
            Self::Refused => "the kernel refused".to_owned(),
        }
    }
}

impl Supervisor {
    pub(super) fn leave_now(&mut self, way: Reboot) -> Order {
        self.departure = Departure::Ordered;
        Order::Leave(way)
    }

    pub(super) fn leave_later(&mut self, now: Duration, way: Reboot, after: Reason) -> Order {
        let at = now + RESTART_DELAY;
        self.departure = Departure::Later { way, at, after, flasher: None };
        let (why, seconds) = (after.text(), RESTART_DELAY.as_secs());
        Order::Say(Level::Error, format!("{why}: {} in {seconds} s", doing(way)))
    }

    /// Leaves if it is time, and if that costs no card its ROM.
    pub(super) fn leave_if_due(&mut self, now: Duration) -> Option<Order> {
        let Departure::Later { way, at, after, flasher } = self.departure else { return None };
        if now < at || self.surroundings.hold == Hold::On {
            return None;
        }
        Some(match self.surroundings.flasher {
            Flasher::Running(pid) => {
                let known = flasher.filter(|(known, _)| *known == pid);
                self.wait_for_flasher(now, way, after, known.unwrap_or((pid, now)))
            }
            // Whoever asked for what was refused has decided.
            Flasher::LeftForAnOperator if after != Reason::Refused => {
                self.departure = Departure::Staying;
                needs_operator()
            }
            Flasher::LeftForAnOperator | Flasher::None => self.leave_now(way),
        })
    }

    fn wait_for_flasher(
        &mut self,
        now: Duration,
        way: Reboot,
        after: Reason,
        (pid, since): (u32, Duration),
    ) -> Order {
        if now >= since + FLASHER_LIMIT {
            return self.leave_now(way);
        }
        let at = now + FLASHER_LOOK;
        self.departure = Departure::Later { way, at, after, flasher: Some((pid, since)) };
        let doing = doing(way);
        let text = format!(
            "flasher (process {pid}) may be writing to a card: not {doing} before it has ended"
        );
        Order::Say(Level::Warn, text)
    }

    /// Whoever holds the boot wants to look at this machine, and not at one that restarts. A boot
    /// that failed begins anew when it is let go; other reasons to leave are as good as before.
    pub(super) fn obey_hold(&mut self, now: Duration) -> Vec<Order> {
        if self.surroundings.hold == Hold::On {
            self.failing_since = None;
        }
        match (self.departure, self.surroundings.hold) {
            (Departure::Later { way, after, .. }, Hold::On) => {
                self.departure = Departure::Held { way, after };
                let text =
                    format!("held by the operator, until `stage2 resume`: not {}", doing(way));
                vec![Order::Say(Level::Warn, text)]
            }
            // A resting boot role begins anew by itself, and its first step ends the countdown.
            (Departure::Held { after: Reason::GaveUp | Reason::Fails, .. }, Hold::Off)
                if !matches!(self.boot.state, State::Resting { .. }) =>
            {
                self.departure = Departure::Staying;
                self.retry()
            }
            (Departure::Held { way, after }, Hold::Off) => vec![self.leave_later(now, way, after)],
            _ => vec![],
        }
    }
}
