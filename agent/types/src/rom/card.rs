//! A card as a ROM sees it, and whether the ROM may be put on it.

use std::fmt;
use std::str::FromStr;

use super::{CodeType, OptionRom, RomError, RomHeader, RomImage, sha256};
use crate::digest::Sha256Digest;

/// Vendor and device of a PCI function, written `8086:10d3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciId {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
}

/// Why a text is no [`PciId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected VVVV:DDDD in hexadecimal, got {0:?}")]
pub struct ParsePciIdError(String);

impl FromStr for PciId {
    type Err = ParsePciIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |digits: &str| {
            let plain = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
        };
        text.split_once(':')
            .and_then(|(vendor, device)| {
                Some(Self { vendor: word(vendor)?, device: word(device)? })
            })
            .ok_or_else(|| ParsePciIdError(text.to_owned()))
    }
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl serde::Serialize for PciId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PciId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a ROM must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// Whose card it is.
    pub id: PciId,
    /// Size of the expansion ROM BAR, where the kernel tells it.
    pub rom_bar_bytes: Option<u64>,
    /// Size of the largest 32-bit memory BAR, where the kernel tells it.
    pub memory_bar_bytes: Option<u64>,
}

/// A BIOS has 128 KiB for all option ROMs that it initialises.
const MOST_INIT_BYTES: usize = 128 * 1024;

/// May `rom` be put on `card`, where the flash has `room` bytes for it?
///
/// # Errors
/// The first reason why not.
pub fn check(rom: &OptionRom, card: &Card, room: u64) -> Result<(), RomError> {
    for image in &rom.images {
        matches_card(image, card.id)?;
        if image.pci.class >> 8 != 0x0200 {
            return Err(RomError::Class { class: image.pci.class });
        }
        fits_bios(image)?;
    }
    let have = rom.length_bytes as u64;
    fits(have, "the region", room)?;
    if let Some(bar) = card.rom_bar_bytes {
        fits(have, "the card's ROM BAR", bar)?;
    }
    payload_is_reachable(rom, card)
}

/// Is `bytes` the file that was meant? An EFI image has no checksum of its own.
///
/// # Errors
/// It is another.
pub fn check_digest(bytes: &[u8], expected: Sha256Digest) -> Result<(), RomError> {
    let got = sha256(bytes);
    if got == expected { Ok(()) } else { Err(RomError::Digest { expected, got }) }
}

fn matches_card(image: &RomImage, card: PciId) -> Result<(), RomError> {
    let rom = image.pci.id;
    let device = rom.device == card.device || image.pci.device_list.contains(&card.device);
    if rom.vendor == card.vendor && device {
        Ok(())
    } else {
        Err(RomError::IdMismatch { rom, card })
    }
}

fn fits_bios(image: &RomImage) -> Result<(), RomError> {
    match image.header {
        RomHeader::Bios { init_bytes, .. } => {
            fits(init_bytes as u64, "a BIOS's space for option ROMs", MOST_INIT_BYTES as u64)
        }
        _ => Ok(()),
    }
}

fn fits(have: u64, place: &'static str, room: u64) -> Result<(), RomError> {
    if have <= room { Ok(()) } else { Err(RomError::TooLarge { have, place, room }) }
}

/// iPXE's small BIOS image reads its payload image through the ROM BAR, which it maps over a
/// memory BAR of the card.
fn payload_is_reachable(rom: &OptionRom, card: &Card) -> Result<(), RomError> {
    let has_payload = rom.images.iter().any(|i| i.pci.code_type == CodeType::IpxePayload);
    let needs = card.rom_bar_bytes.unwrap_or(rom.length_bytes as u64);
    match card.memory_bar_bytes {
        Some(bar) if has_payload && bar < needs => Err(RomError::NoMemoryBar { needs }),
        _ => Ok(()),
    }
}
