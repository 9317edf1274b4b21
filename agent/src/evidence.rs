//! What is left of the boot before this one, for the next report.
//!
//! A hand-over by kexec leaves its log in a file of the next kernel's root ([`LOG`], written by the
//! kexec role). A kernel that died leaves its last words in pstore, where the machine has memory for
//! them; they are looked at in our own ramdisk only, as other systems collect them themselves, and
//! are removed when a report with them has arrived.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use agent_types::redact::redact;

use crate::kernel_log::KernelLog;
use crate::pid1::Pid1;
use crate::screen::screen;
use crate::status::Status;

/// Where the next kernel's root has this boot's log: nothing is mounted there, and no distribution
/// has a symbolic link there that the kernel would replace.
pub(crate) const LOG: &str = "/stage2/previous-boot.log";
const PSTORE: &str = "/sys/fs/pstore";

/// More than any boot says; a report of this size is taken by every server.
pub(crate) const LONGEST_BYTES: usize = 64 * 1024;

const WIDTH: usize = 80;

/// What this boot leaves to the next one: its state, then the end of its log.
pub(crate) fn of_this_boot() -> io::Result<String> {
    let mut log = KernelLog::open()?;
    let mut lines = screen(&Status::now(), WIDTH);
    while let Some(record) = log.next()? {
        lines.push(record.to_string());
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    Ok(end_of(&text, LONGEST_BYTES).to_owned())
}

/// The last whole lines that fit.
fn end_of(text: &str, most_bytes: usize) -> &str {
    let Some(surplus) = text.len().checked_sub(most_bytes).filter(|surplus| *surplus > 0) else {
        return text;
    };
    let cut = (surplus..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let rest = text.split_at(cut).1;
    rest.split_once('\n').map_or("", |(_, whole)| whole)
}

/// The traces of earlier boots, to be sent once.
#[derive(Debug)]
pub(crate) struct Evidence {
    log: PathBuf,
    /// None where it is not ours.
    pstore: Option<PathBuf>,
    /// Records of pstore that the report under way tells whole.
    told: RefCell<Vec<PathBuf>>,
    log_has_arrived: Cell<bool>,
}

impl Evidence {
    /// Those of this machine.
    pub(crate) fn of_this_machine() -> Self {
        let pstore = (Pid1::find() == Pid1::Ours).then(|| PSTORE.into());
        Self::new(LOG.into(), pstore)
    }

    fn new(log: PathBuf, pstore: Option<PathBuf>) -> Self {
        Self { log, pstore, told: RefCell::default(), log_has_arrived: Cell::new(false) }
    }

    /// Additional fields of a report, without secrets and without what has arrived. Records that are
    /// too many for one report go with the next one.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let log = match self.log_has_arrived.get() {
            true => String::new(),
            false => read_end(&self.log).unwrap_or_default(),
        };
        let fields = [("debug.previous_boot", log), ("debug.pstore", self.last_words())];
        let fields = fields.into_iter().filter(|(_, text)| !text.is_empty());
        fields.map(|(name, text)| (name, redact(&text))).collect()
    }

    /// A report with these fields has arrived.
    pub(crate) fn arrived(&self) {
        for record in self.told.take() {
            if let Err(error) = fs::remove_file(&record) {
                log::debug!("cannot remove {}: {error}", record.display());
            }
        }
        self.log_has_arrived.set(true);
    }

    fn last_words(&self) -> String {
        let (mut words, mut told) = (String::new(), vec![]);
        for record in self.records() {
            let name = record.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(text) = read_end(&record) else { continue };
            if !told.is_empty() && words.len() + text.len() > LONGEST_BYTES {
                break;
            }
            words.push_str(&format!("{name}:\n{text}\n"));
            told.push(record);
        }
        self.told.replace(told);
        words
    }

    fn records(&self) -> Vec<PathBuf> {
        let entries = self.pstore.iter().filter_map(|pstore| fs::read_dir(pstore).ok());
        let mut records: Vec<_> = entries.flatten().flatten().map(|entry| entry.path()).collect();
        records.sort();
        records
    }
}

/// The end of a file that may not be text.
fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    // pstore's files tell their length only to those who read them.
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_BYTES as u64)))?;
    let mut bytes = Vec::new();
    file.take(LONGEST_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(directory: &Path) -> Evidence {
        let pstore = Some(directory.join("pstore"));
        Evidence::new(directory.join("log"), pstore)
    }

    #[test]
    fn evidence_is_sent_without_secrets_and_until_it_has_arrived() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = evidence(directory.path());
        assert_eq!(evidence.fields(), []);
        fs::write(directory.path().join("log"), "x=1 token=abc\n").unwrap();
        fs::create_dir(directory.path().join("pstore")).unwrap();
        fs::write(directory.path().join("pstore/dmesg-ramoops-1"), "one").unwrap();
        fs::write(directory.path().join("pstore/dmesg-ramoops-0"), "zero").unwrap();
        let expected = [
            ("debug.previous_boot", "x=1 token=…\n".to_owned()),
            ("debug.pstore", "dmesg-ramoops-0:\nzero\ndmesg-ramoops-1:\none\n".to_owned()),
        ];
        assert_eq!(evidence.fields(), expected);
        assert_eq!(evidence.fields(), expected);
        evidence.arrived();
        assert_eq!(evidence.fields(), []);
        assert_eq!(fs::read_dir(directory.path().join("pstore")).unwrap().count(), 0);
    }

    #[test]
    fn records_that_no_report_has_told_stay() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = evidence(directory.path());
        let pstore = directory.path().join("pstore");
        fs::create_dir(&pstore).unwrap();
        for (name, length) in [("0", LONGEST_BYTES), ("1", 100), ("2", 100)] {
            fs::write(pstore.join(name), "x".repeat(length)).unwrap();
        }
        for (first, count) in [("0:\n", 2), ("1:\n", 0)] {
            let fields = evidence.fields();
            assert!(fields[0].1.starts_with(first));
            fs::write(pstore.join("late"), "").unwrap();
            evidence.arrived();
            let left = fs::read_dir(&pstore).unwrap().count();
            assert_eq!(left, count + 1, "what came meanwhile stays, too");
            fs::remove_file(pstore.join("late")).unwrap();
        }
        assert_eq!(evidence.fields(), []);
    }

    #[test]
    fn a_long_log_keeps_its_end_in_whole_lines() {
        for (text, most, expected) in [
            ("a\nb\n", 4, "a\nb\n"),
            ("a\nbc\nd\n", 4, "d\n"),
            ("é\né\n", 4, "é\n"),
            ("a\nb", 1, ""),
            ("", 1, ""),
        ] {
            assert_eq!(end_of(text, most), expected, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_text_is_read_up_to_the_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, vec![0xff; LONGEST_BYTES + 5]).unwrap();
        assert_eq!(read_end(file.path()).unwrap().chars().count(), LONGEST_BYTES);
    }
}
