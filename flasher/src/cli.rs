//! The command line.
//!
//! On return every option was understood and is one that the command takes.

mod disk;
mod given;

use std::ffi::OsString;
use std::path::PathBuf;

use agent_types::digest::Sha256Digest;
use agent_types::rom::{PciId, RomVersion};

use crate::address::CardAddress;
use crate::chip::Region;
pub use disk::{DiskCommand, WriteDisk};
use given::Given;

/// What `--help` says.
pub const HELP: &str = include_str!("cli/help.txt");

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// [`HELP`].
    Help,
    /// The program's version.
    Version,
    /// A command.
    Command(Box<Cli>),
}

/// A command, and how it answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Cli {
    /// Write JSON, one value per line.
    pub json: bool,
    /// Show libflashrom's messages.
    pub verbose: bool,
    /// Where backups and journals are kept.
    pub state_dir: PathBuf,
    /// What to do.
    pub command: Command,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Show cards and MTD partitions, and what can write them or why nothing can.
    List,
    /// Identify a card's chip.
    Probe(Target),
    /// Read a whole chip, twice, into a file.
    Backup {
        /// The card.
        target: Target,
        /// The file; without it, one in the state directory.
        backup: Option<PathBuf>,
    },
    /// Show what a ROM consists of, and whether a card may get it.
    Inspect {
        /// The ROM.
        rom: PathBuf,
        /// The card that would get it.
        card: Option<CardAddress>,
        /// The kind of card that would get it.
        pci_id: Option<PciId>,
    },
    /// Write a ROM to a card.
    Write(Write),
    /// Compare a card with a ROM.
    Verify {
        /// The card.
        target: Target,
        /// The ROM.
        rom: PathBuf,
        /// Where the ROM is on the chip; without it, at its beginning.
        region: Option<Region>,
    },
    /// Write a backup back.
    Restore {
        /// The card.
        target: Target,
        /// The backup; without it, the one that the journal names.
        backup: Option<PathBuf>,
        /// Restore this part of the chip only.
        region: Option<Region>,
        /// What may be done.
        permissions: Permissions,
    },
    /// Show what earlier runs left.
    Status {
        /// Of this card only.
        card: Option<CardAddress>,
    },
    /// Something with a whole disk.
    Disk(DiskCommand),
    /// One operation on a chip; started by the other commands.
    ChipOperation,
}

/// A card, and how it is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The card.
    pub card: CardAddress,
    /// Which card it is, where the kernel cannot tell; where it can, the two must agree.
    pub pci_id: Option<PciId>,
    /// The chip's name, where several descriptions fit one chip.
    pub chip: Option<String>,
    /// Longest time in seconds for any single operation on the chip.
    pub time_limit: Option<u64>,
    /// The card's network interface may go away although routes lead through it.
    pub allow_session_card: bool,
    /// Faults.
    #[cfg(feature = "dummy")]
    pub faults: crate::operation::Faults,
}

/// What `write` needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    /// The card.
    pub target: Target,
    /// The ROM.
    pub rom: PathBuf,
    /// Where the ROM belongs on the chip; without it, the whole chip is the ROM's.
    pub region: Option<Region>,
    /// Keep the backup here.
    pub backup: Option<PathBuf>,
    /// The component of a package, for a card that its driver flashes.
    pub component: Option<String>,
    /// The ROM's digest. An EFI image has no checksum of its own.
    pub sha256: Option<Sha256Digest>,
    /// The ROM's version, where it does not say one itself.
    pub rom_version: Option<RomVersion>,
    /// A card whose ROM has this version or a newer one is left alone.
    pub minimum_version: Option<RomVersion>,
    /// Show the plan and change nothing.
    pub dry_run: bool,
    /// What may be done.
    pub permissions: Permissions,
}

/// What may be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Let an older ROM replace a newer one.
    pub allow_downgrade: bool,
    /// Let the chip's software write protection be removed.
    pub allow_unprotect: bool,
    /// Run this with the backup's path and digest before anything is erased; unless it succeeds,
    /// nothing is.
    pub after_backup: Option<PathBuf>,
}

/// Why a command line is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is unknown, or its value is.
    #[error(transparent)]
    Option(#[from] lexopt::Error),
    /// No such command.
    #[error("expected a command, got {0:?}")]
    Command(String),
    /// No command at all.
    #[error("expected a command")]
    NoCommand,
    /// The command has no use for an option.
    #[error("{command} takes no {option}")]
    NotTaken {
        /// The command.
        command: String,
        /// The option.
        option: String,
    },
    /// The command cannot do without it.
    #[error("{command} needs {what}")]
    Missing {
        /// The command.
        command: String,
        /// What it needs.
        what: &'static str,
    },
}

