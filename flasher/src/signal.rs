//! From the first erase to the end nobody interrupts this process by accident.

use nix::sys::signal::{SigSet, Signal};

/// Ctrl-C, a closed terminal and a polite request to end wait until this is dropped.
#[derive(Debug, Default)]
pub struct Uninterrupted {
    blocked: bool,
}

impl Uninterrupted {
    fn signals() -> SigSet {
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
    }

    /// From now on.
    pub fn begin(&mut self) {
        self.blocked = self.blocked || Self::signals().thread_block().is_ok();
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        if self.blocked {
            // What has waited arrives now.
            let _delivered = Self::signals().thread_unblock();
        }
    }
}
