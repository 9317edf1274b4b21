//! What the console says about a download: one line at its begin, few in between, one at its end.
//!
//! A kernel log knows no carriage return, so progress is whole lines, and a serial console is slow,
//! so they are rare. The words are made by functions of values; the counter only counts.

use crate::size::Size;
use std::time::{Duration, Instant};

/// The first line of progress comes soon, so that the operator sees the rate.
const FIRST_LINE_AFTER: Duration = Duration::from_secs(2);
/// Later ones are for patience only.
const NEXT_LINE_AFTER: Duration = Duration::from_secs(5);

/// Counts the bytes of one file.
#[derive(Debug)]
pub(crate) struct Progress {
    name: String,
    total_bytes: Option<u64>,
    received_bytes: u64,
    started: Instant,
    last_line: Instant,
    bytes_at_last_line: u64,
    line_after: Duration,
}

/// Whether it was time for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Tick {
    /// Too early for the next line.
    Quiet,
    /// A line was logged.
    Told,
}

impl Progress {
    /// Counting begins `now`.
    pub(crate) fn new(name: &str, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            total_bytes: None,
            received_bytes: 0,
            started: now,
            last_line: now,
            bytes_at_last_line: 0,
            line_after: FIRST_LINE_AFTER,
        }
    }

    /// The server has answered: this many bytes are there already, and so many will be in the end.
    pub(crate) fn answered(&mut self, from_bytes: u64, total_bytes: Option<u64>, now: Instant) {
        self.received_bytes = from_bytes;
        self.bytes_at_last_line = from_bytes;
        self.total_bytes = total_bytes;
        self.last_line = now;
    }

    /// `bytes` more have arrived; logs a line if it is time for one.
    pub(crate) fn add(&mut self, bytes: u64, now: Instant) -> Tick {
        self.received_bytes += bytes;
        let since = now.duration_since(self.last_line);
        if since < self.line_after {
            return Tick::Quiet;
        }
        let rate = rate(self.received_bytes - self.bytes_at_last_line, since);
        log::info!("{}", progress_line(&self.name, self.received_bytes, self.total_bytes, rate));
        self.last_line = now;
        self.bytes_at_last_line = self.received_bytes;
        self.line_after = NEXT_LINE_AFTER;
        Tick::Told
    }

    /// All bytes are there and `proof` says what makes them trustworthy.
    pub(crate) fn finish(&self, proof: &str, now: Instant) {
        let took = now.duration_since(self.started);
        log::info!("{}", last_line(&self.name, self.received_bytes, took, proof));
    }
}

/// `fetching kernel from https://host/kernel (64.0 MiB)`
pub(crate) fn first_line(name: &str, url: &str, total_bytes: Option<u64>) -> String {
    match total_bytes {
        Some(total) => format!("fetching {name} from {url} ({})", Size(total)),
        None => format!("fetching {name} from {url} (length not known)"),
    }
}

/// `kernel: 37 % of 64.0 MiB, 21.4 MiB/s, 2 s left`
fn progress_line(name: &str, received: u64, total: Option<u64>, rate: u64) -> String {
    let rate_shown = Size(rate);
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("{name}: {}, {rate_shown}/s", Size(received));
    };
    let percent = u128::from(received) * 100 / u128::from(total);
    let begun = format!("{name}: {percent} % of {}, {rate_shown}/s", Size(total));
    match total.saturating_sub(received).checked_div(rate) {
        Some(seconds) => format!("{begun}, {} left", duration_left(seconds)),
        None => begun,
    }
}

/// `kernel: 64.0 MiB in 3.1 s (20.6 MiB/s), sha256 verified`
fn last_line(name: &str, received: u64, took: Duration, proof: &str) -> String {
    let seconds = took.as_secs_f64();
    let rate = Size(rate(received, took));
    format!("{name}: {} in {seconds:.1} s ({rate}/s), {proof}", Size(received))
}

fn duration_left(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// Bytes per second.
fn rate(bytes: u64, took: Duration) -> u64 {
    let millis = took.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_first_line_names_file_url_and_length() {
        let line = first_line("kernel", "https://h/k", Some(64 * MIB));
        assert_eq!(line, "fetching kernel from https://h/k (64.0 MiB)");
        let line = first_line("kernel", "https://h/k", None);
        assert_eq!(line, "fetching kernel from https://h/k (length not known)");
    }

    #[test]
    fn progress_tells_share_rate_and_time_left() {
        for (received, total, rate, expected) in [
            (24 * MIB, Some(64 * MIB), 20 * MIB, "k: 37 % of 64.0 MiB, 20.0 MiB/s, 2 s left"),
            (MIB, Some(1024 * MIB), MIB, "k: 0 % of 1.0 GiB, 1.0 MiB/s, 17 min left"),
            (MIB, Some(u64::MAX), MIB, "k: 0 % of 17179869183.9 GiB, 1.0 MiB/s, 4886718345 h left"),
            (MIB, Some(2 * MIB), 0, "k: 50 % of 2.0 MiB, 0 B/s"),
            (MIB, None, 512, "k: 1.0 MiB, 512 B/s"),
            (MIB, Some(0), 512, "k: 1.0 MiB, 512 B/s"),
        ] {
            assert_eq!(progress_line("k", received, total, rate), expected);
        }
    }

    #[test]
    fn the_last_line_tells_time_rate_and_proof() {
        let line = last_line("k", 64 * MIB, Duration::from_millis(3100), "sha256 verified");
        assert_eq!(line, "k: 64.0 MiB in 3.1 s (20.6 MiB/s), sha256 verified");
        let line = last_line("k", 0, Duration::ZERO, "sha256 verified");
        assert_eq!(line, "k: 0 B in 0.0 s (0 B/s), sha256 verified");
    }

    #[test]
    fn lines_come_after_two_seconds_and_then_every_five() {
        let start = Instant::now();
        let mut progress = Progress::new("k", start);
        progress.answered(0, Some(100), start);
        let told: Vec<u64> = (1..=14)
            .filter(|second| progress.add(1, start + Duration::from_secs(*second)) == Tick::Told)
            .collect();
        assert_eq!(told, [2, 7, 12]);
    }
}