/// Understands a command line; `arguments` begin after the program's name.
///
/// # Errors
/// It is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, Error> {
    let given = Given::parse(lexopt::Parser::from_args(arguments))?;
    if given.help {
        return Ok(Asked::Help);
    }
    if given.version {
        return Ok(Asked::Version);
    }
    given.check()?;
    Ok(Asked::Command(Box::new(Cli {
        json: given.json,
        verbose: given.verbose,
        state_dir: given.state_dir.clone(),
        command: given.command()?,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn command(line: &str) -> Command {
        match asked(line) {
            Ok(Asked::Command(cli)) => cli.command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn target(card: &str) -> Target {
        Target {
            card: card.parse().unwrap(),
            pci_id: None,
            chip: None,
            time_limit: None,
            allow_session_card: false,
            #[cfg(feature = "dummy")]
            faults: crate::operation::Faults::default(),
        }
    }

    #[test]
    fn a_whole_write_is_understood() {
        let line = "--json write --card pci:0000:03:00.0 --rom r --region 0:fff --backup=b \
                    --pci-id 8086:10d3 --dry-run --allow-downgrade --time-limit 7 --minimum-version 1.2 --rom-version 1.3";
        let write = Write {
            target: Target {
                pci_id: Some("8086:10d3".parse().unwrap()),
                time_limit: Some(7),
                ..target("pci:0000:03:00.0")
            },
            rom: "r".into(),
            region: Some(Region { start: 0, end: 0x1000 }),
            backup: Some("b".into()),
            component: None,
            sha256: None,
            rom_version: Some("1.3".into()),
            minimum_version: Some("1.2".into()),
            dry_run: true,
            permissions: Permissions { allow_downgrade: true, ..Permissions::default() },
        };
        let expected = Cli {
            json: true,
            verbose: false,
            state_dir: "/var/lib/flasher".into(),
            command: Command::Write(write),
        };
        assert_eq!(asked(line), Ok(Asked::Command(Box::new(expected))));
    }

    #[test]
    fn every_command_has_its_own_options() {
        assert_eq!(command("list"), Command::List);
        assert_eq!(command("probe --card mtd:1"), Command::Probe(target("mtd:1")));
        assert_eq!(command("status"), Command::Status { card: None });
        assert_eq!(command("chip-operation"), Command::ChipOperation);
        let inspect = Command::Inspect { rom: "r".into(), card: None, pci_id: None };
        assert_eq!(command("inspect r"), inspect);
        let verify = Command::Verify { target: target("auto"), rom: "r".into(), region: None };
        assert_eq!(command("verify --card auto --rom r"), verify);
        let backup = Command::Backup { target: target("mtd:1"), backup: Some("b".into()) };
        assert_eq!(command("backup --backup b --card mtd:1"), backup);
        let list = DiskCommand::List { target: None };
        assert_eq!(command("disk list"), Command::Disk(list));
        let restore = DiskCommand::Restore {
            target: "serial=x".parse().unwrap(),
            backup: "b".into(),
            time_limit: None,
        };
        assert_eq!(command("disk restore --backup b --target serial=x"), Command::Disk(restore));
        let write = DiskCommand::Write(WriteDisk {
            target: "bus=usb,fs=vfat".parse().unwrap(),
            image: "i".into(),
            sha256: None,
            backup: None,
            time_limit: Some(7),
            dry_run: true,
        });
        let line = "disk write --target bus=usb,fs=vfat --image i --time-limit 7 --dry-run";
        assert_eq!(command(line), Command::Disk(write));
        assert_eq!(asked("write --help"), Ok(Asked::Help));
        assert_eq!(asked("--version"), Ok(Asked::Version));
    }

    #[test]
    fn a_wrong_command_line_says_what_is_wrong() {
        for (line, expected) in [
            ("", "expected a command"),
            ("flash", "expected a command, got \"flash\""),
            ("list --card mtd:1", "list takes no --card"),
            ("verify --card mtd:1 --rom r --dry-run", "verify takes no --dry-run"),
            ("probe", "probe needs --card"),
            ("write --card mtd:1", "write needs --rom"),
            ("inspect", "inspect needs a ROM"),
            ("inspect r --card mtd:1 --pci-id 8086:10d3", "inspect takes no --card and --pci-id"),
            ("inspect r s", "unexpected argument \"s\""),
            ("disk", "expected a command, got \"disk\""),
            ("disk erase", "expected a command, got \"disk erase\""),
            ("disk write --image i", "disk write needs --target"),
            (
                "disk write --target bus=usb --image i",
                "cannot parse argument \"bus=usb\": expected",
            ),
            ("disk list --image i", "disk list takes no --image"),
            ("disk list sda", "unexpected argument \"sda\""),
            ("write --bogus", "invalid option '--bogus'"),
            ("write --card", "missing argument for option '--card'"),
            ("probe --card internal", "cannot parse argument \"internal\": expected auto"),
        ] {
            let error = asked(line).unwrap_err();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
    }

    #[test]
    fn every_option_is_explained() {
        for option in given::OPTIONS {
            assert!(
                HELP.contains(&format!("--{option} ")) || HELP.contains(&format!("--{option}\n"))
            );
        }
    }

    #[cfg(not(feature = "dummy"))]
    #[test]
    fn a_shipped_build_has_no_simulated_chip() {
        assert!(asked("probe --card dummy:bus=spi").is_err());
    }
}
