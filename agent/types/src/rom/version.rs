//! Versions of ROMs, compared as versions: 3.9.0 comes before 3.10.0.

use std::cmp::Ordering;
use std::fmt;

use super::{find, u8_at, u16_at};

/// A version: numbers between dots, and what follows them.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RomVersion(String);

impl From<&str> for RomVersion {
    fn from(text: &str) -> Self {
        Self(text.trim().trim_start_matches(['v', 'V']).to_owned())
    }
}

impl fmt::Display for RomVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for RomVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for RomVersion {}

impl PartialOrd for RomVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RomVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let (core, suffix) = self.parts();
        let (other_core, other_suffix) = other.parts();
        core.cmp(&other_core).then_with(|| compare_suffixes(suffix, other_suffix))
    }
}

impl RomVersion {
    /// The numbers without trailing zeros (1.0 is 1.0.0), and the rest of the text.
    fn parts(&self) -> (Vec<u64>, &str) {
        let end = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (core, suffix) = self.0.split_at(end);
        let mut numbers: Vec<u64> =
            core.split('.').map(|digits| digits.parse().unwrap_or_default()).collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        (numbers, suffix)
    }
}

/// `-rc1` comes before the release, `+git1` after it.
fn compare_suffixes(left: &str, right: &str) -> Ordering {
    let rank = |suffix: &str| match suffix.chars().next() {
        None => 1,
        Some('+') => 2,
        Some(_) => 0,
    };
    rank(left).cmp(&rank(right)).then_with(|| words(left).cmp(&words(right)))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Text(String),
    Number(u64),
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digit = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        words.push(match word.parse() {
            Ok(number) => Word::Number(number),
            Err(_) => Word::Text(word.to_owned()),
        });
        rest = after;
    }
    words
}

/// What a ROM says its version is: Mellanox's record, or iPXE's text where it is not compressed.
pub(super) fn of_rom(rom: &[u8]) -> Option<RomVersion> {
    mellanox(rom).or_else(|| ipxe(rom))
}

/// Mellanox's record: `mlxsign:`, then major, product, minor pair and device as little-endian
/// words; without it `mstflint` cannot tell a version.
fn mellanox(rom: &[u8]) -> Option<RomVersion> {
    let record = find(rom, b"mlxsign:")? + 8;
    let product = u8_at(rom, record + 2)?;
    let major = u16_at(rom, record)?;
    let (sub, minor) = (u16_at(rom, record + 4)?, u16_at(rom, record + 6)?);
    let text = if product < 0x10 { major.to_string() } else { format!("{major}.{minor}.{sub}") };
    Some(RomVersion(text))
}

/// An EFI driver carries its names in a table: `iPXE`, zeros, the version, zeros.
fn ipxe(rom: &[u8]) -> Option<RomVersion> {
    const NAME: &[u8] = b"iPXE\0";
    const MOST_PADDING: usize = 64;
    rom.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).find_map(|(at, _)| {
        let after = rom.get(at + NAME.len()..)?;
        let padding = after.iter().take(MOST_PADDING).take_while(|&&byte| byte == 0).count();
        let text = after.get(padding..)?.split(|&byte| byte == 0).next()?;
        let text = std::str::from_utf8(text.get(..text.len().min(64))?).ok()?;
        is_version(text).then(|| RomVersion::from(text))
    })
}

/// Three numbers at least, of few digits: `1.21.1`, `1.0.0+git-20190125.36a4c85`.
fn is_version(word: &str) -> bool {
    let core = word.split(['+', '-', ' ']).next().unwrap_or_default();
    let numbers = core.split('.').filter(|n| n.len() <= 4 && n.parse::<u32>().is_ok()).count();
    numbers == core.split('.').count() && numbers >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_versions_and_not_as_text() {
        let ascending = [
            "3.4.820",
            "3.9.0",
            "3.10.0-rc1",
            "3.10.0-rc2",
            "3.10.0-rc10",
            "3.10.0",
            "3.10.0+git-9",
            "3.10.0+git-10",
            "3.10.1",
            "10.0",
        ];
        for pair in ascending.windows(2) {
            assert!(RomVersion::from(pair[0]) < RomVersion::from(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn missing_numbers_are_zeros_and_a_leading_v_means_nothing() {
        assert_eq!(RomVersion::from("v1.0"), RomVersion::from("1.0.0"));
        assert_ne!(RomVersion::from("1.0"), RomVersion::from("1.0-rc1"));
    }

    #[test]
    fn mellanox_roms_say_their_version_in_a_record() {
        let mut rom = b"....mlxsign:".to_vec();
        rom.extend([3, 0, 0x10, 0, 0x34, 0x03, 4, 0, 0, 0, 3, 0x10]);
        assert_eq!(of_rom(&rom), Some(RomVersion::from("3.4.820")));
    }

    #[test]
    fn an_efi_ipxe_says_its_version_after_its_name() {
        let rom = b"xxiPXE\0http\0iPXE\0\0\0\x001.0.0+git-20190125.36a4c85\0\0";
        assert_eq!(of_rom(rom), Some(RomVersion::from("1.0.0+git-20190125.36a4c85")));
        assert_eq!(of_rom(b"iPXE\0 1.2"), None);
    }
}
