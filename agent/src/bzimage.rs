//! The header of an x86 kernel image.
//!
//! A pure parser over the first bytes of the file. Offsets and rules:
//! <https://docs.kernel.org/arch/x86/boot.html>.

/// The header is in the first two sectors; the version text is said to be in the first 32 KiB.
pub(crate) const HEAD_BYTES: usize = 32 * 1024;

/// Command line limit and load address are in the header from 2.06 and 2.10 on; kexec_file_load
/// takes no older kernel than 2.12 (Linux 3.8).
const OLDEST_PROTOCOL: u16 = 0x020c;
const XLF_KERNEL_64: u16 = 1;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 2;
const LOADED_HIGH: u8 = 1;

/// Room that kexec_file_load keeps on the command line for `elfcorehdr=`, and the final zero
/// (`arch/x86/kernel/kexec-bzimage64.c`, `MAX_ELFCOREHDR_STR_LEN`).
const KEPT_BACK: u32 = 30 + 1;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetupHeader {
    /// Boot protocol, for example 0x020f for 2.15.
    pub(crate) protocol: u16,
    /// The longest command line in bytes, without the final zero.
    pub(crate) cmdline_size: u32,
    /// Memory that the kernel needs while it starts, in bytes.
    pub(crate) init_size: u32,
    /// Where it likes to be.
    pub(crate) pref_address: u64,
    /// `XLF_*`
    pub(crate) xloadflags: u16,
    /// `LOADED_HIGH` tells a bzImage from a zImage.
    pub(crate) loadflags: u8,
    /// The release and who built it, if the head of the file reaches that far.
    pub(crate) version: Option<String>,
}

/// Why a file is not a kernel for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Shorter than the header.
    #[error("expected an x86 kernel (bzImage), got a file of {0} bytes")]
    TooShort(usize),
    /// Something else; what is at the beginning may tell what.
    #[error("expected an x86 kernel (bzImage), got {0}")]
    NotAKernel(&'static str),
    /// A kernel of before 2013.
    #[error("expected boot protocol 2.12 or newer, got {}.{:02}", .0 >> 8, .0 & 0xff)]
    TooOld(u16),
    /// A 32-bit kernel, or one that cannot be put anywhere in memory.
    #[error("expected a 64-bit kernel that can be loaded above 4 GiB")]
    NotRelocatable,
}

impl SetupHeader {
    /// Reads the header from the first bytes of the file, at least 1 KiB.
    pub(crate) fn parse(head: &[u8]) -> Result<Self, Error> {
        if u16_at(head, 0x1fe) != Some(0xaa55) || head.get(0x202..0x206) != Some(b"HdrS") {
            return Err(Error::NotAKernel(guess(head)));
        }
        Self::read(head).ok_or(Error::TooShort(head.len()))?.checked()
    }

    fn read(head: &[u8]) -> Option<Self> {
        Some(Self {
            protocol: u16_at(head, 0x206)?,
            loadflags: *head.get(0x211)?,
            xloadflags: u16_at(head, 0x236)?,
            cmdline_size: u32_at(head, 0x238)?,
            pref_address: u64_at(head, 0x258)?,
            init_size: u32_at(head, 0x260)?,
            version: version(head),
        })
    }

    fn checked(self) -> Result<Self, Error> {
        const NEEDED: u16 = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
        if self.protocol < OLDEST_PROTOCOL {
            Err(Error::TooOld(self.protocol))
        } else if self.loadflags & LOADED_HIGH == 0 || self.xloadflags & NEEDED != NEEDED {
            Err(Error::NotRelocatable)
        } else {
            Ok(self)
        }
    }

    /// The longest command line in bytes that can be handed over.
    pub(crate) fn longest_cmdline(&self) -> u32 {
        self.cmdline_size.saturating_sub(KEPT_BACK)
    }

    /// The release alone, for example `6.12.48`.
    pub(crate) fn release(&self) -> &str {
        let version = self.version.as_deref().unwrap_or_default();
        version.split_whitespace().next().unwrap_or("of unknown version")
    }
}

