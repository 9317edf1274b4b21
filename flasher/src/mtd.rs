//! Memory technology devices, as sysfs shows them, and which of them flashrom can write.

use std::fs;
use std::path::Path;

use agent_types::rom::PciId;
use serde::Serialize;

use crate::pci::{self, PciAddress};

/// A device or a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MtdDevice {
    /// Its number: 1 is `/dev/mtd1`.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// The card that it is on, if the kernel tells.
    pub pci_id: Option<PciId>,
    /// Why flashrom does not write it.
    pub why_not: Option<&'static str>,
}

/// All of them, by number.
#[must_use]
pub fn devices(sysfs: &Path) -> Vec<MtdDevice> {
    let mut devices: Vec<MtdDevice> = fs::read_dir(sysfs.join("class/mtd"))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            entry.ok()?.file_name().to_str()?.strip_prefix("mtd")?.parse::<u32>().ok()
        })
        .filter_map(|number| device(sysfs, number))
        .collect();
    devices.sort_by_key(|device| device.number);
    devices
}

/// One of them.
#[must_use]
pub fn device(sysfs: &Path, number: u32) -> Option<MtdDevice> {
    let directory = sysfs.join(format!("class/mtd/mtd{number}"));
    let text = |name: &str| {
        fs::read_to_string(directory.join(name)).map(|text| text.trim().to_owned()).ok()
    };
    let size_bytes = text("size")?.parse().ok()?;
    Some(MtdDevice {
        number,
        name: text("name").unwrap_or_default(),
        size_bytes,
        pci_id: parent(sysfs, &directory),
        why_not: why_not(&text("type")?, &text("flags")?, size_bytes, &text("numeraseregions")?),
    })
}

/// The PCI function that the device belongs to: the last one on its path.
fn parent(sysfs: &Path, directory: &Path) -> Option<PciId> {
    let path = fs::canonicalize(directory).ok()?;
    let parts = path.iter().rev().filter_map(|part| part.to_str()?.parse::<PciAddress>().ok());
    parts.filter_map(|address| pci::card_at(sysfs, address).ok()).map(|card| card.id).next()
}

/// What `linux_mtd` of libflashrom 1.3 insists on.
fn why_not(kind: &str, flags: &str, size_bytes: u64, regions: &str) -> Option<&'static str> {
    const WRITEABLE: u32 = 0x400;
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or_default();
    match () {
        () if kind != "nor" => Some("it is no NOR flash"),
        () if flags & WRITEABLE == 0 => Some("it is read-only"),
        () if !size_bytes.is_power_of_two() => Some("its size is no power of two"),
        () if regions != "0" => Some("its erase blocks have several sizes: use a partition"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysfs_with(number: u32, files: [(&str, &str); 5]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(format!("class/mtd/mtd{number}"));
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), format!("{text}\n")).unwrap();
        }
        root
    }

    #[test]
    fn a_partition_says_whether_it_can_be_written() {
        let nor = [
            ("type", "nor"),
            ("flags", "0xc00"),
            ("name", "oprom"),
            ("size", "131072"),
            ("numeraseregions", "0"),
        ];
        let why_not = |name: &str, text: &str| {
            let changed =
                nor.map(|(n, t)| if n == name { (n, text.to_owned()) } else { (n, t.to_owned()) });
            let files = changed.each_ref().map(|(n, t)| (*n, t.as_str()));
            devices(sysfs_with(1, files).path()).remove(0).why_not
        };
        assert_eq!(why_not("name", "oprom"), None);
        assert_eq!(why_not("type", "ram"), Some("it is no NOR flash"));
        assert_eq!(why_not("flags", "0x800"), Some("it is read-only"));
        assert_eq!(why_not("size", "393216"), Some("its size is no power of two"));
        assert!(why_not("numeraseregions", "1").is_some());
    }

    #[test]
    fn a_machine_without_mtd_has_none() {
        assert_eq!(devices(tempfile::tempdir().unwrap().path()), []);
    }
}
