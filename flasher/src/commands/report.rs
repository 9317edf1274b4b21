//! The end of a command that writes: its report, for people, programs, and whoever collects reports.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use agent_types::flash_report::{FlashEvent, FlashReport, REPORTS_VARIABLE};

use super::SharedOutput;

/// Says the report. Returns the exit code.
pub(super) fn finish(output: &SharedOutput, report: FlashReport) -> u8 {
    let code = report.outcome.exit_code();
    if let Some(file) = std::env::var_os(REPORTS_VARIABLE) {
        let added = add_line(Path::new(&file), &report);
        if let Err(error) = added {
            let text = format!("cannot add the report to {REPORTS_VARIABLE}: {error}");
            output.borrow_mut().line(&text);
        }
    }
    output.borrow_mut().event(&FlashEvent::Report(Box::new(report)));
    code
}

/// Adds a report to a file that others may add to, too.
fn add_line(file: &Path, report: &FlashReport) -> io::Result<()> {
    let mut line = serde_json::to_string(report)?;
    line.push('\n');
    OpenOptions::new().create(true).append(true).open(file)?.write_all(line.as_bytes())
}