fn bytes_at<const N: usize>(head: &[u8], offset: usize) -> Option<[u8; N]> {
    head.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn u16_at(head: &[u8], offset: usize) -> Option<u16> {
    bytes_at(head, offset).map(u16::from_le_bytes)
}

fn u32_at(head: &[u8], offset: usize) -> Option<u32> {
    bytes_at(head, offset).map(u32::from_le_bytes)
}

fn u64_at(head: &[u8], offset: usize) -> Option<u64> {
    bytes_at(head, offset).map(u64::from_le_bytes)
}

/// `kernel_version` points to the text, less the size of the first sector.
fn version(head: &[u8]) -> Option<String> {
    let offset = usize::from(u16_at(head, 0x20e).filter(|offset| *offset != 0)?) + 0x200;
    let text = head.get(offset..)?.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

/// What people give instead of a kernel.
fn guess(head: &[u8]) -> &'static str {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"\x7fELF", "an ELF file (vmlinux?)"),
        (b"\x1f\x8b", "gzip data"),
        (b"\xfd7zXZ", "xz data (an initramfs?)"),
        (b"\x28\xb5\x2f\xfd", "zstd data (an initramfs?)"),
        (b"070701", "a cpio archive (an initramfs?)"),
        (b"MZ", "an EFI program without a Linux boot header"),
        (b"<", "a page of HTML or XML"),
        (b"", "something else"),
    ];
    let known = KNOWN.iter().find(|(magic, _)| head.starts_with(magic) && !head.is_empty());
    known.map_or("an empty file", |(_, name)| name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const VERSION_AT: usize = 0x3000;

    /// The head of a kernel like Debian's.
    pub(crate) fn kernel_head() -> Vec<u8> {
        let mut head = vec![0; HEAD_BYTES];
        let version = b"6.12.48 (builder) #1 SMP\0";
        for (offset, bytes) in [
            (0x1fe, &0xaa55_u16.to_le_bytes()[..]),
            (0x202, b"HdrS"),
            (0x206, &0x020f_u16.to_le_bytes()),
            (0x20e, &(VERSION_AT as u16 - 0x200).to_le_bytes()),
            (0x211, &[1]),
            (0x236, &0x7f_u16.to_le_bytes()),
            (0x238, &2047_u32.to_le_bytes()),
            (0x258, &0x0100_0000_u64.to_le_bytes()),
            (0x260, &0x0300_0000_u32.to_le_bytes()),
            (VERSION_AT, version),
        ] {
            put(&mut head, offset, bytes);
        }
        head
    }

    fn put(head: &mut [u8], offset: usize, bytes: &[u8]) {
        head[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    #[test]
    fn the_header_of_a_kernel_is_understood() {
        let header = SetupHeader::parse(&kernel_head()).unwrap();
        assert_eq!(
            header,
            SetupHeader {
                protocol: 0x020f,
                cmdline_size: 2047,
                init_size: 0x0300_0000,
                pref_address: 0x0100_0000,
                xloadflags: 0x7f,
                loadflags: 1,
                version: Some("6.12.48 (builder) #1 SMP".to_owned()),
            }
        );
        assert_eq!((header.release(), header.longest_cmdline()), ("6.12.48", 2016));
    }

    #[test]
    fn what_is_not_a_kernel_is_refused_with_its_kind() {
        let changed = |offset, bytes: &[u8]| {
            let mut head = kernel_head();
            put(&mut head, offset, bytes);
            head
        };
        for (head, expected) in [
            (b"".to_vec(), "expected an x86 kernel (bzImage), got an empty file"),
            (b"<html>".to_vec(), "expected an x86 kernel (bzImage), got a page of HTML or XML"),
            (
                b"070701".to_vec(),
                "expected an x86 kernel (bzImage), got a cpio archive (an initramfs?)",
            ),
            (vec![0; 4096], "expected an x86 kernel (bzImage), got something else"),
            (changed(0x202, b"HdrX"), "expected an x86 kernel (bzImage), got something else"),
            (changed(0x1fe, b"zz"), "expected an x86 kernel (bzImage), got something else"),
            (
                kernel_head()[..0x250].to_vec(),
                "expected an x86 kernel (bzImage), got a file of 592 bytes",
            ),
            (changed(0x206, &[0x06, 0x02]), "expected boot protocol 2.12 or newer, got 2.06"),
            (changed(0x236, &[1, 0]), "expected a 64-bit kernel that can be loaded above 4 GiB"),
            (changed(0x211, &[0]), "expected a 64-bit kernel that can be loaded above 4 GiB"),
        ] {
            assert_eq!(SetupHeader::parse(&head).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_version_outside_the_head_is_unknown_and_no_reason_to_refuse() {
        let header = SetupHeader::parse(&kernel_head()[..1024]).unwrap();
        assert_eq!((header.version.clone(), header.release()), (None, "of unknown version"));
    }
}
