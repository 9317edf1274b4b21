//! One image of an expansion ROM.
//!
//! On return every structure that the image points to has been found inside it and sums to zero.

use super::card::PciId;
use super::{BLOCK, RomError, u8_at, u16_at, u32_at};

/// The kind of code in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeType {
    /// x86 BIOS.
    Bios,
    /// IEEE 1275 Open Firmware.
    OpenFirmware,
    /// HP PA-RISC.
    PaRisc,
    /// EFI driver.
    Efi,
    /// What iPXE's `.mrom` puts behind its small BIOS image.
    IpxePayload,
}

impl CodeType {
    const fn of(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Bios),
            1 => Some(Self::OpenFirmware),
            2 => Some(Self::PaRisc),
            3 => Some(Self::Efi),
            0xff => Some(Self::IpxePayload),
            _ => None,
        }
    }
}

/// The `PCIR` structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PciDataStructure {
    /// The card that the image is for.
    pub id: PciId,
    /// Further devices of the same vendor; only revision 3 has a list.
    pub device_list: Vec<u16>,
    /// Class code, 24 bits.
    pub class: u32,
    /// Revision of the structure.
    pub revision: u8,
    /// Kind of code.
    pub code_type: CodeType,
    /// Length of the image.
    pub image_bytes: usize,
    /// Is this the last image?
    pub last: bool,
}

/// What the beginning of an image says, by kind of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RomHeader {
    /// x86 BIOS.
    Bios {
        /// Bytes that the BIOS copies to memory and sums.
        init_bytes: usize,
        /// Build id in iPXE's own header.
        ipxe_build_id: Option<u32>,
    },
    /// EFI driver.
    Efi {
        /// Bytes of the image by EFI's count.
        init_bytes: usize,
        /// Is the driver compressed?
        compressed: bool,
    },
    /// Any other kind.
    Other,
}

/// One image of an expansion ROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RomImage {
    /// Where it begins in the ROM.
    pub offset: usize,
    /// Its beginning.
    pub header: RomHeader,
    /// Its PCI data structure.
    pub pci: PciDataStructure,
}

impl RomImage {
    /// Reads the image at `offset` of `rom`.
    pub(super) fn parse(rom: &[u8], offset: usize) -> Result<Self, RomError> {
        let rest = rom.get(offset..).unwrap_or_default();
        let got = [u8_at(rest, 0).unwrap_or_default(), u8_at(rest, 1).unwrap_or_default()];
        if got != [0x55, 0xaa] {
            return Err(RomError::Signature { offset, got });
        }
        let pci = pci_data_structure(rest, offset)?;
        let image = rest.get(..pci.image_bytes).filter(|image| image.len() >= BLOCK).ok_or(
            RomError::Truncated { offset, needs: pci.image_bytes.max(BLOCK), has: rest.len() },
        )?;
        let header = match pci.code_type {
            CodeType::Bios => bios_header(image, offset)?,
            CodeType::Efi => efi_header(image, offset)?,
            _ => RomHeader::Other,
        };
        Ok(Self { offset, header, pci })
    }

    /// Where the next image begins.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset + self.pci.image_bytes
    }

    /// Build id in iPXE's own header.
    #[must_use]
    pub const fn ipxe_build_id(&self) -> Option<u32> {
        match self.header {
            RomHeader::Bios { ipxe_build_id, .. } => ipxe_build_id,
            _ => None,
        }
    }
}

fn pci_data_structure(image: &[u8], offset: usize) -> Result<PciDataStructure, RomError> {
    let pointer = u16_at(image, 0x18).unwrap_or_default();
    let nowhere = RomError::PcirPointer { offset, pointer };
    let at = usize::from(pointer);
    let pcir = image.get(at..).filter(|s| at % 4 == 0 && s.starts_with(b"PCIR")).ok_or(nowhere)?;
    let got = u16_at(pcir, 10).unwrap_or_default();
    let revision = u8_at(pcir, 12).unwrap_or_default();
    let least = if revision >= 3 { 0x1c } else { 0x18 };
    if got < least || pcir.len() < usize::from(least) {
        return Err(RomError::PcirLength { offset, least, got });
    }
    let image_bytes = usize::from(u16_at(pcir, 16).unwrap_or_default()) * BLOCK;
    if at + usize::from(got) > image_bytes {
        return Err(RomError::PcirPointer { offset, pointer });
    }
    let code_type = u8_at(pcir, 20).unwrap_or_default();
    let vendor = u16_at(pcir, 4).unwrap_or_default();
    let class = u32_at(pcir, 12).unwrap_or_default() >> 8;
    Ok(PciDataStructure {
        id: PciId { vendor, device: u16_at(pcir, 6).unwrap_or_default() },
        device_list: device_list(&pcir[..pcir.len().min(image_bytes - at)], revision),
        class,
        revision,
        code_type: CodeType::of(code_type).ok_or(RomError::CodeType { offset, code_type })?,
        image_bytes,
        last: u8_at(pcir, 21).unwrap_or_default() & 0x80 != 0,
    })
}

