//! Which of a machine's disks a fingerprint means: exactly one, or none at all.

use agent_types::disk::{Disk, Fingerprint};

/// Why no disk is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None fits.
    #[error("expected a disk that is {fingerprint}, got none{}", told(others))]
    None {
        /// What was looked for.
        fingerprint: String,
        /// The disks that there are, and why they are not meant.
        others: Vec<String>,
    },
    /// Several fit.
    #[error("expected one disk that is {fingerprint}, got {}: name what tells them apart",
            fitting.join("; "))]
    Several {
        /// What was looked for.
        fingerprint: String,
        /// Those that fit.
        fitting: Vec<String>,
    },
    /// The one that fits is in use.
    #[error("{disk} cannot be written: {why}")]
    InUse {
        /// The disk.
        disk: String,
        /// Why not.
        why: String,
    },
}

fn told(others: &[String]) -> String {
    match others {
        [] => "; this kernel sees no disk".to_owned(),
        others => format!(": {}", others.join("; ")),
    }
}

/// The disk that `fingerprint` means.
///
/// # Errors
/// None or several are meant, or the one is in use.
pub fn choose<'a>(disks: &'a [Disk], fingerprint: &Fingerprint) -> Result<&'a Disk, Error> {
    let fits = |disk: &&Disk| fingerprint.differences(disk).is_empty();
    let fitting: Vec<&Disk> = disks.iter().filter(fits).collect();
    let text = fingerprint.to_string();
    match fitting.as_slice() {
        [] => {
            let other = |disk: &Disk| {
                format!("{} ({})", disk.name, fingerprint.differences(disk).join(", "))
            };
            Err(Error::None { fingerprint: text, others: disks.iter().map(other).collect() })
        }
        [disk] => match &disk.why_not {
            Some(why) => Err(Error::InUse { disk: disk.to_string(), why: why.clone() }),
            None => Ok(disk),
        },
        several => {
            let fitting = several.iter().map(ToString::to_string).collect();
            Err(Error::Several { fingerprint: text, fitting })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_types::disk::{Bus, FileSystem, Volume};

    fn stick(name: &str, serial: &str) -> Disk {
        Disk {
            name: name.to_owned(),
            bus: Bus::Usb,
            size_bytes: 1 << 20,
            vendor: None,
            model: Some("Ultra Fit".to_owned()),
            serial: Some(serial.to_owned()),
            volumes: vec![Volume { fs: FileSystem::Vfat, label: None }],
            unfinished: None,
            why_not: None,
        }
    }

    fn chosen(disks: &[Disk], fingerprint: &str) -> Result<String, String> {
        let chosen = choose(disks, &fingerprint.parse().unwrap());
        chosen.map(|disk| disk.name.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_disk_is_meant_or_none() {
        let two = [stick("sda", "A"), stick("sdb", "B")];
        assert_eq!(chosen(&two, "serial=B"), Ok("sdb".to_owned()));
        assert_eq!(
            chosen(&two, "serial=C"),
            Err("expected a disk that is serial=C, got none: sda (its serial is A, not C); \
                 sdb (its serial is B, not C)"
                .to_owned())
        );
        assert_eq!(
            chosen(&two, "bus=usb,fs=vfat"),
            Err("expected one disk that is bus=usb,fs=vfat, got \
                 sda bus=usb size=1048576 model=Ultra_Fit serial=A fs=vfat; \
                 sdb bus=usb size=1048576 model=Ultra_Fit serial=B fs=vfat: \
                 name what tells them apart"
                .to_owned())
        );
        let none = "expected a disk that is serial=C, got none; this kernel sees no disk";
        assert_eq!(chosen(&[], "serial=C"), Err(none.to_owned()));
    }

    #[test]
    fn a_disk_in_use_is_no_choice_and_does_not_leave_the_choice_to_another() {
        let used = Disk { why_not: Some("sda1 is mounted on /".to_owned()), ..stick("sda", "A") };
        let disks = [used, stick("sdb", "B")];
        let error = chosen(&disks, "serial=A").unwrap_err();
        assert!(error.ends_with(" cannot be written: sda1 is mounted on /"), "{error}");
        assert!(chosen(&disks, "bus=usb,fs=vfat").unwrap_err().contains("sda bus"));
    }
}
