//! What flashers that a boot document's commands start say about their cards and disks.
//!
//! Each adds a line of JSON to a file whose name it finds in its environment. A flasher may outlive the
//! boot role, and what it says then counts for the next one.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use agent_types::flash_report::{FlashReport, REPORTS_VARIABLE};

const FILE: &str = "flash-reports";

/// The reports of one attempt.
#[derive(Debug)]
pub(crate) struct FlashReports {
    file: PathBuf,
}

impl FlashReports {
    /// What an earlier attempt, or an earlier boot role, has left in `dir` for an operator.
    pub(crate) fn left_for_an_operator(dir: &Path) -> Option<FlashReport> {
        for_an_operator(Self { file: dir.join(FILE) }.read())
    }

    /// An operator has seen what was left.
    pub(crate) fn forget(dir: &Path) {
        if let Err(error) = remove(&dir.join(FILE)) {
            log::warn!("cannot forget reports of flashers in {}: {error}", dir.display());
        }
    }

    /// An empty collection in `dir`, which others may write to: the file is ours before any command
    /// adds to it.
    pub(crate) fn begin(dir: &Path) -> Self {
        let file = dir.join(FILE);
        if let Err(error) = replace_with_empty(&file) {
            log::warn!("cannot collect reports of flashers in {}: {error}", file.display());
        }
        Self { file }
    }

    /// What commands find in their environment.
    pub(crate) fn variable(&self) -> (String, String) {
        (REPORTS_VARIABLE.to_owned(), self.file.display().to_string())
    }

    /// What was reported so far.
    pub(crate) fn read(&self) -> Vec<FlashReport> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn replace_with_empty(file: &Path) -> io::Result<()> {
    remove(file)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map(drop)
}

/// The reports as text behind the state of the document; nothing if there are none.
pub(crate) fn shown(reports: &[FlashReport]) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let json = serde_json::to_string_pretty(&serde_json::json!({ "flash": reports }));
    format!("\n{}", json.unwrap_or_default())
}

/// Of the card or the disk that a person must look at.
pub(crate) fn for_an_operator(reports: Vec<FlashReport>) -> Option<FlashReport> {
    reports.into_iter().find(|report| report.outcome.needs_operator())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(card: &str, outcome: &str) -> String {
        format!(
            r#"{{"outcome":"{outcome}","why":"w","restore_from":null,"card":"{card}","pci_id":null,
               "programmer":"p","chip":null,"rom":null,"previous":null,"backup":null,
               "blocks_changed":0,"phases":[]}}"#
        )
        .replace('\n', "")
    }

    #[test]
    fn reports_are_those_of_this_attempt() {
        let directory = tempfile::tempdir().unwrap();
        let reports = FlashReports::begin(directory.path());
        assert_eq!(reports.read(), []);
        assert_eq!(shown(&reports.read()), "");
        let (_, file) = reports.variable();
        fs::write(
            &file,
            report("mtd:1", "programmed") + "\n" + &report("mtd:2", "degraded") + "\nx",
        )
        .unwrap();
        let read = reports.read();
        assert_eq!(read.len(), 2);
        assert!(shown(&read).contains("\"outcome\": \"degraded\""), "{}", shown(&read));
        assert_eq!(for_an_operator(read).unwrap().card, "mtd:2");
        let left = || FlashReports::left_for_an_operator(directory.path());
        assert_eq!(left().unwrap().card, "mtd:2");
        assert_eq!(FlashReports::begin(directory.path()).read(), []);
        assert_eq!(left(), None);
        fs::write(&file, report("mtd:2", "degraded")).unwrap();
        FlashReports::forget(directory.path());
        assert_eq!(left(), None);
    }
}
