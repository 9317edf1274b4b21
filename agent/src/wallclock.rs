//! A floor for the wall clock: it never shows a time before this image was built.
//!
//! A machine with a dead clock battery starts in 1970 or 2000 and would find every certificate "not
//! yet valid". On return the clock shows the time of the build or a later one, or the error says
//! why it could not be set. A time that is only a little wrong is not corrected.
//!
//! The time of the build is a guess, and whoever knows better may [`advance`] the clock from there:
//! a certificate that was issued since does.

use crate::sys::{Linux, System as _};
use crate::utc::Utc;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Is there when the clock's time is a guess, for as long as the machine runs.
const GUESS: &str = "/run/stage2/clock-is-a-guess";

/// What to do about the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Decision {
    /// The clock can be right.
    Keep,
    /// The clock is wrong: set it to this.
    Set(Utc),
}

/// Why the clock is still wrong.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the clock from {now} to {floor}, the time of this image's build")]
pub(crate) struct Error {
    now: Utc,
    floor: Utc,
    source: io::Error,
}

/// Whether a clock that shows `now` can be right, in an image built at `floor`.
pub(crate) fn decide(now: Utc, floor: Utc) -> Decision {
    if now < floor { Decision::Set(floor) } else { Decision::Keep }
}

/// Sets the clock with `set_time` (time since 1970) if it shows a time before `floor`.
pub(crate) fn ensure(
    now: Utc,
    floor: Utc,
    set_time: impl FnOnce(Duration) -> io::Result<()>,
) -> Result<Decision, Error> {
    let decision = decide(now, floor);
    if let Decision::Set(floor) = decision {
        set_time(Duration::from_secs(floor.0)).map_err(|source| Error { now, floor, source })?;
        log::warn!("the clock showed {now}: set to {floor}, the time of this image's build");
    }
    Ok(decision)
}

/// Remembers that the clock's time is a guess.
pub(crate) fn remember_guess() {
    if let Err(error) = fs::write(GUESS, "") {
        log::warn!("cannot create {GUESS}: {error}");
    }
}

/// Whether the clock's time is no more than a guess.
pub(crate) fn is_a_guess() -> bool {
    Path::new(GUESS).exists()
}

/// Puts a clock forward whose time was a guess.
pub(crate) fn advance(to: Utc) {
    let now = Utc::now();
    match Linux.set_clock(SystemTime::UNIX_EPOCH + Duration::from_secs(to.0)) {
        Ok(()) => log::warn!(
            "the clock showed {now}: set to {to}, when the server's certificate was issued"
        ),
        Err(error) => log::warn!("cannot set the clock from {now} to {to}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;

    const BUILT: Utc = Utc(1_700_000_000);

    #[test]
    fn only_a_clock_before_the_build_is_set() {
        for (now, decision, set_to) in [
            (Utc(0), Decision::Set(BUILT), Some(Duration::from_secs(1_700_000_000))),
            (Utc(1_699_999_999), Decision::Set(BUILT), Some(Duration::from_secs(1_700_000_000))),
            (BUILT, Decision::Keep, None),
            (Utc(1_800_000_000), Decision::Keep, None),
        ] {
            let mut set = None;
            let outcome = ensure(now, BUILT, |time| {
                set = Some(time);
                Ok(())
            });
            assert_eq!((outcome.unwrap(), set), (decision, set_to));
        }
    }

    #[test]
    fn a_clock_that_cannot_be_set_is_told_with_both_times() {
        let error = ensure(Utc(0), BUILT, |_| Err(io::Error::other("not permitted"))).unwrap_err();
        assert_eq!(
            Chain(&error).to_string(),
            "cannot set the clock from 1970-01-01 00:00:00 UTC to 2023-11-14 22:13:20 UTC, \
             the time of this image's build: not permitted"
        );
    }
}