/// In revision 0 the word at 8 points to vital product data, not to a list. `pcir` ends with its image.
fn device_list(pcir: &[u8], revision: u8) -> Vec<u16> {
    let start = usize::from(u16_at(pcir, 8).unwrap_or_default());
    if revision < 3 || start == 0 {
        return Vec::new();
    }
    (start..pcir.len())
        .step_by(2)
        .map_while(|at| u16_at(pcir, at))
        .take_while(|&device| device != 0)
        .collect()
}

fn bios_header(image: &[u8], offset: usize) -> Result<RomHeader, RomError> {
    let init_bytes = usize::from(u8_at(image, 2).unwrap_or_default()) * BLOCK;
    if init_bytes == 0 || init_bytes > image.len() {
        return Err(RomError::InitSize { offset, init: init_bytes, length: image.len() });
    }
    summed(&image[..init_bytes], offset, "image")?;
    structure(image, offset, "$PnP", 0x1a, |s| u8_at(s, 5).map(|n| usize::from(n) * 16))?;
    structure(image, offset, "UNDI", 0x16, |s| u8_at(s, 4).map(usize::from))?;
    let ipxe = match u16_at(image, 0x10) {
        Some(at) if image.get(usize::from(at)..).is_some_and(|s| s.starts_with(b"iPXE")) => {
            structure(image, offset, "iPXE", 0x10, |s| u8_at(s, 4).map(usize::from))?
        }
        // Other vendors have data of their own in this place.
        _ => None,
    };
    let ipxe_build_id = ipxe.and_then(|s| u32_at(s, 8));
    Ok(RomHeader::Bios { init_bytes, ipxe_build_id })
}

/// The structure that the word at `pointer` leads to, if it leads anywhere.
fn structure<'a>(
    image: &'a [u8],
    offset: usize,
    name: &'static str,
    pointer: usize,
    length: impl Fn(&[u8]) -> Option<usize>,
) -> Result<Option<&'a [u8]>, RomError> {
    let at = usize::from(u16_at(image, pointer).unwrap_or_default());
    if at == 0 {
        return Ok(None);
    }
    let bytes = image
        .get(at..)
        .filter(|s| s.starts_with(name.as_bytes()))
        .and_then(|s| s.get(..length(s).filter(|&length| length >= name.len())?))
        .ok_or(RomError::Pointer { offset, structure: name })?;
    summed(bytes, offset, name)?;
    Ok(Some(bytes))
}

fn summed(bytes: &[u8], offset: usize, structure: &'static str) -> Result<(), RomError> {
    match bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) {
        0 => Ok(()),
        sum => Err(RomError::Checksum { offset, structure, sum }),
    }
}

const EFI_SIGNATURE: u32 = 0x0ef1;
const EFI_BOOT_SERVICE_DRIVER: u32 = 0x0b;
const EFI_MACHINE_X86_64: u32 = 0x8664;

fn efi_header(image: &[u8], offset: usize) -> Result<RomHeader, RomError> {
    let word = |at| u32::from(u16_at(image, at).unwrap_or_default());
    // Unlike the BIOS's byte this is a word: 43520 for an image of 174592 is the low byte only.
    let init_bytes = usize::from(u16_at(image, 2).unwrap_or_default()) * BLOCK;
    if init_bytes == 0 || init_bytes > image.len() {
        return Err(RomError::InitSize { offset, init: init_bytes, length: image.len() });
    }
    let signature = u32_at(image, 4).unwrap_or_default();
    let compression = word(12);
    for (field, got, right) in [
        ("signature", signature, signature == EFI_SIGNATURE),
        ("subsystem", word(8), word(8) == EFI_BOOT_SERVICE_DRIVER),
        ("machine", word(10), word(10) == EFI_MACHINE_X86_64),
        ("compression", compression, compression <= 1),
    ] {
        if !right {
            return Err(RomError::Efi { offset, field, got });
        }
    }
    let driver = image.get(word(0x16) as usize..init_bytes).unwrap_or_default();
    let pe = driver.starts_with(b"MZ") && pe_is_complete(driver);
    if compression == 0 && !pe || driver.is_empty() {
        return Err(RomError::Efi { offset, field: "driver offset", got: word(0x16) });
    }
    Ok(RomHeader::Efi { init_bytes, compressed: compression == 1 })
}

/// Are the PE header and every section that it lists inside `driver`?
fn pe_is_complete(driver: &[u8]) -> bool {
    let sections_are_inside = || {
        let pe = u32_at(driver, 0x3c)? as usize;
        driver.get(pe..)?.starts_with(b"PE\0\0").then_some(())?;
        let count = usize::from(u16_at(driver, pe + 6)?);
        let table = pe + 24 + usize::from(u16_at(driver, pe + 20)?);
        (0..count).all(|n| section_is_inside(driver, table + n * 40) == Some(true)).then_some(())
    };
    sections_are_inside().is_some()
}

fn section_is_inside(driver: &[u8], header: usize) -> Option<bool> {
    let size = u32_at(driver, header + 16)? as usize;
    let start = u32_at(driver, header + 20)? as usize;
    Some(start.checked_add(size)? <= driver.len())
}
