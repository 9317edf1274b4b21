//! What people and programs read: lines, a progress bar on a terminal, or a JSON value per line.
//!
//! Who reads may go away while a chip is being written: output that cannot be written is dropped.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use agent_types::flash_report::{FlashEvent, FlashPhase};
use serde::Serialize;

/// Where the output goes, and how it looks.
#[derive(Debug)]
pub struct Output {
    json: bool,
    verbose: bool,
    terminal: bool,
    bar: bool,
    told: Instant,
}

const BAR_CHARS: u64 = 40;

/// Where there is no terminal, a line of progress is told as often.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

impl Output {
    /// `json`: a JSON value per line. `verbose`: libflashrom's messages, too.
    #[must_use]
    pub fn new(json: bool, verbose: bool) -> Self {
        Self {
            json,
            verbose,
            terminal: io::stderr().is_terminal(),
            bar: false,
            told: Instant::now(),
        }
    }

    /// A result: as JSON, or as the text that `text` makes.
    pub fn result(&mut self, value: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            self.json_line(value);
        } else {
            self.end_bar();
            let _gone = writeln!(io::stdout(), "{}", text());
        }
    }

    fn json_line(&self, value: &impl Serialize) {
        let Ok(line) = serde_json::to_string(value) else { return };
        let mut output = io::stdout().lock();
        let _gone = writeln!(output, "{line}").and_then(|()| output.flush());
    }

    /// An event of the procedure.
    pub fn event(&mut self, event: &FlashEvent) {
        if self.json {
            return self.json_line(event);
        }
        match event {
            FlashEvent::Phase { phase } => self.line(&format!("{phase} …")),
            FlashEvent::Progress { phase, done, total } => self.progress(*phase, *done, *total),
            FlashEvent::Note { message } => self.line(message),
            FlashEvent::BackupStored(backup) => {
                self.line(&format!("backup: {} (sha256 {})", backup.path, backup.sha256));
            }
            FlashEvent::Report(report) => {
                self.end_bar();
                let _gone = writeln!(io::stdout(), "{}", report.told());
            }
        }
    }

    /// A line of libflashrom's log.
    pub fn library(&mut self, message: String) {
        if self.json || self.verbose {
            self.event(&FlashEvent::Note { message });
        }
    }

    /// A line for people.
    pub fn line(&mut self, text: &str) {
        self.end_bar();
        let _gone = writeln!(io::stderr(), "flasher: {text}");
    }

    fn progress(&mut self, phase: FlashPhase, done: u64, total: u64) {
        if self.terminal && total > 0 {
            let _gone = write!(io::stderr(), "\r{}", bar(phase, done, total));
            self.bar = true;
        } else if total > 0 && self.told.elapsed() >= TELL_INTERVAL {
            self.line(&format!("{phase}: {done} of {total} bytes"));
            self.told = Instant::now();
        }
    }

    fn end_bar(&mut self) {
        if std::mem::take(&mut self.bar) {
            let _gone = writeln!(io::stderr());
        }
    }
}

fn bar(phase: FlashPhase, done: u64, total: u64) -> String {
    let filled = (done * BAR_CHARS / total).min(BAR_CHARS) as usize;
    let percent = (done * 100 / total).min(100);
    let empty = BAR_CHARS as usize - filled;
    format!("{phase} [{}{}] {percent:3} %", "#".repeat(filled), "-".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_never_leaves_its_frame() {
        let phase = FlashPhase::WriteBody;
        assert!(bar(phase, 1, 2).ends_with("#--------------------]  50 %"));
        assert!(bar(phase, 9, 2).ends_with("#] 100 %"));
        assert!(bar(phase, 0, 2).contains("[-"));
    }
}
