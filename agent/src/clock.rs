//! Time, as a seam: what waits takes a [`Clock`], so that tests wait for nothing.

use std::time::{Duration, Instant};

/// Monotonic time and waiting.
pub(crate) trait Clock {
    /// Time on the monotonic clock; steps of the wall clock do not move it.
    fn now(&self) -> Instant;

    /// Returns after `pause`.
    async fn sleep(&self, pause: Duration);
}

/// The kernel's monotonic clock; needs a tokio runtime with time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Monotonic;

impl Clock for Monotonic {
    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }
}

/// A clock that only moves when somebody sleeps, and remembers who slept for how long.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct FakeClock {
    start: Instant,
    slept: std::cell::RefCell<Vec<Duration>>,
}

#[cfg(test)]
impl FakeClock {
    /// A clock that has not moved yet.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), slept: std::cell::RefCell::default() }
    }

    /// Every pause so far, in whole seconds.
    pub(crate) fn slept_secs(&self) -> Vec<u64> {
        self.slept.borrow().iter().map(Duration::as_secs).collect()
    }
}

#[cfg(test)]
impl Clock for FakeClock {
    fn now(&self) -> Instant {
        self.start + self.slept.borrow().iter().sum::<Duration>()
    }

    async fn sleep(&self, pause: Duration) {
        self.slept.borrow_mut().push(pause);
        // A server in the same test gets its turn, as it would in a real pause.
        tokio::task::yield_now().await;
    }
}
