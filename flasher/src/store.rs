//! Backups and the journal: what the next run must know when this one does not end.
//!
//! A directory per machine, a journal per card.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use agent_types::digest::Sha256Digest;
use agent_types::flash_report::{BackupSummary, FlashOutcome, FlashPhase, digest_text};
use agent_types::rom::sha256;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::chip::{Chip, Region};
use crate::kept::{self, io_error};

/// What was begun on a card, and how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The card, as it was named.
    pub card: String,
    /// The chip.
    pub chip: Chip,
    /// Where the image goes, in whole erase blocks.
    pub extent: Region,
    /// Digest of what the chip shall hold.
    #[serde(with = "digest_text")]
    pub target_sha256: Sha256Digest,
    /// What the chip held before.
    pub backup: BackupSummary,
    /// The phase that was begun last.
    pub phase: FlashPhase,
    /// How it ended; absent if it has not.
    pub outcome: Option<FlashOutcome>,
}

impl Journal {
    /// May the chip hold neither the old content nor the new?
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.outcome, None | Some(FlashOutcome::Degraded { .. }))
    }
}

/// What cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error(transparent)]
    Kept(#[from] kept::Error),
    /// Another process works on the card.
    #[error("another flasher works on {0}")]
    Busy(String),
}

/// Where the backups and the journal of one card are. Holds the card's lock.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    card: String,
    _lock: Flock<File>,
}

impl Store {
    /// Opens the store of `card` under `directory`, and keeps others away from the card.
    ///
    /// # Errors
    /// The directory cannot be made, or another process works on the card.
    pub fn open(directory: &Path, card: &str) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(io_error("create", directory))?;
        let path = directory.join(format!("{}.lock", file_name(card)));
        let file = File::create(&path).map_err(io_error("create", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| Error::Busy(card.to_owned()))?;
        Ok(Self { directory: directory.to_owned(), card: card.to_owned(), _lock: lock })
    }

    fn journal_path(&self) -> PathBuf {
        self.directory.join(format!("{}.journal.json", file_name(&self.card)))
    }

    /// Keeps `content` at `path`, or under a name of its own, and reads it back.
    ///
    /// # Errors
    /// It cannot be stored; then nothing may be erased.
    pub fn keep(&self, content: &[u8], path: Option<&Path>) -> Result<BackupSummary, Error> {
        let sha256 = sha256(content);
        let own = format!("{}-{}.bin", file_name(&self.card), &sha256.to_string()[..16]);
        let path = path.map_or_else(|| self.directory.join(own), Path::to_owned);
        Ok(kept::keep(&path, content)?)
    }

    /// Writes the journal.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, journal: &Journal) -> Result<(), Error> {
        let path = self.journal_path();
        let json = serde_json::to_vec_pretty(journal)
            .map_err(|error| io_error("write", &path)(error.into()))?;
        kept::keep(&path, &json)?;
        Ok(())
    }

    /// What an earlier run left behind, if it did not end well.
    #[must_use]
    pub fn open_journal(&self) -> Option<Journal> {
        self.journal().filter(Journal::is_open)
    }

    /// What an earlier run wrote.
    #[must_use]
    pub fn journal(&self) -> Option<Journal> {
        read_journal(&self.journal_path())
    }
}

/// The backup's bytes, if they are those that were stored.
#[must_use]
pub fn read_backup(backup: &BackupSummary) -> Option<Vec<u8>> {
    fs::read(&backup.path).ok().filter(|content| sha256(content) == backup.sha256)
}

/// Every journal under `directory`, by card.
#[must_use]
pub fn journals(directory: &Path) -> Vec<Journal> {
    let mut journals: Vec<Journal> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".journal.json"))
        .filter_map(|path| read_journal(&path))
        .collect();
    journals.sort_by(|left, right| left.card.cmp(&right.card));
    journals
}

fn read_journal(path: &Path) -> Option<Journal> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// A card's name as part of a file's name: short, and different for different cards.
fn file_name(card: &str) -> String {
    const MOST_CHARS: usize = 60;
    let safe: String = card
        .chars()
        .take(MOST_CHARS)
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    format!("{safe}-{}", &sha256(card.as_bytes()).to_string()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_has_one_flasher_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Store::open(directory.path(), "mtd:1").unwrap();
        let second = Store::open(directory.path(), "mtd:1").unwrap_err();
        assert_eq!(second.to_string(), "another flasher works on mtd:1");
        assert!(Store::open(directory.path(), "mtd:2").is_ok());
        drop(first);
        assert!(Store::open(directory.path(), "mtd:1").is_ok());
    }

    #[test]
    fn a_backup_that_was_changed_is_no_backup() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), "mtd:1").unwrap();
        let backup = store.keep(b"old", None).unwrap();
        assert_eq!(read_backup(&backup), Some(b"old".to_vec()));
        fs::write(&backup.path, b"OLD").unwrap();
        assert_eq!(read_backup(&backup), None);
    }

    #[test]
    fn a_backup_that_cannot_be_stored_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), "mtd:1").unwrap();
        let error = store.keep(b"old", Some(Path::new("/proc/backup"))).unwrap_err();
        assert_eq!(error.to_string(), "cannot create /proc/backup.part");
    }
}
