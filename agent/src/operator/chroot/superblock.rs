//! Which file system a device has, told by its superblock.
//!
//! Only those are known that the kernel of the flavour disk mounts. Offsets are those of the
//! kernel's *filesystems/ext4/super.rst*, of xfs's `xfs_format.h`, and of Microsoft's FAT
//! specification.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Everything of interest is in the first bytes.
const SUPERBLOCK_BYTES: usize = 2048;

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// As `mount(2)` takes it.
    pub(super) fstype: &'static str,
    /// As `/etc/fstab` has it.
    pub(super) uuid: String,
}

/// Reads what is on a device; `None` is nothing that is known.
pub(super) fn read(device: &Path) -> io::Result<Option<FileSystem>> {
    let mut bytes = [0; SUPERBLOCK_BYTES];
    match File::open(device)?.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        result => result.map(|()| identify(&bytes)),
    }
}

fn identify(bytes: &[u8]) -> Option<FileSystem> {
    let at = |offset: usize, len: usize| bytes.get(offset..offset + len).unwrap_or_default();
    if at(1024 + 0x38, 2) == [0x53, 0xef] {
        // The driver of ext4 mounts ext2 and ext3 as well.
        return Some(FileSystem { fstype: "ext4", uuid: uuid(at(1024 + 0x68, 16)) });
    }
    if at(0, 4) == b"XFSB" {
        return Some(FileSystem { fstype: "xfs", uuid: uuid(at(32, 16)) });
    }
    let fat = |offset: usize, serial: usize| {
        let is_fat = at(offset, 3) == b"FAT" && at(510, 2) == [0x55, 0xaa];
        is_fat.then(|| FileSystem { fstype: "vfat", uuid: serial_number(at(serial, 4)) })
    };
    fat(0x52, 0x43).or_else(|| fat(0x36, 0x27))
}

fn uuid(bytes: &[u8]) -> String {
    let digits = hexadecimal(bytes.iter());
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// As `blkid` shows it: `1234-ABCD`.
fn serial_number(bytes: &[u8]) -> String {
    let digits = hexadecimal(bytes.iter().rev()).to_uppercase();
    let (high, low) = digits.split_at_checked(4).unwrap_or_default();
    format!("{high}-{low}")
}

fn hexadecimal<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const UUID: &str = "0d6a4f5e-5f0b-4d2c-9a1c-2f3e4d5c6b7a";

    fn made(program: &str, arguments: &[&str]) -> Option<FileSystem> {
        let disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().set_len(4 << 20).unwrap();
        let output = Command::new(program).args(arguments).arg(disk.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        read(disk.path()).unwrap()
    }

    #[test]
    fn what_mke2fs_makes_is_known_with_its_uuid() {
        for kind in ["ext2", "ext3", "ext4"] {
            let found = made("/sbin/mke2fs", &["-q", "-t", kind, "-U", UUID]);
            let expected = FileSystem { fstype: "ext4", uuid: UUID.to_owned() };
            assert_eq!(found, Some(expected), "{kind}");
        }
    }

    #[test]
    fn other_superblocks_are_known_by_their_marks() {
        let mut xfs = [0; SUPERBLOCK_BYTES];
        xfs[..4].copy_from_slice(b"XFSB");
        xfs[32..48].copy_from_slice(&[0xab; 16]);
        let uuid = "abababab-abab-abab-abab-abababababab".to_owned();
        assert_eq!(identify(&xfs), Some(FileSystem { fstype: "xfs", uuid }));
        let mut fat = [0; SUPERBLOCK_BYTES];
        fat[0x52..0x57].copy_from_slice(b"FAT32");
        fat[510..512].copy_from_slice(&[0x55, 0xaa]);
        fat[0x43..0x47].copy_from_slice(&[0xcd, 0xab, 0x34, 0x12]);
        let uuid = "1234-ABCD".to_owned();
        assert_eq!(identify(&fat), Some(FileSystem { fstype: "vfat", uuid }));
    }

    #[test]
    fn noise_and_a_short_device_are_no_file_system() {
        assert_eq!(identify(&[0xa5; SUPERBLOCK_BYTES]), None);
        let short = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(read(short.path()).unwrap(), None);
    }
}
