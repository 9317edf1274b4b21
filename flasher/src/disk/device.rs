//! The seam: an open disk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much is read or written at once: also how finely it is decided what to write.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// A part of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extent {
    /// Where it begins.
    pub at: u64,
    /// How long it is.
    pub length: u64,
}

impl Extent {
    /// Where it ends.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.at + self.length
    }

    /// It, in parts of at most [`CHUNK_BYTES`] that do not cross a multiple of that.
    pub fn chunks(self) -> impl Iterator<Item = Self> {
        let mut at = self.at;
        std::iter::from_fn(move || {
            let next = (at / CHUNK_BYTES + 1) * CHUNK_BYTES;
            let chunk = Self { at, length: next.min(self.end()).checked_sub(at)? };
            at = chunk.end();
            (chunk.length > 0).then_some(chunk)
        })
    }

    /// What is left of it without another.
    pub fn without(self, other: Self) -> impl Iterator<Item = Self> {
        let before = Self { at: self.at, length: other.at.min(self.end()).saturating_sub(self.at) };
        let at = other.end().max(self.at);
        let after = Self { at, length: self.end().saturating_sub(at) };
        let whole = other.end() <= self.at || other.at >= self.end();
        let parts = if whole { [self, Self { at: 0, length: 0 }] } else { [before, after] };
        parts.into_iter().filter(|part| part.length > 0)
    }
}

/// Size of a disk and of what it reads and writes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Its size.
    pub size_bytes: u64,
    /// Its logical sector.
    pub sector_bytes: u64,
}

impl Geometry {
    /// The last sector: a GPT keeps its second header there.
    #[must_use]
    pub const fn last_sector(&self) -> Extent {
        Extent { at: self.size_bytes - self.sector_bytes, length: self.sector_bytes }
    }
}

/// A disk. Extents are whole sectors.
pub trait BlockDevice {
    /// Opens it anew, so that nothing but the disk remembers what was written.
    ///
    /// # Errors
    /// It is gone, or somebody else uses it.
    fn reopen(&mut self) -> Result<Geometry, DiskError>;

    /// Reads, past every cache of this machine.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&mut self, extent: Extent) -> Result<Vec<u8>, DiskError>;

    /// Writes.
    ///
    /// # Errors
    /// It is unknown what the extent holds now.
    fn write(&mut self, at: u64, bytes: Vec<u8>) -> Result<(), DiskError>;

    /// On return everything that was written is there after a loss of power.
    ///
    /// # Errors
    /// It is unknown which of it is.
    fn flush(&mut self) -> Result<(), DiskError>;
}

/// What can go wrong with a disk, or with the process that has it open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The kernel said so.
    #[error("cannot {operation}: {why}")]
    Failed {
        /// What was tried.
        operation: String,
        /// What the kernel said.
        why: String,
    },
    /// The time limit was over.
    #[error("no end of {operation} within {} s", limit.as_secs())]
    TimedOut {
        /// What was tried.
        operation: String,
        /// How long it was allowed to take.
        limit: Duration,
    },
    /// The process ended, or never began.
    #[error("the process that works on the disk is gone: {0}")]
    Gone(String),
    /// The process does not die: the kernel waits for the disk.
    #[error("a process that does not die still works on the disk")]
    Stuck,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn extent(at: u64, length: u64) -> Extent {
        Extent { at, length }
    }

    #[test]
    fn chunks_end_at_multiples_of_their_length() {
        let chunks: Vec<Extent> = extent(512, 2 * CHUNK_BYTES).chunks().collect();
        let expected = [
            extent(512, CHUNK_BYTES - 512),
            extent(CHUNK_BYTES, CHUNK_BYTES),
            extent(2 * CHUNK_BYTES, 512),
        ];
        assert_eq!(chunks, expected);
        assert_eq!(extent(7, 0).chunks().count(), 0);
    }

    #[test]
    fn an_extent_without_another_is_what_is_on_either_side() {
        for (other, expected) in [
            (extent(0, 10), vec![extent(10, 10)]),
            (extent(12, 2), vec![extent(10, 2), extent(14, 6)]),
            (extent(5, 10), vec![extent(15, 5)]),
            (extent(15, 50), vec![extent(10, 5)]),
            (extent(20, 5), vec![extent(10, 10)]),
            (extent(10, 10), vec![]),
        ] {
            assert_eq!(extent(10, 10).without(other).collect::<Vec<_>>(), expected, "{other:?}");
        }
    }
}
