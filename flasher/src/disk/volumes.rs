//! The file systems on a disk, from its own bytes: the kernel may not look for partitions, and does
//! not look again when we have written.
//!
//! UEFI specification 2.10, chapter 5 (MBR and GPT); ECMA-119, 8.4 (ISO 9660).

use std::io;

use agent_types::disk::{FileSystem, Volume};

use super::fat::BootSector;

/// Reads bytes of a disk, by place and length.
pub type ReadAt<'a> = &'a dyn Fn(u64, usize) -> io::Result<Vec<u8>>;

/// So many partitions a GPT has where nobody wanted more.
const MOST_PARTITIONS: usize = 128;
/// The first volume descriptor of ISO 9660.
const ISO_DESCRIPTOR: u64 = 16 * 2048;

/// The file systems that can be known on a disk with sectors of this size.
#[must_use]
pub fn volumes(read: ReadAt<'_>, sector_bytes: u64) -> Vec<Volume> {
    let starts = std::iter::once(0).chain(partitions(read, sector_bytes));
    iso(read).into_iter().chain(starts.filter_map(|start| fat(read, start))).collect()
}

fn fat(read: ReadAt<'_>, start: u64) -> Option<Volume> {
    let sector = read(start, 512).ok()?;
    let boot = BootSector::parse(&sector)?;
    let (at, length) = boot.root();
    let root = usize::try_from(length).ok().and_then(|length| read(start + at, length).ok());
    Some(Volume { fs: FileSystem::Vfat, label: boot.label(&root.unwrap_or_default()) })
}

fn iso(read: ReadAt<'_>) -> Option<Volume> {
    let descriptor = read(ISO_DESCRIPTOR, 2048).ok()?;
    descriptor.starts_with(b"\x01CD001").then(|| {
        let label = String::from_utf8_lossy(&descriptor[40..72]).trim().to_owned();
        let label = Some(label).filter(|label| !label.is_empty());
        Volume { fs: FileSystem::Iso9660, label }
    })
}

/// Where partitions begin, in bytes.
fn partitions(read: ReadAt<'_>, sector_bytes: u64) -> Vec<u64> {
    let first = read(0, 512).unwrap_or_default();
    if first.get(510..) != Some(&[0x55, 0xaa]) || BootSector::parse(&first).is_some() {
        return Vec::new();
    }
    let sectors = gpt(read, sector_bytes).unwrap_or_else(|| mbr(&first));
    let mut starts: Vec<u64> =
        sectors.iter().filter_map(|sector| sector.checked_mul(sector_bytes)).collect();
    // A hybrid image names the same partition in several tables.
    starts.dedup();
    starts.retain(|start| *start > 0);
    starts
}

fn mbr(first: &[u8]) -> Vec<u64> {
    let entries = first[446..510].chunks_exact(16).filter(|entry| entry[4] != 0);
    entries.map(|entry| number(&entry[8..12])).collect()
}

fn gpt(read: ReadAt<'_>, sector_bytes: u64) -> Option<Vec<u64>> {
    let header = read(sector_bytes, 512).ok().filter(|header| header.starts_with(b"EFI PART"))?;
    let size = usize::try_from(number(&header[84..88])).ok()?;
    let count = usize::try_from(number(&header[80..84])).ok()?.min(MOST_PARTITIONS);
    if !(128..=4096).contains(&size) {
        return None;
    }
    let table = read(number(&header[72..80]).checked_mul(sector_bytes)?, size * count).ok()?;
    let entries = table.chunks_exact(size).filter(|entry| entry[..16] != [0; 16]);
    Some(entries.map(|entry| number(&entry[32..40])).collect())
}

/// Little-endian, of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// A file of 64 MiB that a command of Debian's makes something of.
    fn made_by(command: &str, input: &str) -> tempfile::NamedTempFile {
        use std::io::Write as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg(file.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{command}");
        file
    }

    fn on(path: &Path) -> Vec<Volume> {
        let file = File::open(path).unwrap();
        let read = |at: u64, length: usize| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at).map(|()| bytes)
        };
        volumes(&read, 512)
    }

    fn vfat(label: Option<&str>) -> Volume {
        Volume { fs: FileSystem::Vfat, label: label.map(str::to_owned) }
    }

    #[test]
    fn every_fat_that_mkfs_makes_is_known_with_its_label() {
        for (bits, cluster) in [(12, 64), (16, 4), (32, 1)] {
            let mkfs = format!("/sbin/mkfs.vfat -F {bits} -s {cluster}");
            assert_eq!(on(made_by(&mkfs, "").path()), [vfat(None)], "{bits}");
            let named = made_by(&format!("{mkfs} -n STICK_1"), "");
            assert_eq!(on(named.path()), [vfat(Some("STICK_1"))], "{bits}");
        }
    }

    #[test]
    fn a_label_given_later_is_the_one_in_the_root_directory() {
        let file = made_by("/sbin/mkfs.vfat -F 32 -s 1 -n OLD", "");
        let label = Command::new("/sbin/fatlabel").arg(file.path()).arg("NEW").output().unwrap();
        assert!(label.status.success(), "{label:?}");
        // Other systems change the root directory only.
        file.as_file().write_all_at(b"NO NAME    ", 71).unwrap();
        assert_eq!(on(file.path()), [vfat(Some("NEW"))]);
    }

    #[test]
    fn partitions_are_looked_into() {
        for table in ["dos", "gpt"] {
            let input = format!("label: {table}\nstart=2048, size=8192\nstart=16384, size=40960\n");
            let disk = made_by("/sbin/sfdisk --quiet", &input);
            let small = made_by("/sbin/mkfs.vfat -F 16 -n SECOND", "");
            let mut bytes = vec![0; 8 << 20];
            small.as_file().read_exact_at(&mut bytes, 0).unwrap();
            disk.as_file().write_all_at(&bytes, 16384 * 512).unwrap();
            assert_eq!(on(disk.path()), [vfat(Some("SECOND"))], "{table}");
        }
    }

    #[test]
    fn a_cd_on_a_stick_is_known() {
        let file = made_by("true", "");
        let mut descriptor = [b' '; 72];
        descriptor[..7].copy_from_slice(b"\x01CD001\x01");
        descriptor[40..45].copy_from_slice(b"STICK");
        file.as_file().write_all_at(&descriptor, ISO_DESCRIPTOR).unwrap();
        let expected = Volume { fs: FileSystem::Iso9660, label: Some("STICK".to_owned()) };
        assert_eq!(on(file.path()), [expected]);
    }

    #[test]
    fn any_first_sector_is_survived() {
        for byte in [0, 0x55, 0xaa, 0xff] {
            let read = |_: u64, length: usize| Ok(vec![byte; length]);
            assert_eq!(volumes(&read, 512), [], "{byte}");
        }
        let nothing = |_: u64, _: usize| Err(io::ErrorKind::UnexpectedEof.into());
        assert_eq!(volumes(&nothing, 512), []);
    }
}
