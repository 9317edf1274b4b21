//! Trying again, with growing pauses, until a deadline.
//!
//! Only an error that may go away by itself is tried again. Each failure is one log line: what
//! failed, why, and when the next try is. The last failure is the caller's to report.

use crate::chain::Chain;
use crate::clock::Clock;
use agent_types::redact::redact;
use std::error::Error;
use std::time::{Duration, Instant};

/// How to wait between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The first pause; each later one is twice as long.
    pub(crate) first: Duration,
    /// No pause is longer.
    pub(crate) longest: Duration,
    /// No try begins later than this after the first one.
    pub(crate) deadline: Duration,
}

/// Tells errors that may go away by themselves from those that will not.
pub(crate) trait Transient {
    /// Whether the same try may succeed a little later.
    fn is_transient(&self) -> bool;
}

/// The state between two tries; what a failed try has gained is the caller's to keep.
#[derive(Debug)]
pub(crate) struct Tries<'a, C> {
    clock: &'a C,
    backoff: Backoff,
    started: Instant,
    pause: Duration,
}

impl<'a, C: Clock> Tries<'a, C> {
    /// The first try begins now.
    pub(crate) fn new(clock: &'a C, backoff: Backoff) -> Self {
        Self { clock, backoff, started: clock.now(), pause: backoff.first }
    }

    /// The last try gained something: pauses and deadline begin anew.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::new(self.clock, self.backoff);
    }

    /// How long the next pause will be.
    pub(crate) fn next_pause(&self) -> Duration {
        self.pause
    }

    /// Logs the failure and waits for the next try; or gives the error back if there is none.
    pub(crate) async fn pause_after<E: Error + Transient>(
        &mut self,
        what: &str,
        error: E,
    ) -> Result<(), E> {
        if !error.is_transient() || !self.has_time_left() {
            return Err(error);
        }
        let reason = redact(&Chain(&error).to_string());
        log::warn!("{what}: {reason}; next try in {:.0?}", self.pause);
        self.clock.sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.backoff.longest);
        Ok(())
    }

    /// Whether there is another try after a failure that may go away.
    pub(crate) fn has_time_left(&self) -> bool {
        self.clock.now().duration_since(self.started) + self.pause <= self.backoff.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Failure {
        #[error("server is busy")]
        Busy,
        #[error("no such file")]
        Missing,
    }

    impl Transient for Failure {
        fn is_transient(&self) -> bool {
            *self == Self::Busy
        }
    }

    /// Runs `op` until it succeeds, fails for good, or the backoff ends.
    async fn retry(
        clock: &FakeClock,
        mut op: impl FnMut() -> Result<i32, Failure>,
    ) -> Result<i32, Failure> {
        let mut tries = Tries::new(clock, BACKOFF);
        loop {
            match op() {
                Ok(value) => return Ok(value),
                Err(error) => tries.pause_after("document", error).await?,
            }
        }
    }

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(4),
        deadline: Duration::from_secs(15),
    };

    #[tokio::test]
    async fn pauses_double_up_to_the_longest_and_end_at_the_deadline() {
        let clock = FakeClock::new();
        let end = retry(&clock, || Err(Failure::Busy)).await;
        assert_eq!((end, clock.slept_secs()), (Err(Failure::Busy), vec![1, 2, 4, 4, 4]));
    }

    #[tokio::test]
    async fn what_will_not_go_away_is_not_tried_again() {
        let clock = FakeClock::new();
        let end = retry(&clock, || Err(Failure::Missing)).await;
        assert_eq!((end, clock.slept_secs()), (Err(Failure::Missing), vec![]));
    }

    #[tokio::test]
    async fn the_first_success_ends_it() {
        let clock = FakeClock::new();
        let mut answers = [Err(Failure::Busy), Ok(7)].into_iter();
        let end = retry(&clock, || answers.next().unwrap()).await;
        assert_eq!((end, clock.slept_secs()), (Ok(7), vec![1]));
    }

    #[tokio::test]
    async fn a_gain_begins_the_pauses_anew() {
        let clock = FakeClock::new();
        let mut tries = Tries::new(&clock, BACKOFF);
        tries.pause_after("file", Failure::Busy).await.unwrap();
        tries.pause_after("file", Failure::Busy).await.unwrap();
        tries.begin_anew();
        tries.pause_after("file", Failure::Busy).await.unwrap();
        assert_eq!(clock.slept_secs(), [1, 2, 1]);
    }
}
