//! The command line.

use std::path::PathBuf;

use agent_types::digest::Sha256Digest;
use agent_types::rom::PciId;
use clap::{Args, Parser, Subcommand};

use crate::address::CardAddress;
use crate::chip::Region;

const EXIT_CODES: &str = "\
Exit codes:
  0  done: the card holds the image, or held it already
  1  the command could not be carried out; nothing was written
  2  the command line is wrong
  3  refused: nothing was written, and the reason is said
  4  rolled back: writing failed, the card holds what it held before
  5  DEGRADED: the card holds neither for certain; do not restart, restore the named backup
  6  verify: the card holds something else

Addresses: pci:0000:03:00.0, mtd:1, or auto for the only card that the
ROM is for.";

/// Reflashes a network card's option ROM, and keeps a way back.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// Write JSON, one value per line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Show libflashrom's messages.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Where backups and journals are kept.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/flasher")]
    pub state_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show cards and MTD partitions, and what can write them or why nothing can.
    List,
    /// Identify a card's chip.
    Probe(Target),
    /// Read a whole chip, twice, into a file.
    Backup {
        /// The card.
        #[command(flatten)]
        target: Target,
        /// The file; without it, one in the state directory.
        #[arg(long, value_name = "FILE")]
        backup: Option<PathBuf>,
    },
    /// Show what a ROM consists of, and whether a card may get it.
    Inspect {
        /// The ROM.
        #[arg(value_name = "ROM")]
        rom: PathBuf,
        /// The card that would get it.
        #[arg(long, value_name = "ADDRESS", conflicts_with = "pci_id")]
        card: Option<CardAddress>,
        /// The kind of card that would get it.
        #[arg(long, value_name = "VVVV:DDDD")]
        pci_id: Option<PciId>,
    },
    /// Write a ROM to a card.
    Write(Write),
    /// Compare a card with a ROM.
    Verify {
        /// The card.
        #[command(flatten)]
        target: Target,
        /// The ROM.
        #[arg(long, value_name = "FILE")]
        rom: PathBuf,
        /// Where the ROM is on the chip; without it, at its beginning.
        #[arg(long, value_name = "START:END")]
        region: Option<Region>,
    },
    /// Write a backup back.
    Restore {
        /// The card.
        #[command(flatten)]
        target: Target,
        /// The backup; without it, the one that the journal names.
        #[arg(long, value_name = "FILE")]
        backup: Option<PathBuf>,
        /// Restore this part of the chip only.
        #[arg(long, value_name = "START:END")]
        region: Option<Region>,
        /// What may be done.
        #[command(flatten)]
        permissions: Permissions,
    },
    /// Show what earlier runs left.
    Status {
        /// Of this card only.
        #[arg(long, value_name = "ADDRESS")]
        card: Option<CardAddress>,
    },
    /// One operation on a chip; started by the other commands.
    #[command(hide = true, name = crate::operation::ARGUMENT)]
    ChipOperation,
}

/// A card, and how it is talked to.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The card.
    #[arg(long, value_name = "ADDRESS")]
    pub card: CardAddress,
    /// Which card it is, where the kernel cannot tell; where it can, the two must agree.
    #[arg(long, value_name = "VVVV:DDDD")]
    pub pci_id: Option<PciId>,
    /// The chip's name, where several descriptions fit one chip.
    #[arg(long, value_name = "NAME")]
    pub chip: Option<String>,
    /// Longest time for any single operation on the chip.
    #[arg(long, value_name = "SECONDS")]
    pub time_limit: Option<u64>,
    /// The card's network interface may go away although routes lead through it.
    #[arg(long)]
    pub allow_session_card: bool,
    /// Faults.
    #[cfg(feature = "dummy")]
    #[command(flatten)]
    pub faults: FaultArguments,
}

/// What shall go wrong; in test builds only.
#[cfg(feature = "dummy")]
#[derive(Debug, Clone, Args)]
pub struct FaultArguments {
    /// Lose power at this erase or program.
    #[arg(long, hide = true)]
    pub crash_at: Option<u32>,
    /// Fail at this erase or program.
    #[arg(long, hide = true)]
    pub fail_at: Option<u32>,
    /// Do not stop libflashrom.
    #[arg(long, hide = true)]
    pub without_guards: bool,
}

/// What `write` needs.
#[derive(Debug, Args)]
pub struct Write {
    /// The card.
    #[command(flatten)]
    pub target: Target,
    /// The ROM.
    #[arg(long, value_name = "FILE")]
    pub rom: PathBuf,
    /// Where the ROM belongs on the chip, END included; without it, the whole chip is the ROM's.
    #[arg(long, value_name = "START:END")]
    pub region: Option<Region>,
    /// Keep the backup here.
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,
    /// The ROM's digest. An EFI image has no checksum of its own.
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<Sha256Digest>,
    /// Show the plan and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// What may be done.
    #[command(flatten)]
    pub permissions: Permissions,
}

/// What may be done.
#[derive(Debug, Clone, Args)]
pub struct Permissions {
    /// Let an older ROM replace a newer one.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Let the chip's software write protection be removed.
    #[arg(long)]
    pub allow_unprotect: bool,
    /// Run this with the backup's path and digest before anything is erased; unless it succeeds,
    /// nothing is.
    #[arg(long, value_name = "PROGRAM")]
    pub after_backup: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_whole_write_is_understood() {
        let cli = Cli::try_parse_from([
            "flasher",
            "write",
            "--card",
            "pci:0000:03:00.0",
            "--rom",
            "r",
            "--region",
            "0:fff",
            "--backup",
            "b",
            "--pci-id",
            "8086:10d3",
            "--dry-run",
            "--json",
        ])
        .unwrap();
        let Command::Write(write) = cli.command else { panic!("{cli:?}") };
        assert_eq!(write.region, Some(Region { start: 0, end: 0x1000 }));
        assert!(cli.json && write.dry_run);
    }

    #[cfg(not(feature = "dummy"))]
    #[test]
    fn a_shipped_build_has_no_simulated_chip() {
        assert!(Cli::try_parse_from(["flasher", "probe", "--card", "dummy:bus=spi"]).is_err());
    }
}
