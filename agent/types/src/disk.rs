//! Whole disks: what is known of one, and the fingerprint that chooses one of them.

mod fingerprint;
mod size;

pub use fingerprint::{Fingerprint, ParseFingerprintError};
pub use size::{ParseSizeError, SizeRange};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a disk is plugged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    /// USB, also what a service processor shows as a USB stick.
    Usb,
    /// SATA, or IDE.
    Ata,
    /// NVMe.
    Nvme,
    /// SCSI: a RAID controller, SAS.
    Scsi,
    /// A virtual machine's.
    Virtio,
    /// A memory card in a reader that is no USB device.
    Mmc,
    /// A file.
    Loop,
    /// None of these.
    Other,
}

const BUSES: [(Bus, &str); 8] = [
    (Bus::Usb, "usb"),
    (Bus::Ata, "ata"),
    (Bus::Nvme, "nvme"),
    (Bus::Scsi, "scsi"),
    (Bus::Virtio, "virtio"),
    (Bus::Mmc, "mmc"),
    (Bus::Loop, "loop"),
    (Bus::Other, "other"),
];

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = BUSES.iter().find(|(bus, _)| bus == self).map_or("other", |(_, name)| name);
        f.write_str(name)
    }
}

/// Why a text is no [`Bus`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected usb, ata, nvme, scsi, virtio, mmc, loop or other, got {0:?}")]
pub struct ParseBusError(String);

impl FromStr for Bus {
    type Err = ParseBusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bus = BUSES.iter().find(|(_, name)| *name == text).map(|(bus, _)| *bus);
        bus.ok_or_else(|| ParseBusError(text.to_owned()))
    }
}

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// FAT12, FAT16 or FAT32.
    Vfat,
    /// What a CD has.
    Iso9660,
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vfat => "vfat",
            Self::Iso9660 => "iso9660",
        })
    }
}

/// Why a text is no [`FileSystem`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected vfat or iso9660, got {0:?}")]
pub struct ParseFileSystemError(String);

impl FromStr for FileSystem {
    type Err = ParseFileSystemError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "vfat" => Ok(Self::Vfat),
            "iso9660" => Ok(Self::Iso9660),
            _ => Err(ParseFileSystemError(text.to_owned())),
        }
    }
}

/// A file system on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Which kind.
    pub fs: FileSystem,
    /// Its label.
    pub label: Option<String>,
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The kernel's name for it: `sda`.
    pub name: String,
    /// What it is plugged into.
    pub bus: Bus,
    /// Its size.
    pub size_bytes: u64,
    /// Who made it.
    pub vendor: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// File systems on it; those that it had, if it is unfinished.
    pub volumes: Vec<Volume>,
    /// The rewrite that did not end.
    pub unfinished: Option<Unfinished>,
    /// Why it is not written.
    pub why_not: Option<String>,
}

/// What is known of a rewrite that did not end: the disk itself says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The digest of the image.
    pub image: String,
    /// What the disk had before.
    pub volumes: Vec<Volume>,
    /// The file of what was overwritten.
    pub backup: Option<String>,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bus, size_bytes, .. } = self;
        write!(f, "{name} bus={bus} size={size_bytes}")?;
        for (key, value) in [("model", &self.model), ("serial", &self.serial)] {
            if let Some(value) = value {
                write!(f, " {key}={}", value.replace(' ', "_"))?;
            }
        }
        for Volume { fs, label } in &self.volumes {
            write!(f, " fs={fs}")?;
            if let Some(label) = label {
                write!(f, " label={}", label.replace(' ', "_"))?;
            }
        }
        Ok(())
    }
}

/// The part of `flasher disk list --json` that the agent reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disks {
    /// The disks that the fingerprint fits; without one, all.
    pub disks: Vec<Disk>,
}
