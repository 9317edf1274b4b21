//! Which disk is meant: `bus=usb,size=8G..64G,model=…,serial=…,label=…,fs=vfat`.
//!
//! A kernel parameter cannot hold a space: `_` stands for one, too.

use std::fmt;
use std::str::FromStr;

use super::{
    Bus, Disk, FileSystem, ParseBusError, ParseFileSystemError, ParseSizeError, SizeRange,
};

/// What a disk must be like. It has at least one key that tells disks apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    bus: Option<Bus>,
    size: Option<SizeRange>,
    model: Option<String>,
    serial: Option<String>,
    label: Option<String>,
    fs: Option<FileSystem>,
}

/// Why a text is no [`Fingerprint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseFingerprintError {
    /// Something that is no key with a value.
    #[error("expected KEY=VALUE with a key of bus, size, model, serial, label and fs, got {0:?}")]
    Key(String),
    /// A key twice.
    #[error("expected {0} once")]
    Twice(String),
    /// Something that no disk is called.
    #[error("expected printable ASCII without braces, quotes and spaces as {key}, got {value:?}")]
    Value {
        /// The key.
        key: String,
        /// What it was to be.
        value: String,
    },
    /// The bus.
    #[error(transparent)]
    Bus(#[from] ParseBusError),
    /// The size.
    #[error(transparent)]
    Size(#[from] ParseSizeError),
    /// The file system.
    #[error(transparent)]
    FileSystem(#[from] ParseFileSystemError),
    /// Any disk could be meant.
    #[error("expected a model, a serial or a label, or bus=usb with fs=vfat, got only {0:?}")]
    Vague(String),
}

impl Fingerprint {
    /// The only USB disk with a FAT file system, as ePoxy's own update chooses it.
    #[must_use]
    pub const fn usb_stick() -> Self {
        Self {
            bus: Some(Bus::Usb),
            size: None,
            model: None,
            serial: None,
            label: None,
            fs: Some(FileSystem::Vfat),
        }
    }

    /// In what a disk differs from this; nothing: it is meant.
    #[must_use]
    pub fn differences(&self, disk: &Disk) -> Vec<String> {
        let mut differences = Vec::new();
        let mut differ = |key: &str, wanted: Option<String>, got: String, fits: bool| {
            if let Some(wanted) = wanted.filter(|_| !fits) {
                differences.push(format!("its {key} is {got}, not {wanted}"));
            }
        };
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        differ("bus", text(self.bus), disk.bus.to_string(), self.bus == Some(disk.bus));
        let fits = self.size.is_some_and(|size| size.contains(disk.size_bytes));
        differ("size", text(self.size), disk.size_bytes.to_string(), fits);
        for (key, wanted, got) in
            [("model", &self.model, &disk.model), ("serial", &self.serial, &disk.serial)]
        {
            differ(key, wanted.clone(), shown(got), is_named(wanted, got));
        }
        let labels: Vec<&str> =
            disk.volumes.iter().filter_map(|volume| volume.label.as_deref()).collect();
        let fits = disk.volumes.iter().any(|volume| is_named(&self.label, &volume.label));
        differ("label", self.label.clone(), or_none(&labels), fits);
        let systems: Vec<String> =
            disk.volumes.iter().map(|volume| volume.fs.to_string()).collect();
        let fits = disk.volumes.iter().any(|volume| self.fs == Some(volume.fs));
        let systems: Vec<&str> = systems.iter().map(String::as_str).collect();
        differ("file system", text(self.fs), or_none(&systems), fits);
        differences
    }

    fn is_vague(&self) -> bool {
        let is_stick = self.bus == Some(Bus::Usb) && self.fs == Some(FileSystem::Vfat);
        let names = [&self.model, &self.serial, &self.label];
        !is_stick && names.iter().all(|name| name.is_none())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ParseFingerprintError> {
        let twice = || ParseFingerprintError::Twice(key.to_owned());
        match key {
            "bus" => once(&mut self.bus, value.parse()?),
            "size" => once(&mut self.size, value.parse()?),
            "model" => once(&mut self.model, value.to_owned()),
            "serial" => once(&mut self.serial, value.to_owned()),
            "label" => once(&mut self.label, value.to_owned()),
            "fs" => once(&mut self.fs, value.parse()?),
            _ => return Err(ParseFingerprintError::Key(format!("{key}={value}"))),
        }
        .ok_or_else(twice)
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn text(value: Option<impl fmt::Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(" or ") }
}

/// Does a disk's `name` read as it is `wanted`?
fn is_named(wanted: &Option<String>, name: &Option<String>) -> bool {
    let (Some(wanted), Some(name)) = (wanted, name) else { return false };
    let same = |(wanted, got): (u8, u8)| wanted == got || (wanted == b'_' && got == b' ');
    wanted.len() == name.len() && wanted.bytes().zip(name.bytes()).all(same)
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let (bus, fs) = (None, None);
        let mut fingerprint = Self { bus, size: None, model: None, serial: None, label: None, fs };
        for part in given.split(',') {
            let pair = part.split_once('=').filter(|(_, value)| !value.is_empty());
            let (key, value) = pair.ok_or_else(|| ParseFingerprintError::Key(part.to_owned()))?;
            let is_plain = |c: char| c.is_ascii_graphic() && !"{}\"'`\\".contains(c);
            if !value.chars().all(is_plain) {
                let (key, value) = (key.to_owned(), value.to_owned());
                return Err(ParseFingerprintError::Value { key, value });
            }
            fingerprint.set(key, value)?;
        }
        if fingerprint.is_vague() {
            return Err(ParseFingerprintError::Vague(given.to_owned()));
        }
        Ok(fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("bus", text(self.bus)),
            ("size", text(self.size)),
            ("model", self.model.clone()),
            ("serial", self.serial.clone()),
            ("label", self.label.clone()),
            ("fs", text(self.fs)),
        ];
        let given =
            parts.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
        f.write_str(&given.collect::<Vec<String>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Volume;

    fn disk() -> Disk {
        Disk {
            name: "sda".to_owned(),
            bus: Bus::Usb,
            size_bytes: 16 << 30,
            vendor: Some("SanDisk".to_owned()),
            model: Some("Ultra Fit".to_owned()),
            serial: Some("4C53".to_owned()),
            volumes: vec![Volume { fs: FileSystem::Vfat, label: Some("BOOT 1".to_owned()) }],
            unfinished: None,
            why_not: None,
        }
    }

    fn differences(text: &str) -> Vec<String> {
        text.parse::<Fingerprint>().unwrap().differences(&disk())
    }

    #[test]
    fn a_fingerprint_is_shown_as_it_is_written() {
        for text in [
            "bus=usb,fs=vfat",
            "bus=usb,size=8G..64G,model=Ultra_Fit,serial=4C53,label=B",
            "serial=x",
        ] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), text);
        }
        assert_eq!("bus=usb,fs=vfat".parse(), Ok(Fingerprint::usb_stick()));
    }

    #[test]
    fn what_names_no_disk_is_refused_with_its_reason() {
        for (text, expected) in [
            (
                "",
                "expected KEY=VALUE with a key of bus, size, model, serial, label and fs, got \"\"",
            ),
            (
                "name=sda",
                "expected KEY=VALUE with a key of bus, size, model, serial, label and fs, got \"name=sda\"",
            ),
            (
                "serial=",
                "expected KEY=VALUE with a key of bus, size, model, serial, label and fs, got \"serial=\"",
            ),
            ("serial=a,serial=b", "expected serial once"),
            (
                "serial={{kargs",
                "expected printable ASCII without braces, quotes and spaces as serial, got \"{{kargs\"",
            ),
            (
                "bus=isa,serial=a",
                "expected usb, ata, nvme, scsi, virtio, mmc, loop or other, got \"isa\"",
            ),
            (
                "size=big,serial=a",
                "expected a size such as 16G, 8G..64G or 16008609792, got \"big\"",
            ),
            ("fs=ext4,serial=a", "expected vfat or iso9660, got \"ext4\""),
            (
                "bus=usb",
                "expected a model, a serial or a label, or bus=usb with fs=vfat, got only \"bus=usb\"",
            ),
            (
                "bus=usb,size=8G",
                "expected a model, a serial or a label, or bus=usb with fs=vfat, got only \"bus=usb,size=8G\"",
            ),
            (
                "bus=ata,fs=vfat",
                "expected a model, a serial or a label, or bus=usb with fs=vfat, got only \"bus=ata,fs=vfat\"",
            ),
        ] {
            assert_eq!(text.parse::<Fingerprint>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn every_key_must_fit_and_what_does_not_is_told() {
        for (text, expected) in [
            ("bus=usb,size=8G..64G,model=Ultra_Fit,serial=4C53,label=BOOT_1,fs=vfat", vec![]),
            ("serial=4c53", vec!["its serial is 4C53, not 4c53"]),
            ("serial=4C5", vec!["its serial is 4C53, not 4C5"]),
            (
                "bus=ata,size=1T,model=Ultra",
                vec![
                    "its bus is usb, not ata",
                    "its size is 17179869184, not 1T",
                    "its model is Ultra Fit, not Ultra",
                ],
            ),
            (
                "label=BOOT,fs=iso9660",
                vec!["its label is BOOT 1, not BOOT", "its file system is vfat, not iso9660"],
            ),
        ] {
            assert_eq!(differences(text), expected, "{text}");
        }
        let bare = Disk { model: None, volumes: Vec::new(), ..disk() };
        let fingerprint: Fingerprint = "model=x,label=y".parse().unwrap();
        let expected = ["its model is unknown, not x", "its label is none, not y"];
        assert_eq!(fingerprint.differences(&bare), expected);
    }
}
