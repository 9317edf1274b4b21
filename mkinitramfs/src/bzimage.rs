//! What a kernel's boot image says about itself.
//!
//! Format: `Documentation/arch/x86/boot.rst` of the kernel.

use std::ops::Range;

/// Why bytes are no boot image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The marks are missing.
    #[error("expected a bzImage with the mark HdrS at byte 514")]
    NotBzImage,
    /// Older than 2.08, which first says where the payload is.
    #[error("expected boot protocol 2.08 or newer, got {}.{:02}", .0 >> 8, .0 & 0xff)]
    Protocol(u16),
    /// The file ends too early.
    #[error("cannot find the bzImage's payload: the file is cut short")]
    CutShort,
}

/// The fields of the setup header that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupHeader {
    /// Boot protocol: major in the high byte.
    pub protocol: u16,
    /// The kernel's own words on its version and build.
    pub version: String,
    /// The longest command line, without its final zero.
    pub cmdline_bytes: u32,
    /// Memory that the kernel needs to unpack itself.
    pub init_bytes: u32,
    /// Whether the image is an EFI program.
    pub is_efi: bool,
    /// Where the compressed kernel lies in the file.
    pub payload: Range<usize>,
}

impl SetupHeader {
    /// Reads the header.
    ///
    /// # Errors
    /// The bytes are no boot image, an old one, or cut short.
    pub fn read(file: &[u8]) -> Result<Self, Error> {
        let is_bzimage = file.get(0x1fe..0x200) == Some(&[0x55, 0xaa])
            && file.get(0x202..0x206) == Some(b"HdrS");
        if !is_bzimage {
            return Err(Error::NotBzImage);
        }
        let protocol = u16_at(file, 0x206)?;
        if protocol < 0x208 {
            return Err(Error::Protocol(protocol));
        }
        // Zero stands for four, for compatibility with very old loaders.
        let setup_sectors = match file.get(0x1f1) {
            Some(0) | None => 4,
            Some(&sectors) => usize::from(sectors),
        };
        let start = (setup_sectors + 1) * 512 + u32_at(file, 0x248)? as usize;
        let payload = start..start + u32_at(file, 0x24c)? as usize;
        if payload.end > file.len() {
            return Err(Error::CutShort);
        }
        Ok(Self {
            protocol,
            version: version(file, usize::from(u16_at(file, 0x20e)?)),
            cmdline_bytes: u32_at(file, 0x238)?,
            init_bytes: u32_at(file, 0x260)?,
            is_efi: file.starts_with(b"MZ"),
            payload,
        })
    }
}

/// The text lies 512 bytes after where its pointer says.
fn version(file: &[u8], pointer: usize) -> String {
    let text = file.get(pointer + 0x200..).unwrap_or_default();
    let end = text.iter().position(|&byte| byte == 0).unwrap_or_default();
    String::from_utf8_lossy(&text[..end]).into_owned()
}

fn u16_at(file: &[u8], offset: usize) -> Result<u16, Error> {
    let bytes = file.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.map(|bytes| u16::from_le_bytes(*bytes)).ok_or(Error::CutShort)
}

fn u32_at(file: &[u8], offset: usize) -> Result<u32, Error> {
    let bytes = file.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(Error::CutShort)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of protocol 2.15 with one setup sector and four bytes of payload.
    fn image() -> Vec<u8> {
        let mut file = vec![0; 1024 + 16];
        file[..2].copy_from_slice(b"MZ");
        file[0x1f1] = 1;
        file[0x1fe..0x206].copy_from_slice(b"\x55\xaa\0\0HdrS");
        file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        file[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        file[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
        file[0x248..0x250].copy_from_slice(b"\x08\0\0\0\x04\0\0\0");
        file[0x260..0x264].copy_from_slice(&4096_u32.to_le_bytes());
        file[0x300..0x308].copy_from_slice(b"6.12 (x)");
        file
    }

    #[test]
    fn a_header_is_read_field_by_field() {
        let expected = SetupHeader {
            protocol: 0x20f,
            version: "6.12 (x)".to_owned(),
            cmdline_bytes: 2047,
            init_bytes: 4096,
            is_efi: true,
            payload: 1032..1036,
        };
        assert_eq!(SetupHeader::read(&image()), Ok(expected));
    }

    #[test]
    fn what_is_no_boot_image_says_why() {
        let mut old = image();
        old[0x206] = 7;
        assert_eq!(SetupHeader::read(&old), Err(Error::Protocol(0x207)));
        assert_eq!(SetupHeader::read(&image()[..1034]), Err(Error::CutShort));
        assert_eq!(SetupHeader::read(&image()[..0x210]), Err(Error::CutShort));
        assert_eq!(SetupHeader::read(b"MZ"), Err(Error::NotBzImage));
    }
}
