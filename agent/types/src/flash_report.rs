//! What the flasher says while it works and when it has finished.
//!
//! With `--json` the flasher writes one [`FlashEvent`] per line; the last is
//! [`FlashEvent::Report`]. The agent passes the report on to the boot server.

mod listing;

pub use listing::{Listing, WritableCard};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::rom::{OptionRom, PciId, RomVersion};

/// The environment variable that names a file to which the flasher adds its report, as a line of
/// JSON: whoever runs a boot document's commands collects them there.
pub const REPORTS_VARIABLE: &str = "FLASHER_REPORTS";

/// How a run of the flasher ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum FlashOutcome {
    /// The card held the image already; nothing was written.
    AlreadyProgrammed,
    /// The card has another ROM that is recent enough; nothing was written.
    RecentEnough {
        /// Its version.
        present: RomVersion,
    },
    /// The card holds the new image; it was read back.
    Programmed,
    /// The card's own driver took the package; nothing of the card can be read back.
    HandedOver,
    /// Nothing was written.
    Refused {
        /// Why not.
        why: String,
    },
    /// Writing failed; the card holds what it held before, and it was read back.
    RolledBack {
        /// What failed.
        why: String,
    },
    /// The card holds neither image for certain. Its header is absent wherever it could be
    /// removed, so that the machine still starts without it.
    Degraded {
        /// What failed.
        why: String,
        /// What the card held before: a file of its whole chip.
        restore_from: Option<String>,
    },
}

impl FlashOutcome {
    /// Must a person look at the card before it is erased again, or the machine restarted?
    #[must_use]
    pub const fn needs_operator(&self) -> bool {
        matches!(self, Self::RolledBack { .. } | Self::Degraded { .. })
    }

    /// Exit code of the program: 0 done, 3 refused, 4 rolled back, 5 degraded.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::AlreadyProgrammed
            | Self::RecentEnough { .. }
            | Self::Programmed
            | Self::HandedOver => 0,
            Self::Refused { .. } => 3,
            Self::RolledBack { .. } => 4,
            Self::Degraded { .. } => 5,
        }
    }
}

/// An outcome in the words for what was written.
#[derive(Debug, Clone, Copy)]
struct Told<'a> {
    outcome: &'a FlashOutcome,
    thing: &'a str,
}

impl fmt::Display for FlashOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Told { outcome: self, thing: "card" }.fmt(f)
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use FlashOutcome::{
            AlreadyProgrammed, Degraded, HandedOver, Programmed, RecentEnough, Refused, RolledBack,
        };
        let Self { outcome, thing } = self;
        match outcome {
            AlreadyProgrammed => f.write_str("already programmed: nothing was written"),
            RecentEnough { present } => {
                write!(f, "recent enough: the {thing} has version {present}; nothing was written")
            }
            Programmed => write!(f, "programmed: the {thing} holds the new image"),
            HandedOver => write!(f, "handed over: the {thing}'s driver took the package"),
            Refused { why } => write!(f, "refused: {why}; nothing was written"),
            RolledBack { why } => {
                write!(f, "rolled back: {why}; the {thing} holds what it held before")
            }
            Degraded { why, restore_from: Some(backup) } => {
                write!(f, "DEGRADED: {why}; do not restart, restore from {backup}")
            }
            Degraded { why, restore_from: None } => {
                write!(f, "DEGRADED: {why}; do not restart, there is no backup")
            }
        }
    }
}

/// A ROM, in few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RomSummary {
    /// SHA-256 of its images, without padding.
    #[serde(with = "digest_text")]
    pub sha256: Sha256Digest,
    /// Length without padding.
    pub length_bytes: usize,
    /// The cards that it is for, by its first image.
    pub id: Option<PciId>,
    /// Its version, if it says one.
    pub version: Option<RomVersion>,
    /// iPXE's build id.
    pub ipxe_build_id: Option<u32>,
}

impl From<&OptionRom> for RomSummary {
    fn from(rom: &OptionRom) -> Self {
        Self {
            sha256: rom.sha256,
            length_bytes: rom.length_bytes,
            id: rom.images.first().map(|image| image.pci.id),
            version: rom.version.clone(),
            ipxe_build_id: rom.ipxe_build_id(),
        }
    }
}

/// The chip that holds the ROM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChipSummary {
    /// Who made it.
    pub vendor: String,
    /// Its name in the backend's tables.
    pub name: String,
    /// Its size.
    pub size_bytes: usize,
}

/// A copy of the whole chip, made before the first erase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// The file.
    pub path: String,
    /// Its digest.
    #[serde(with = "digest_text")]
    pub sha256: Sha256Digest,
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase.
    pub phase: FlashPhase,
    /// Its duration in milliseconds.
    pub millis: u64,
}

