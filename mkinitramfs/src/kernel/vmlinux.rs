//! Where in the kernel's image its ramdisk and its command line lie.

use std::ops::Range;

use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _, elf};

/// Size of the kernel's command line, with its final zero (`COMMAND_LINE_SIZE` on x86).
const COMMAND_LINE_BYTES: usize = 2048;
const RAMDISK: &str = "__initramfs_start";
const RAMDISK_SIZE: &str = "__initramfs_size";
const CMDLINE: &str = "builtin_cmdline";

/// Why the places are not found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an ELF file.
    #[error("expected an ELF kernel")]
    NotElf(#[source] object::Error),
    /// A symbol is missing, or lies where the image has no bytes.
    #[error("expected {0} in the kernel's image")]
    NoSymbol(&'static str),
}

/// Offsets into the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// The ramdisk.
    pub(super) slot: Range<usize>,
    /// Eight bytes, little-endian: the ramdisk's size.
    pub(super) slot_size: Range<usize>,
    /// The default command line.
    pub(super) cmdline: Range<usize>,
}

/// Finds the places in an image by the symbols of the kernel it was made from.
///
/// # Errors
/// One of them is no ELF file, or something is not where it must be.
pub(super) fn places(kernel: &[u8], image: &[u8]) -> Result<Places, Error> {
    let kernel = ElfFile64::<Endianness>::parse(kernel).map_err(Error::NotElf)?;
    let segments = ElfFile64::<Endianness>::parse(image).map_err(Error::NotElf)?;
    let find = |name: &'static str, bytes: usize| {
        let symbol = kernel.symbols().find(|symbol| symbol.name() == Ok(name));
        let offset = symbol.and_then(|symbol| offset_of(&segments, symbol.address()));
        let range = offset.map(|offset| offset..offset + bytes);
        range.filter(|range| range.end <= image.len()).ok_or(Error::NoSymbol(name))
    };
    let slot_size = find(RAMDISK_SIZE, 8)?;
    let bytes: [u8; 8] = image[slot_size.clone()].try_into().unwrap_or_default();
    let slot_bytes = usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX / 2);
    Ok(Places {
        slot: find(RAMDISK, slot_bytes)?,
        slot_size,
        cmdline: find(CMDLINE, COMMAND_LINE_BYTES)?,
    })
}

/// Where an address lies in the file, if the file has bytes for it.
fn offset_of(image: &ElfFile64<'_, Endianness>, address: u64) -> Option<usize> {
    let endian = image.endian();
    image
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == elf::PT_LOAD)
        .find_map(|header| {
            let within = address.checked_sub(header.p_vaddr(endian))?;
            let is_in_file = within < header.p_filesz(endian);
            is_in_file.then(|| usize::try_from(header.p_offset(endian) + within).ok())?
        })
}
