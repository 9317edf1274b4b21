//! A machine's serial console: what it has said so far, when, and waiting for what it says next.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::terminal::PlainText;

/// How long a line may take; emulation on a busy machine is slow.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How many lines of a console are shown when something is missing.
const TAIL_LINES: usize = 60;

/// Text that was found on a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Time since the machine was started.
    pub at: Duration,
    /// The whole line that has the text in it, as far as it has come.
    pub line: String,
}

/// Why a text was not found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not come within the bound.
    #[error("expected {expected:?} on the console within {seconds} s")]
    Late {
        /// What was waited for.
        expected: String,
        /// For how long.
        seconds: u64,
    },
    /// The console closed, because the machine ended.
    #[error("expected {expected:?} on the console, but the machine has ended")]
    Closed {
        /// What was waited for.
        expected: String,
    },
    /// It came although it must not.
    #[error("expected nothing like {unexpected:?} on the console, got {line:?}")]
    Unexpected {
        /// What must not come.
        unexpected: String,
        /// The line that has it.
        line: String,
    },
}

/// The console's text; clones see the same text, each from its own place on.
#[derive(Clone)]
pub struct Console {
    shared: Arc<Shared>,
    /// How much of the text has been looked at.
    position: usize,
}

struct Shared {
    transcript: Mutex<Transcript>,
    changed: Condvar,
}

#[derive(Default)]
struct Transcript {
    text: String,
    /// The bytes as they came.
    raw: Vec<u8>,
    /// Up to which byte the text had come at which time.
    arrivals: Vec<(usize, Duration)>,
    closed: bool,
}

impl Console {
    /// Starts to read a console; `started` is its time zero.
    pub(crate) fn read(
        mut source: impl Read + Send + 'static,
        started: Instant,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { transcript: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new().name("console".to_owned()).spawn(move || {
            let mut plain = PlainText::default();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                let bytes = &buffer[..count];
                writer.append(&plain.feed(bytes), bytes, started.elapsed());
            }
            writer.lock().closed = true;
            writer.changed.notify_all();
        })?;
        Ok(Self { shared, position: 0 })
    }

    /// The same console, to be looked at from its first line on.
    #[must_use]
    pub fn from_start(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), position: 0 }
    }

    /// Waits for `text` after what was found last; at most [`PATIENCE`].
    pub fn expect(&mut self, text: &str) -> Result<Found, Error> {
        self.expect_within(PATIENCE, text)
    }

    /// Waits for `text` after what was found last.
    pub fn expect_within(&mut self, bound: Duration, text: &str) -> Result<Found, Error> {
        let (found, end) = self.wait(bound, text)?;
        self.position = end;
        Ok(found)
    }

    /// Waits for each of `texts`, one after the other.
    pub fn expect_in_order(&mut self, texts: &[&str]) -> Result<Vec<Found>, Error> {
        texts.iter().map(|text| self.expect(text)).collect()
    }

    /// Holds if no line so far has `text` in it.
    pub fn has_no(&self, text: &str) -> Result<(), Error> {
        match self.lines().into_iter().find(|line| line.contains(text)) {
            None => Ok(()),
            Some(line) => Err(Error::Unexpected { unexpected: text.to_owned(), line }),
        }
    }

    /// Waits until the console is closed; whether it was within `bound`.
    #[must_use]
    pub fn closes_within(&self, bound: Duration) -> bool {
        let transcript = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(transcript, bound, |now| !now.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.shared.lock().text.lines().map(str::to_owned).collect()
    }

    /// Every byte so far, as a terminal gets them.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.lock().raw.clone()
    }

    /// The next complete line; `None` when the console is closed or `bound` is over.
    pub fn next_line(&mut self, bound: Duration) -> Option<Found> {
        let (found, end) = self.wait(bound, "\n").ok()?;
        self.position = end;
        Some(found)
    }

    /// Whether the machine has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// The last lines, for an operator who wants to know what went wrong.
    #[must_use]
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let first = lines.len().saturating_sub(TAIL_LINES);
        lines[first..].join("\n")
    }

    fn wait(&self, bound: Duration, text: &str) -> Result<(Found, usize), Error> {
        let deadline = Instant::now() + bound;
        let mut transcript = self.shared.lock();
        loop {
            if let Some(found) = transcript.find(self.position, text) {
                return Ok(found);
            }
            if transcript.closed {
                return Err(Error::Closed { expected: text.to_owned() });
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                let seconds = bound.as_secs();
                return Err(Error::Late { expected: text.to_owned(), seconds });
            };
            let waited = self.shared.changed.wait_timeout(transcript, left);
            transcript = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Transcript> {
        self.transcript.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, text: &str, raw: &[u8], at: Duration) {
        let mut transcript = self.lock();
        transcript.raw.extend_from_slice(raw);
        transcript.text += text;
        let end = transcript.text.len();
        transcript.arrivals.push((end, at));
        drop(transcript);
        self.changed.notify_all();
    }
}

impl Transcript {
    /// The first `text` from byte `position` on, and the byte after it.
    fn find(&self, position: usize, text: &str) -> Option<(Found, usize)> {
        let start = position + self.text.get(position..)?.find(text)?;
        let end = start + text.len();
        let arrival = self.arrivals.partition_point(|(upto, _)| *upto < end);
        let (_, at) = self.arrivals.get(arrival)?;
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default().to_owned();
        Some((Found { at: *at, line }, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console_of(text: &'static str) -> Console {
        Console::read(text.as_bytes(), Instant::now()).unwrap()
    }

    #[test]
    fn texts_are_found_in_order_and_a_prompt_needs_no_newline() {
        let mut console = console_of("one\r\ntwo\r\nlogin: ");
        let lines: Vec<String> = console
            .expect_in_order(&["one", "wo", "login:"])
            .unwrap()
            .into_iter()
            .map(|found| found.line)
            .collect();
        assert_eq!(lines, ["one", "two", "login: "]);
    }

    #[test]
    fn what_was_found_once_is_not_found_again_and_an_ended_machine_fails_at_once() {
        let mut console = console_of("one\n");
        console.expect("one").unwrap();
        let error = console.expect("one").unwrap_err();
        assert_eq!(error.to_string(), "expected \"one\" on the console, but the machine has ended");
    }
}
