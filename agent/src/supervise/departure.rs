//! Whether this kernel is being left, and after what.

use std::time::Duration;

use crate::sys::Reboot;

/// Whether this kernel is being left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    Staying,
    Later {
        way: Reboot,
        at: Duration,
        after: Reason,
    },
    /// An operator has stopped the countdown.
    Held {
        way: Reboot,
        after: Reason,
    },
    Ordered,
}

/// What this kernel is left after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    GaveUp,
    Updated,
    Hangs { pid: u32 },
    Refused,
}

impl Reason {
    /// For the operator.
    pub(super) fn text(self) -> String {
        match self {
            Self::GaveUp => "boot role gave up (exit status 2)".to_owned(),
            Self::Updated => "the update is done".to_owned(),
            Self::Hangs { pid } => format!("boot role (process {pid}) hangs in the kernel"),
            Self::Refused => "the kernel refused".to_owned(),
        }
    }
}
