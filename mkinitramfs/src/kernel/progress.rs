//! Tells how far a kernel build is: every second on a terminal, every ten seconds in a log.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What a build of the `vm` profile prints, for the first build of all.
pub const FIRST_ESTIMATE: usize = 1900;

const ON_TERMINAL: Duration = Duration::from_secs(1);
const IN_LOG: Duration = Duration::from_secs(10);

/// Counts make's steps against an estimate.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    last_shown: Option<Instant>,
    steps: usize,
    expected: usize,
    on_terminal: bool,
}

impl Progress {
    /// Starts to count.
    #[must_use]
    pub fn start(expected: usize) -> Self {
        let on_terminal = io::stderr().is_terminal();
        Self { started: Instant::now(), last_shown: None, steps: 0, expected, on_terminal }
    }

    /// Counts a line of make's output if it is a step, such as `  CC      init/main.o`.
    pub fn line(&mut self, line: &str) {
        self.steps += usize::from(is_step(line));
    }

    /// Shows where the build is, unless it was shown just now.
    pub fn show(&mut self) {
        let every = if self.on_terminal { ON_TERMINAL } else { IN_LOG };
        let since = self.last_shown.unwrap_or(self.started);
        if since.elapsed() >= every {
            self.last_shown = Some(Instant::now());
            let text = text(self.steps, self.expected, self.started.elapsed());
            let shown = if self.on_terminal {
                write!(io::stderr(), "\r{text}\x1b[K")
            } else {
                writeln!(io::stderr(), "{text}")
            };
            // A closed standard error does not stop the build.
            drop(shown);
        }
    }

    /// Ends the line on a terminal; returns the steps counted and the time they took.
    pub fn finish(self) -> (usize, Duration) {
        (self.steps, self.started.elapsed())
    }
}

/// What comes next, an error too, begins a line of its own.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.on_terminal && self.last_shown.is_some() {
            drop(writeln!(io::stderr()));
        }
    }
}

fn is_step(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("  ") else { return false };
    rest.split(' ').next().is_some_and(|word| {
        word.len() >= 2 && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
    })
}

fn text(steps: usize, expected: usize, elapsed: Duration) -> String {
    let expected = expected.max(steps);
    // The first steps configure, and are no measure for those that compile.
    let left = if steps * 20 < expected {
        String::new()
    } else {
        let left = elapsed.mul_f64((expected - steps) as f64 / steps.max(1) as f64);
        format!(", about {} left", minutes(left))
    };
    let elapsed = minutes(elapsed);
    format!("kernel: {steps} of about {expected} steps, {elapsed} elapsed{left}")
}

/// Minutes and seconds.
#[must_use]
pub fn minutes(duration: Duration) -> String {
    format!("{}:{:02}", duration.as_secs() / 60, duration.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_of_make_are_counted() {
        for (line, is_counted) in [
            ("  CC      init/main.o", true),
            ("  LD [M]  x.ko", true),
            ("  HOSTCC  scripts/x", true),
            ("make[1]: Entering directory '/x'", false),
            ("  note: something", false),
            ("", false),
        ] {
            assert_eq!(is_step(line), is_counted, "{line}");
        }
    }

    #[test]
    fn what_is_left_is_in_proportion_to_what_is_done() {
        let minute = Duration::from_secs(60);
        for (steps, expected, shown) in [
            (0, 0, "kernel: 0 of about 0 steps, 1:00 elapsed, about 0:00 left"),
            (4, 100, "kernel: 4 of about 100 steps, 1:00 elapsed"),
            (5, 20, "kernel: 5 of about 20 steps, 1:00 elapsed, about 3:00 left"),
            (30, 20, "kernel: 30 of about 30 steps, 1:00 elapsed, about 0:00 left"),
        ] {
            assert_eq!(text(steps, expected, minute), shown);
        }
    }
}
