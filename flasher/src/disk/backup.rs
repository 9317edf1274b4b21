//! What a rewrite is about to overwrite, in a file, and the disk that it belongs to.
//!
//! A line of JSON, and then the bytes of each piece in its order. What was not going to be written is
//! not in it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use agent_types::digest::Sha256Digest;
use agent_types::disk::Disk;
use agent_types::flash_report::{BackupSummary, digest_text};
use serde::{Deserialize, Serialize};

use super::device::Extent;
use super::image::Content;
use crate::kept::{self, io_error};

/// What the first line begins with.
const MAGIC: &str = "flasher disk backup 1";
/// No first line is longer.
const MOST_HEADER_BYTES: u64 = 64 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    magic: String,
    /// The disk.
    pub disk: Disk,
    /// Digest of the first `length_bytes` of the disk.
    #[serde(with = "digest_text")]
    pub sha256: Sha256Digest,
    /// How much of the disk the image was going to cover.
    pub length_bytes: u64,
    /// What is here, in ascending order.
    pub pieces: Vec<Extent>,
}

impl Header {
    /// Of a backup of these pieces.
    #[must_use]
    pub fn new(disk: Disk, sha256: Sha256Digest, length_bytes: u64, pieces: Vec<Extent>) -> Self {
        Self { magic: MAGIC.to_owned(), disk, sha256, length_bytes, pieces }
    }

    /// How long the file will be, but for this line.
    #[must_use]
    pub fn need_bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.length).sum()
    }
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or kept, or was cut off.
    #[error(transparent)]
    Kept(#[from] kept::Error),
    /// Another kind of file.
    #[error("{} is no backup of a disk", .0.display())]
    NoBackup(PathBuf),
}

/// A backup that is being written; nothing has that name before it is complete. What is on a disk is
/// for its owner only.
#[derive(Debug)]
pub struct Writer(kept::Writer);

impl Writer {
    /// Begins the backup at `path`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path, header: &Header) -> Result<Self, Error> {
        let line =
            serde_json::to_string(header).map_err(|error| io_error("write", path)(error.into()))?;
        let mut file = kept::Writer::create(path, 0o600)?;
        file.append(format!("{line}\n").as_bytes())?;
        Ok(Self(file))
    }

    /// Adds the next bytes of the pieces.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.0.append(bytes)?)
    }

    /// Ends it, and reads it back.
    ///
    /// # Errors
    /// It does not hold what was written.
    pub fn finish(self) -> Result<BackupSummary, Error> {
        Ok(self.0.finish()?)
    }
}

/// A backup that is there.
#[derive(Debug)]
pub struct Backup {
    /// What it is of.
    pub header: Header,
    file: File,
    /// Where the first piece begins.
    data: u64,
}

impl Backup {
    /// Opens a backup, and reads its first line.
    ///
    /// # Errors
    /// It is none, or incomplete.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(io_error("read", path))?;
        let mut line = String::new();
        let mut limited = BufReader::new(&file).take(MOST_HEADER_BYTES);
        let no_backup = || Error::NoBackup(path.to_owned());
        limited.read_line(&mut line).map_err(|_| no_backup())?;
        let header: Header = serde_json::from_str(&line).map_err(|_| no_backup())?;
        if header.magic != MAGIC {
            return Err(no_backup());
        }
        let length = file.metadata().map_err(io_error("read", path))?.len();
        let data = line.len() as u64;
        if length != data + header.need_bytes() {
            return Err(kept::Error::NotStored(path.to_owned()).into());
        }
        Ok(Self { header, file, data })
    }
}

impl Content for Backup {
    fn read(&self, extent: Extent) -> io::Result<Vec<u8>> {
        let mut at = self.data;
        for piece in &self.header.pieces {
            if piece.at <= extent.at && extent.end() <= piece.end() {
                let length = usize::try_from(extent.length).map_err(io::Error::other)?;
                let mut bytes = vec![0; length];
                self.file.read_exact_at(&mut bytes, at + (extent.at - piece.at))?;
                return Ok(bytes);
            }
            at += piece.length;
        }
        Err(io::Error::other(format!("the backup has nothing of byte {}", extent.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::stick;
    use super::*;
    use std::fs;

    const fn extent(at: u64, length: u64) -> Extent {
        Extent { at, length }
    }

    fn header() -> Header {
        let pieces = vec![extent(0, 4), extent(8, 2)];
        Header::new(stick(), [1; 32].into(), 10, pieces)
    }

    fn stored(directory: &Path) -> PathBuf {
        let path = directory.join("backup");
        let mut writer = Writer::create(&path, &header()).unwrap();
        writer.append(b"abcd").unwrap();
        assert!(!path.exists());
        writer.append(b"ij").unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn the_pieces_come_back_by_their_place_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let backup = Backup::open(&stored(directory.path())).unwrap();
        assert_eq!(backup.header, header());
        for (at, length, expected) in [(0, 4, "abcd"), (1, 2, "bc"), (8, 2, "ij"), (9, 1, "j")] {
            assert_eq!(backup.read(extent(at, length)).unwrap(), expected.as_bytes());
        }
        let error = backup.read(extent(3, 2)).unwrap_err().to_string();
        assert_eq!(error, "the backup has nothing of byte 3");
    }

    #[test]
    fn what_is_no_whole_backup_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = stored(directory.path());
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let cut = Backup::open(&path).unwrap_err().to_string();
        assert!(cut.ends_with("does not hold what was written to it"), "{cut}");
        for other in ["", "{}", "\u{0}\n"] {
            fs::write(&path, other).unwrap();
            let error = Backup::open(&path).unwrap_err().to_string();
            assert!(error.ends_with("is no backup of a disk"), "{error}");
        }
    }
}
