//! The first sector of a disk that is being rewritten. Nothing can be started from it, and it says
//! what was begun: the next run knows the disk again by it.

use agent_types::disk::{Disk, Unfinished};

/// For whoever looks at the disk.
const TEXT: &str = "This disk was being rewritten by flasher: write it again to finish.\n";

/// Where a BIOS looks for the signature of what it starts.
const SIGNATURE: usize = 510;

/// The first sector of `disk`, which gets an image with this digest.
#[must_use]
pub fn sector(disk: &Disk, image: String, backup: Option<String>, sector_bytes: u64) -> Vec<u8> {
    let earlier = disk.unfinished.as_ref();
    let backup = backup.or_else(|| earlier.and_then(|earlier| earlier.backup.clone()));
    let mut unfinished = Unfinished { image, volumes: disk.volumes.clone(), backup };
    let mut sector = encoded(&unfinished);
    if sector.len() > SIGNATURE {
        unfinished.backup = None;
        sector = encoded(&unfinished);
    }
    while sector.len() > SIGNATURE && unfinished.volumes.pop().is_some() {
        sector = encoded(&unfinished);
    }
    sector.resize(usize::try_from(sector_bytes).unwrap_or(SIGNATURE), 0);
    sector
}

fn encoded(unfinished: &Unfinished) -> Vec<u8> {
    let json = serde_json::to_string(unfinished).unwrap_or_default();
    format!("{TEXT}{json}\0").into_bytes()
}

/// What a first sector says, if it is a marker.
#[must_use]
pub fn read(sector: &[u8]) -> Option<Unfinished> {
    let json = sector.strip_prefix(TEXT.as_bytes())?;
    let end = json.iter().position(|&byte| byte == 0)?;
    serde_json::from_slice(&json[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fake::stick;
    use agent_types::disk::{FileSystem, Volume};

    fn disk(volumes: Vec<Volume>) -> Disk {
        Disk { volumes, ..stick() }
    }

    fn volume(label: &str) -> Volume {
        Volume { fs: FileSystem::Vfat, label: Some(label.to_owned()) }
    }

    #[test]
    fn a_marker_says_what_the_disk_was_and_cannot_be_started() {
        let disk = disk(vec![volume("BOOT")]);
        let sector = sector(&disk, "ab".repeat(32), Some("/b".to_owned()), 512);
        assert_eq!((sector.len(), &sector[510..]), (512, &[0_u8, 0][..]));
        let expected = Unfinished {
            image: "ab".repeat(32),
            volumes: disk.volumes,
            backup: Some("/b".to_owned()),
        };
        assert_eq!(read(&sector), Some(expected));
        assert_eq!(read(&[0; 512]), None);
    }

    #[test]
    fn a_second_run_keeps_what_the_first_one_said() {
        let first =
            read(&sector(&disk(vec![volume("A")]), "1".to_owned(), Some("/b".to_owned()), 512));
        let again = Disk { unfinished: first.clone(), ..disk(vec![volume("A")]) };
        let second = read(&sector(&again, "1".to_owned(), None, 512));
        assert_eq!(second, first);
    }

    #[test]
    fn what_is_too_much_for_a_sector_is_left_out() {
        let many: Vec<Volume> = (0..60).map(|number| volume(&format!("LABEL {number}"))).collect();
        let sector = sector(&disk(many.clone()), "ab".repeat(32), Some("/b".repeat(300)), 512);
        let read = read(&sector).unwrap();
        assert_eq!((sector.len(), &sector[510..]), (512, &[0_u8, 0][..]));
        assert_eq!(read.backup, None);
        assert!(!read.volumes.is_empty() && many.starts_with(&read.volumes));
    }
}
