//! Sizes of disks, as an operator writes them: `16G`, `8G..64G`, `16GB..`.

use std::fmt;
use std::str::FromStr;

/// Sizes between two, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRange {
    least_bytes: u64,
    most_bytes: u64,
}

/// Why a text is no [`SizeRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as 16G, 8G..64G or 16008609792, got {0:?}")]
pub struct ParseSizeError(String);

/// Powers of 1024, and the powers of 1000 that makers print on sticks.
const UNITS: [(&str, u64); 8] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

impl SizeRange {
    /// Is a disk of this size meant?
    #[must_use]
    pub const fn contains(&self, size_bytes: u64) -> bool {
        self.least_bytes <= size_bytes && size_bytes <= self.most_bytes
    }
}

impl FromStr for SizeRange {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSizeError(text.to_owned());
        let or = |text: &str, default| match text {
            "" => Some(default),
            _ => bytes(text),
        };
        let (least, most) = match text.split_once("..") {
            Some(("", "")) | None if text == ".." || text.is_empty() => (None, None),
            Some((least, most)) => (or(least, 0), or(most, u64::MAX)),
            None => (bytes(text), bytes(text)),
        };
        let (least_bytes, most_bytes) = least.zip(most).ok_or_else(wrong)?;
        if least_bytes > most_bytes {
            return Err(wrong());
        }
        Ok(Self { least_bytes, most_bytes })
    }
}

fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
        .unwrap_or((text, 1));
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| number.parse::<u64>().ok()?.checked_mul(unit)).flatten()
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least_bytes, most_bytes } = self;
        if least_bytes == most_bytes {
            return f.write_str(&shown(*least_bytes));
        }
        let end = |bytes: u64, nothing| if bytes == nothing { String::new() } else { shown(bytes) };
        write!(f, "{}..{}", end(*least_bytes, 0), end(*most_bytes, u64::MAX))
    }
}

fn shown(bytes: u64) -> String {
    let whole = |(_, unit): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
    let unit = UNITS.iter().filter(whole).max_by_key(|(_, unit)| *unit);
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_as_it_is_written() {
        for text in ["16G", "8G..64G", "8G..", "..64GB", "16008609793", "1T", "0", "3M..5M"] {
            assert_eq!(text.parse::<SizeRange>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn both_ends_are_meant() {
        let range: SizeRange = "8G..16GB".parse().unwrap();
        let inside = [8 << 30, 16_000_000_000].map(|size| range.contains(size));
        let outside = [(8 << 30) - 1, 16_000_000_001].map(|size| range.contains(size));
        assert_eq!((inside, outside), ([true; 2], [false; 2]));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "..", "G", "8g", "-1", "+1", "2G..1G", "1.5G", "99999999T", "1..2..3"] {
            assert!(text.parse::<SizeRange>().is_err(), "{text}");
        }
    }
}
