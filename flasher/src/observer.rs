//! Understands libflashrom's log: which chip it found, which block it works on, and that it is
//! about to do what nobody asked for.
//!
//! libflashrom 1.3 has no other way to tell these. Its walk over the erase blocks comes in
//! fragments: `0x003000-0x003fff:`, then `S` (skipped) or `E` (before the erase) and `W` (after
//! the erase, before the first page is programmed).

use serde::{Deserialize, Serialize};

use crate::chip::{Chip, Region};

/// Severity of a message; the order is libflashrom's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warning,
    /// For everybody.
    Info,
    /// For those who look closer.
    Debug,
}

/// What libflashrom is doing to an erase block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockStep {
    /// Nothing: it holds what it shall.
    Skip,
    /// It will be erased now.
    Erase,
    /// Its first differing page will be programmed now.
    Program,
}

/// What was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A chip's description fits.
    Found(Chip),
    /// A step on an erase block.
    Block {
        /// The block.
        block: Region,
        /// The step.
        step: BlockStep,
    },
    /// The erase that was asked for failed, and a larger one is next.
    Escalation,
    /// The chip stays protected, and the library would write all the same.
    ProtectionStands,
    /// A line for people.
    Line(Level, String),
}

/// Puts fragments together.
#[derive(Debug, Default)]
pub struct Observer {
    block: Option<Region>,
    line: String,
}

impl Observer {
    /// One message of the library, whole or a fragment of a line.
    pub fn message(&mut self, level: Level, text: &str) -> Vec<Observation> {
        let mut seen = Vec::new();
        if text.contains("another erase function") {
            seen.push(Observation::Escalation);
        }
        if text.contains("Block protection could not be disabled") {
            seen.push(Observation::ProtectionStands);
        }
        match level {
            Level::Debug => seen.extend(self.block_fragment(text)),
            _ => seen.extend(self.line_fragment(level, text)),
        }
        seen
    }

    fn block_fragment(&mut self, text: &str) -> Option<Observation> {
        if let Some(block) = block_range(text) {
            self.block = Some(block);
            return None;
        }
        let step = match text.trim() {
            "S" => BlockStep::Skip,
            "E" => BlockStep::Erase,
            "W" => BlockStep::Program,
            _ => return None,
        };
        Some(Observation::Block { block: self.block?, step })
    }

    fn line_fragment(&mut self, level: Level, text: &str) -> Vec<Observation> {
        self.line.push_str(text);
        let mut seen = Vec::new();
        while let Some(end) = self.line.find('\n') {
            let line: String = self.line.drain(..=end).collect();
            let line = line.trim();
            seen.extend(found_chip(line).map(Observation::Found));
            if !line.is_empty() {
                seen.push(Observation::Line(level, line.to_owned()));
            }
        }
        seen
    }
}

/// `0x003000-0x003fff:`, with the last byte included, perhaps after a comma.
fn block_range(text: &str) -> Option<Region> {
    let range = text.trim_start_matches([',', ' ']).strip_suffix(':')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| usize::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    Some(Region { start: number(first)?, end: number(last)?.checked_add(1)? })
}

/// `Found Winbond flash chip "W25Q128.V" (16384 kB, SPI) on dummy.`; programmers that hide the
/// chip have no maker: `Found Programmer flash chip "Opaque flash chip" (1024 kB, …)`.
fn found_chip(line: &str) -> Option<Chip> {
    let (vendor, rest) = line.strip_prefix("Found ")?.split_once(" flash chip \"")?;
    let (name, rest) = rest.split_once("\" (")?;
    let kilobytes: usize = rest.split_once(" kB")?.0.parse().ok()?;
    let size_bytes = kilobytes.checked_mul(1024)?;
    Some(Chip { vendor: vendor.to_owned(), name: name.to_owned(), size_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_over_blocks_is_understood_fragment_by_fragment() {
        let mut observer = Observer::default();
        let fragments = ["0x000000-0x000fff:", "S", ", ", "0x001000-0x001fff:", "E", "W"];
        let seen: Vec<_> =
            fragments.iter().flat_map(|text| observer.message(Level::Debug, text)).collect();
        let block = |start, end, step| Observation::Block { block: Region { start, end }, step };
        assert_eq!(
            seen,
            [
                block(0, 0x1000, BlockStep::Skip),
                block(0x1000, 0x2000, BlockStep::Erase),
                block(0x1000, 0x2000, BlockStep::Program),
            ]
        );
    }

    #[test]
    fn the_chips_name_is_in_the_line_that_says_what_was_found() {
        let line = "Found Winbond flash chip \"W25Q128.V\" (16384 kB, SPI) on dummy.\n";
        let chip = Chip {
            vendor: "Winbond".to_owned(),
            name: "W25Q128.V".to_owned(),
            size_bytes: 16 << 20,
        };
        let mut observer = Observer::default();
        assert!(observer.message(Level::Info, &line[..20]).is_empty());
        assert_eq!(
            observer.message(Level::Info, &line[20..]),
            [Observation::Found(chip), Observation::Line(Level::Info, line.trim().to_owned())]
        );
    }

    #[test]
    fn an_escalation_is_seen_before_its_line_ends() {
        let seen = Observer::default().message(Level::Debug, "Looking for another erase function.");
        assert_eq!(seen, [Observation::Escalation]);
    }
}