/// The phases of the procedure, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlashPhase {
    /// Which chip is there?
    Probe,
    /// Is the chip protected?
    WriteProtection,
    /// The whole chip is read.
    Read,
    /// How is the chip divided into erase blocks?
    EraseBlocks,
    /// What will be erased is read again, and must be the same.
    ReadAgain,
    /// The backup is stored.
    Backup,
    /// The card is told to start its ROM.
    Settings,
    /// The card's driver works.
    Driver,
    /// The header is erased: from now on firmware sees no ROM.
    InvalidateHeader,
    /// Everything but the header's first page is written.
    WriteBody,
    /// The header's first page is written: from now on firmware sees the ROM.
    CommitHeader,
    /// What was written is read back by a fresh process.
    ReadBack,
    /// The old content is written back.
    RollBack,
}

impl fmt::Display for FlashPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe => "probe",
            Self::WriteProtection => "write protection",
            Self::Read => "read",
            Self::EraseBlocks => "erase blocks",
            Self::ReadAgain => "read again",
            Self::Backup => "backup",
            Self::Settings => "settings",
            Self::Driver => "driver",
            Self::InvalidateHeader => "invalidate header",
            Self::WriteBody => "write body",
            Self::CommitHeader => "commit header",
            Self::ReadBack => "read back",
            Self::RollBack => "roll back",
        })
    }
}

/// A component of a card that its own driver flashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentVersion {
    /// Its name.
    pub name: String,
    /// What was stored before.
    pub before: Option<String>,
    /// What is stored now.
    pub after: Option<String>,
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlashReport {
    /// How it ended. The first field, and so the first word of the report.
    #[serde(flatten)]
    pub outcome: FlashOutcome,
    /// The card, as it was named; or [`Self::DISK`] and what the disk is.
    pub card: String,
    /// Whose card it is.
    pub pci_id: Option<PciId>,
    /// What wrote it: flashrom's name for the programmer.
    pub programmer: String,
    /// The chip.
    pub chip: Option<ChipSummary>,
    /// The ROM or the image that was to be written.
    pub rom: Option<RomSummary>,
    /// The ROM that the card held before, if it held one; or as much of the disk.
    pub previous: Option<RomSummary>,
    /// The backup.
    pub backup: Option<BackupSummary>,
    /// Erase blocks that differ, of those that the ROM covers; or MiB of a disk.
    pub blocks_changed: usize,
    /// What took how long.
    pub phases: Vec<PhaseTime>,
    /// Versions of components as the card's driver tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<ComponentVersion>,
}

impl FlashReport {
    /// What the name of a whole disk begins with.
    pub const DISK: &'static str = "disk:";

    /// The outcome in the words for a card or a disk.
    pub fn told(&self) -> impl fmt::Display {
        let thing = if self.card.starts_with(Self::DISK) { "disk" } else { "card" };
        Told { outcome: &self.outcome, thing }
    }
}

/// One line of the flasher's output with `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum FlashEvent {
    /// A phase began.
    Phase {
        /// Which.
        phase: FlashPhase,
    },
    /// A phase goes on.
    Progress {
        /// Which.
        phase: FlashPhase,
        /// How much is done,
        done: u64,
        /// of how much.
        total: u64,
    },
    /// Something that an operator wants to know.
    Note {
        /// What.
        message: String,
    },
    /// The backup is stored; nothing has been erased yet.
    BackupStored(BackupSummary),
    /// The end.
    Report(Box<FlashReport>),
}

/// Digests as text.
pub mod digest_text {
    use crate::digest::Sha256Digest;
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes the digest as 64 hexadecimal digits.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(digest: &Sha256Digest, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// The text is no digest.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Sha256Digest, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: FlashOutcome) -> FlashReport {
        FlashReport {
            outcome,
            card: "mtd:1".to_owned(),
            pci_id: None,
            programmer: "linux_mtd".to_owned(),
            chip: None,
            rom: None,
            previous: None,
            backup: None,
            blocks_changed: 0,
            phases: vec![PhaseTime { phase: FlashPhase::Read, millis: 7 }],
            components: Vec::new(),
        }
    }

    #[test]
    fn a_report_begins_with_its_outcome() {
        let degraded =
            FlashOutcome::Degraded { why: "x".to_owned(), restore_from: Some("f".to_owned()) };
        let json = serde_json::to_string(&report(degraded)).unwrap();
        assert!(
            json.starts_with(r#"{"outcome":"degraded","why":"x","restore_from":"f","card""#),
            "{json}"
        );
    }

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let event = FlashEvent::Report(Box::new(report(FlashOutcome::Programmed)));
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<FlashEvent>(&json).unwrap(), event, "{json}");
    }

    #[test]
    fn the_first_word_of_a_bad_end_is_loud_and_a_backup_is_named() {
        let end =
            FlashOutcome::Degraded { why: "x".to_owned(), restore_from: Some("/b".to_owned()) };
        assert_eq!(end.to_string(), "DEGRADED: x; do not restart, restore from /b");
    }

    #[test]
    fn a_disk_is_called_a_disk() {
        let rolled_back = FlashOutcome::RolledBack { why: "x".to_owned() };
        let of = |card: &str| FlashReport { card: card.to_owned(), ..report(rolled_back.clone()) };
        let told = [of("mtd:1").told().to_string(), of("disk:sda bus=usb").told().to_string()];
        let expected = ["card", "disk"]
            .map(|thing| format!("rolled back: x; the {thing} holds what it held before"));
        assert_eq!(told, expected);
    }
}
