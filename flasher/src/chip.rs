//! The seam to a flash chip.
//!
//! A chip is read and written by [`FlashChip`]; the procedure in `flash` knows nothing else of
//! it. Behind the seam stand a process per operation (`helper`) and a chip for tests (`fake`).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A chip as the backend identified it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chip {
    /// Who made it.
    pub vendor: String,
    /// Its name in the backend's tables.
    pub name: String,
    /// Its size.
    pub size_bytes: usize,
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} KiB)", self.vendor, self.name, self.size_bytes / 1024)
    }
}

/// Bytes of a chip: from `start`, up to but not including `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Region {
    /// First byte.
    pub start: usize,
    /// First byte after it.
    pub end: usize,
}

impl Region {
    /// The region as an index.
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// How many bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// No byte at all?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Is all of `other` in this region?
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Is any byte in both?
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// As flashrom's layouts are written: the last byte is part of it.
impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}:{:#x}", self.start, self.end.saturating_sub(1))
    }
}

/// Why a text is no [`Region`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected START:END in bytes, the last one included, got {0:?}")]
pub struct ParseRegionError(String);

/// `START:END`, hexadecimal with or without `0x`, END included: as flashrom's layout files.
impl FromStr for Region {
    type Err = ParseRegionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            usize::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
        };
        text.split_once(':')
            .and_then(|(start, last)| {
                let region = Self { start: number(start)?, end: number(last)?.checked_add(1)? };
                (!region.is_empty()).then_some(region)
            })
            .ok_or_else(|| ParseRegionError(text.to_owned()))
    }
}

/// Sorts regions and joins those that touch.
#[must_use]
pub fn joined(mut regions: Vec<Region>) -> Vec<Region> {
    regions.sort_unstable();
    let mut joined: Vec<Region> = Vec::new();
    for region in regions {
        match joined.last_mut() {
            Some(last) if region.start <= last.end => last.end = last.end.max(region.end),
            _ => joined.push(region),
        }
    }
    joined
}

/// What of a chip may not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteProtection {
    /// Nothing is protected.
    Off,
    /// A range is protected.
    On {
        /// The protected bytes.
        region: Region,
        /// By a pin, for good, or only by the chip's registers?
        mode: String,
    },
    /// The backend cannot tell for this chip.
    Unknown,
}

/// One write: the chip shall hold `image` in `regions` afterwards, and be unchanged elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Whole erase blocks, or pages of erased blocks.
    pub regions: &'a [Region],
    /// What may be erased for it; an erase of anything else is stopped.
    pub may_erase: &'a [Region],
    /// The whole chip, as it shall be.
    pub image: &'a [u8],
    /// The whole chip, as it is known to be.
    pub current: &'a [u8],
}

/// A flash chip.
pub trait FlashChip {
    /// Which chip is there? Every later operation insists on the same one.
    ///
    /// # Errors
    /// None, several, one that is unknown, or the programmer does not work.
    fn probe(&mut self) -> Result<Chip, ChipError>;

    /// What of it may not be written?
    ///
    /// # Errors
    /// The chip does not answer.
    fn write_protection(&mut self) -> Result<WriteProtection, ChipError>;

    /// Reads `regions` into a buffer of the chip's size; what is outside of them is not read and
    /// means nothing.
    ///
    /// # Errors
    /// The chip does not answer.
    fn read(&mut self, regions: &[Region]) -> Result<Vec<u8>, ChipError>;

    /// How is the chip divided into erase blocks? `content` is what the chip holds.
    ///
    /// # Errors
    /// The chip does not answer.
    fn erase_blocks(&mut self, content: &[u8]) -> Result<Vec<Region>, ChipError>;

