//! PCI expansion ROM images: what is in them, and whether a card may get them.
//!
//! [`OptionRom::parse`] checks what a ROM says about itself, [`check`] whether it fits a card.
//! Both are functions of bytes: nothing is trusted, nothing is read from outside, and no input
//! makes them panic. Formats: PCI Firmware Specification 3.3 chapter 5, UEFI 2.10 section 14.4.2,
//! BIOS Boot Specification (`$PnP`), PXE 2.1 (`UNDI`); the `iPXE` header is iPXE's
//! `src/arch/x86/prefix/romprefix.S`.

mod card;
mod image;
mod manifest;
mod version;

pub use card::{Card, ParsePciIdError, PciId, check, check_digest};
pub use image::{CodeType, PciDataStructure, RomHeader, RomImage};
pub use manifest::{ManifestError, RomEntry, RomManifest};
pub use version::RomVersion;

use crate::digest::Sha256Digest;

/// Images start at multiples of this, and lengths count in it.
const BLOCK: usize = 512;

/// More images than any real ROM has; a bound for the walk.
const MOST_IMAGES: usize = 16;

/// An expansion ROM whose every image is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionRom {
    /// The images, in order; never empty, and the last one says that it is the last.
    pub images: Vec<RomImage>,
    /// Where the last image ends.
    pub length_bytes: usize,
    /// What the ROM says its version is.
    pub version: Option<RomVersion>,
    /// Of the images, without padding.
    pub sha256: Sha256Digest,
}

/// Why bytes are not an expansion ROM that may be written to a card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum RomError {
    /// An image does not begin with 55 AA.
    #[error("expected signature 55 aa at {offset:#x}, got {got:02x?}")]
    Signature { offset: usize, got: [u8; 2] },
    /// The pointer at 0x18 leads nowhere.
    #[error("image at {offset:#x}: PCI data structure pointer {pointer:#x} leads to no PCIR")]
    PcirPointer { offset: usize, pointer: u16 },
    /// The PCI data structure is shorter than its revision demands.
    #[error("image at {offset:#x}: expected {least} or more bytes in PCIR, got {got}")]
    PcirLength { offset: usize, least: u16, got: u16 },
    /// The file ends before the image does.
    #[error("image at {offset:#x}: needs {needs} bytes, {has} are there")]
    Truncated { offset: usize, needs: usize, has: usize },
    /// A BIOS image that initialises with more bytes than it has.
    #[error("image at {offset:#x}: initialisation size {init} is not within {length}")]
    InitSize { offset: usize, init: usize, length: usize },
    /// A structure whose bytes do not sum to zero.
    #[error("image at {offset:#x}: {structure} sums to {sum:#04x}, not to zero")]
    Checksum { offset: usize, structure: &'static str, sum: u8 },
    /// A structure that is not where the header says.
    #[error("image at {offset:#x}: no {structure} where the header points")]
    Pointer { offset: usize, structure: &'static str },
    /// The ROM is for another card.
    #[error("ROM is for {rom}, the card is {card}")]
    IdMismatch { rom: PciId, card: PciId },
    /// The ROM is not for a network card.
    #[error("expected class 0200xx (network), got {class:06x}")]
    Class { class: u32 },
    /// An image of a kind that we do not know.
    #[error("image at {offset:#x}: code type {code_type:#04x} is unknown")]
    CodeType { offset: usize, code_type: u8 },
    /// An EFI image that no x86-64 firmware would load.
    #[error("image at {offset:#x}: EFI {field} is {got:#x}")]
    Efi { offset: usize, field: &'static str, got: u32 },
    /// No image says that it is the last.
    #[error("no image is marked as the last")]
    NoLastImage,
    /// Something follows the last image.
    #[error("something other than padding follows the last image at {offset:#x}")]
    Trailing { offset: usize },
    /// The ROM does not fit.
    #[error("ROM has {have} bytes, {place} has room for {room}")]
    TooLarge { have: u64, place: &'static str, room: u64 },
    /// A BIOS image with a payload image needs a memory window to read it through.
    #[error("ROM has a payload image, and the card has no 32-bit memory BAR of {needs} bytes")]
    NoMemoryBar { needs: u64 },
    /// The ROM holds a private key, which anybody with the card could read.
    #[error("a private key is in the ROM at {offset:#x}")]
    Secret { offset: usize },
    /// The file is not the one that was meant.
    #[error("expected sha256 {expected}, got {got}")]
    Digest { expected: Sha256Digest, got: Sha256Digest },
}

impl RomError {
    /// Which of the eleven rules of the validator was broken.
    #[must_use]
    pub const fn rule(&self) -> u8 {
        match self {
            Self::Signature { .. } => 1,
            Self::PcirPointer { .. } | Self::PcirLength { .. } => 2,
            Self::Truncated { .. } | Self::InitSize { .. } => 3,
            Self::IdMismatch { .. } => 4,
            Self::Class { .. } => 5,
            Self::CodeType { .. } => 6,
            Self::Checksum { .. } | Self::Pointer { .. } => 7,
            Self::Efi { .. } => 8,
            Self::NoLastImage | Self::Trailing { .. } | Self::TooLarge { .. } => 9,
            Self::NoMemoryBar { .. } => 10,
            Self::Secret { .. } | Self::Digest { .. } => 11,
        }
    }
}

impl OptionRom {
    /// Reads a ROM file: images and nothing but padding after them.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, RomError> {
        let rom = Self::parse_start(bytes)?;
        match bytes[rom.length_bytes..].iter().position(|&byte| byte != 0xff) {
            Some(at) => Err(RomError::Trailing { offset: rom.length_bytes + at }),
            None => Ok(rom),
        }
    }

    /// Reads the ROM that `bytes` begin with, whatever follows it: the content of a chip.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse_start(bytes: &[u8]) -> Result<Self, RomError> {
        let images = images(bytes)?;
        let length_bytes = images.last().map_or(0, RomImage::end);
        let own = &bytes[..length_bytes];
        if let Some(offset) = find(own, b"PRIVATE KEY-----") {
            return Err(RomError::Secret { offset });
        }
        let version = version::of_rom(own);
        Ok(Self { images, length_bytes, version, sha256: sha256(own) })
    }

    /// The build id of iPXE, if iPXE it is.
    #[must_use]
    pub fn ipxe_build_id(&self) -> Option<u32> {
        self.images.iter().find_map(RomImage::ipxe_build_id)
    }
}

fn images(bytes: &[u8]) -> Result<Vec<RomImage>, RomError> {
    let mut images = Vec::new();
    let mut offset = 0;
    while images.len() < MOST_IMAGES {
        if !images.is_empty() && offset >= bytes.len() {
            return Err(RomError::NoLastImage);
        }
        let image = RomImage::parse(bytes, offset)?;
        offset = image.end();
        let last = image.pci.last;
        images.push(image);
        if last {
            return Ok(images);
        }
    }
    Err(RomError::NoLastImage)
}

/// The SHA-256 digest of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha256Digest {
    use sha2::Digest as _;
    let digest: [u8; 32] = sha2::Sha256::digest(bytes).into();
    Sha256Digest::from(digest)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

#[cfg(test)]
mod tests;
