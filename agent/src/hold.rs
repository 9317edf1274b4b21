//! What the operators' wishes do to the boot role's waiting: it waits longer, or shorter.

use std::error::Error;
use std::time::{Duration, Instant};

use agent_types::redact::redact;

use crate::chain::Chain;
use crate::clock::{Clock, Monotonic};
use crate::retry::{Transient, Tries};
use crate::screen::Consoles;
use crate::status::Status;
use crate::watch::{FOR_AN_OPERATOR, MARGIN, Watch};
use crate::wishes::Wishes;

/// What connects the boot role with operators.
#[derive(Debug)]
pub(crate) struct Operators<'a> {
    /// What they see from elsewhere.
    pub(crate) watch: &'a Watch,
    /// What they see on the consoles.
    pub(crate) consoles: &'a Consoles,
    /// What they want.
    pub(crate) wishes: &'a Wishes,
}

/// Waits for as long as the boot is held, which may be not at all.
pub(crate) async fn obey(wishes: &Wishes, watch: &Watch, before: &str) {
    if !wishes.is_held() {
        return;
    }
    log::warn!("held by the operator before {before}: `stage2 resume` lets the boot go on");
    watch.step("hold", FOR_AN_OPERATOR);
    wishes.until(|wishes| !wishes.is_held() || wishes.is_retry_wanted()).await;
    log::info!("the operator lets the boot go on");
}

/// The clock of pauses that the operator can end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses<'a>(pub(crate) &'a Wishes);

impl Clock for Pauses<'_> {
    fn now(&self) -> Instant {
        Monotonic.now()
    }

    async fn sleep(&self, pause: Duration) {
        tokio::select! {
            () = Monotonic.sleep(pause) => {}
            () = self.0.until(|wishes| wishes.is_held() || wishes.is_retry_wanted()) => {}
        }
    }
}

/// What follows a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next {
    /// The same once more.
    Again,
    /// Everything from the beginning, as the operator wishes.
    Anew,
    /// Nothing: the time for attempts is over.
    GiveUp,
}

/// Waits after a failed attempt at `what`: as long as `tries` says, or as the operator wishes.
pub(crate) async fn pause<E: Error + Transient>(
    tries: &mut Tries<'_, Pauses<'_>>,
    what: &str,
    error: E,
    operators: &Operators<'_>,
) -> Next {
    let Operators { watch, consoles, wishes } = operators;
    watch.pause(tries.next_pause(), tries.next_pause() + MARGIN);
    consoles.show(&Status::now());
    let waited = tries.pause_after(what, error).await;
    if wishes.is_held() {
        obey(wishes, watch, "the next attempt").await;
        return Next::Anew;
    }
    match waited {
        _ if wishes.is_new_attempt_wanted() => Next::Anew,
        Ok(()) => Next::Again,
        Err(error) => {
            log::error!("{what}: {}: giving up", redact(&Chain(&error).to_string()));
            Next::GiveUp
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Backoff;

    #[derive(Debug, thiserror::Error)]
    #[error("no luck")]
    struct NoLuck;

    impl Transient for NoLuck {
        fn is_transient(&self) -> bool {
            true
        }
    }

    /// A pause that nobody would wait for.
    const HOUR: Duration = Duration::from_secs(3600);
    const LONG: Backoff = Backoff { first: HOUR, longest: HOUR, deadline: HOUR.saturating_mul(9) };
    const OVER: Backoff = Backoff { deadline: Duration::ZERO, ..LONG };

    fn wishes() -> (tempfile::TempDir, Wishes) {
        let directory = tempfile::tempdir().unwrap();
        let wishes = Wishes::at(directory.path());
        (directory, wishes)
    }

    async fn next(wishes: &Wishes, backoff: Backoff) -> Next {
        let clock = Pauses(wishes);
        let mut tries = Tries::new(&clock, backoff);
        let (watch, consoles) = (&Watch::from_env(), &Consoles::default());
        let operators = Operators { watch, consoles, wishes };
        pause(&mut tries, "attempt", NoLuck, &operators).await
    }

    #[tokio::test]
    async fn a_retry_ends_the_pause() {
        let (_directory, wishes) = wishes();
        let retry = async { wishes.retry().unwrap() };
        assert_eq!(tokio::join!(next(&wishes, LONG), retry).0, Next::Anew);
    }

    #[tokio::test]
    async fn a_hold_lasts_beyond_the_time_for_attempts_and_then_all_begins_anew() {
        let (_directory, wishes) = wishes();
        wishes.hold().unwrap();
        let resume = async { wishes.resume().unwrap() };
        assert_eq!(tokio::join!(next(&wishes, OVER), resume).0, Next::Anew);
    }

    #[tokio::test]
    async fn without_wishes_the_time_for_attempts_ends() {
        let (_directory, wishes) = wishes();
        assert_eq!(next(&wishes, OVER).await, Next::GiveUp);
        let short = Backoff { first: Duration::ZERO, ..LONG };
        assert_eq!(next(&wishes, short).await, Next::Again);
    }
}
