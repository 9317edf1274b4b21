//! How much is said of strangers: a flood of them must not wash everything else out of the log, nor
//! keep a slow console busy.

use std::time::{Duration, Instant};

/// After this, as much may be said again.
const WINDOW: Duration = Duration::from_secs(60);

/// More than an operator's typing errors and a fleet's probes come to.
const MOST: u32 = 60;

/// Lets through so much in each window.
#[derive(Debug)]
pub(crate) struct Throttle {
    since: Instant,
    passed: u32,
    held_back: u32,
}

/// Whether something may be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Pass {
    /// It may.
    Yes,
    /// It may, after so much that might not.
    YesAfter(u32),
    /// It may not, and this is the first that may not.
    NoMore,
    /// It may not either.
    No,
}

impl Throttle {
    /// A window begins.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, passed: 0, held_back: 0 }
    }

    /// Whether one more thing may be said.
    pub(crate) fn pass(&mut self, now: Instant) -> Pass {
        if now.saturating_duration_since(self.since) >= WINDOW {
            let held_back = self.held_back;
            *self = Self { passed: 1, ..Self::new(now) };
            return if held_back > 0 { Pass::YesAfter(held_back) } else { Pass::Yes };
        }
        if self.passed < MOST {
            self.passed += 1;
            return Pass::Yes;
        }
        self.held_back = self.held_back.saturating_add(1);
        if self.held_back == 1 { Pass::NoMore } else { Pass::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_passes_in_each_window_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        for _ in 0..MOST {
            assert_eq!(throttle.pass(start), Pass::Yes);
        }
        assert_eq!(throttle.pass(start), Pass::NoMore);
        assert_eq!(throttle.pass(start), Pass::No);
        let later = start + WINDOW;
        assert_eq!(throttle.pass(later), Pass::YesAfter(2));
        assert_eq!(throttle.pass(later), Pass::Yes);
        assert_eq!(throttle.pass(later + WINDOW), Pass::Yes);
    }
}
