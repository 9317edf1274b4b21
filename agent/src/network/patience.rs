//! Waits for something that may take long, and says so.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A card that needs no time to negotiate is ready long before, and a line on a serial console
/// takes time itself.
const FIRST_WORD: Duration = Duration::from_millis(300);

/// As the kernel's own ip= does.
const NEXT_WORD: Duration = Duration::from_secs(10);

/// Called with what is waited for: when the waiting begins to be felt, and again every 10 s. It tells
/// whoever should know.
pub(crate) type OnWait<'a> = &'a dyn Fn(&str);

/// Waits for `event` at most as long as `limit`; [`None`] means that it did not come.
///
/// `what` reads on after "waiting for".
pub(super) async fn wait<T>(
    what: &str,
    limit: Duration,
    on_wait: OnWait<'_>,
    event: impl Future<Output = T>,
) -> Option<T> {
    let mut event = std::pin::pin!(event);
    let started = Instant::now();
    let deadline = started + limit;
    let mut next_word = started + FIRST_WORD;
    loop {
        tokio::select! {
            biased;
            outcome = &mut event => return Some(outcome),
            () = sleep_until(next_word.min(deadline)) => {}
        }
        if Instant::now() >= deadline {
            return None;
        }
        let word = word(what, started.elapsed(), limit);
        on_wait(&word);
        next_word += NEXT_WORD;
    }
}

/// Tells the log.
pub(crate) fn aloud(word: &str) {
    log::info!("{word}");
}

fn word(what: &str, waited: Duration, limit: Duration) -> String {
    format!("waiting for {what} ({} of {} s)", waited.as_secs(), limit.as_secs())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::{pending, ready};

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn what_happens_at_once_is_not_talked_about() {
        let words = RefCell::new(vec![]);
        let on_wait = |word: &str| words.borrow_mut().push(word.to_owned());
        let outcome = run(wait("a carrier", Duration::from_secs(9), &on_wait, ready(7)));
        assert_eq!((outcome, words.into_inner()), (Some(7), vec![]));
    }

    #[test]
    fn what_does_not_happen_is_talked_about_and_given_up() {
        let words = RefCell::new(vec![]);
        let on_wait = |word: &str| words.borrow_mut().push(word.to_owned());
        let outcome = run(wait("a carrier", Duration::from_secs(1), &on_wait, pending::<()>()));
        let expected = vec!["waiting for a carrier (0 of 1 s)".to_owned()];
        assert_eq!((outcome, words.into_inner()), (None, expected));
    }
}