    /// Writes, and has it verified by whatever the backend has for it. `progress` is told how
    /// many bytes are done.
    ///
    /// # Errors
    /// The state of `write.regions` is unknown, unless the error says that nothing was begun.
    fn write(&mut self, write: &Write<'_>, progress: &mut dyn FnMut(u64)) -> Result<(), ChipError>;
}

/// Return codes of `flashrom_image_write`, as `libflashrom.h` lists them and 1.3.0 gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WriteError {
    /// The chip refused before the first erase.
    #[error("the chip could not be prepared; nothing was erased")]
    NotStarted,
    /// The image and the chip differ in size.
    #[error("image and chip differ in size; nothing was erased")]
    SizeMismatch,
    /// The library's own verification found something else than what it wrote.
    #[error("the chip does not hold what was written")]
    NotVerified,
    /// An erase or a program failed on the way.
    #[error("erasing or programming failed")]
    Corrupted,
    /// A code that the header does not list.
    #[error("the library returned {0}")]
    Unknown(i32),
}

/// What can go wrong with a chip, or with the process that works on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChipError {
    /// The programmer did not start.
    #[error("cannot open programmer {programmer}: {said}")]
    Programmer {
        /// Which.
        programmer: String,
        /// Its last words.
        said: String,
    },
    /// No chip answers.
    #[error("no flash chip answers")]
    NoChip,
    /// More than one chip's description fits.
    #[error("several chips match: {}", names.join(", "))]
    SeveralChips {
        /// Their names.
        names: Vec<String>,
    },
    /// A chip that nobody knows: its size or maker is not known.
    #[error("unknown chip: {0}")]
    UnknownChip(Chip),
    /// The chip is not the one that was identified before.
    #[error("expected {expected}, got {found}")]
    AnotherChip {
        /// Identified before.
        expected: Chip,
        /// Found now.
        found: Chip,
    },
    /// Probing failed.
    #[error("cannot probe: the library returned {0}")]
    Probe(i32),
    /// A region is not on the chip.
    #[error("cannot select the regions: the library returned {0}")]
    Layout(i32),
    /// Reading failed.
    #[error("cannot read the chip: the library returned {0}")]
    Read(i32),
    /// The protection cannot be read although the chip has one.
    #[error("cannot read the write protection: the library returned {0}")]
    Protection(u32),
    /// Writing failed.
    #[error("cannot write the chip: {0}")]
    Write(WriteError),
    /// The library was about to try a larger erase than was asked for, and was stopped.
    #[error("erasing failed, and the library was stopped before it erased more than asked for")]
    EscalationStopped,
    /// The chip's block protection stands, and the library was stopped before it wrote.
    #[error("the chip's block protection cannot be removed")]
    ProtectionStands,
    /// The time limit was over.
    #[error("no end of {operation} within {} s; its process was killed", limit.as_secs())]
    TimedOut {
        /// What was going on.
        operation: String,
        /// How long it was allowed to.
        limit: Duration,
    },
    /// A process that cannot be killed still holds the chip.
    #[error("a process that does not die still works on the chip")]
    Stuck,
    /// The process ended without a result.
    #[error("the process of {operation} ended without a result: {how}")]
    Died {
        /// What was going on.
        operation: String,
        /// Its exit status, or what it said.
        how: String,
    },
    /// The process did not start, or could not be talked to.
    #[error("cannot work with the process of {operation}: {why}")]
    Process {
        /// What was going on.
        operation: String,
        /// The cause.
        why: String,
    },
    /// The backend does not do this.
    #[error("{0}")]
    Unsupported(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_written_as_in_a_layout_file() {
        let region: Region = "0x100000:0x1125ff".parse().unwrap();
        assert_eq!(region, Region { start: 0x10_0000, end: 0x11_2600 });
        assert_eq!(region.to_string(), "0x100000:0x1125ff");
        assert_eq!("1000:1fff".parse::<Region>().unwrap().len(), 0x1000);
        for wrong in ["", "1", "2:1", "0:ffffffffffffffff", "x:y", "-1:4"] {
            assert!(wrong.parse::<Region>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn regions_that_touch_become_one() {
        let region = |start, end| Region { start, end };
        assert_eq!(
            joined(vec![region(8, 12), region(0, 4), region(4, 6), region(9, 10)]),
            [region(0, 6), region(8, 12)]
        );
    }
}
