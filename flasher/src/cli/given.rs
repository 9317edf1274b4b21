//! The options as they were given, before a command takes them.

use std::path::PathBuf;

use agent_types::digest::Sha256Digest;
use agent_types::disk::Fingerprint;
use agent_types::rom::{PciId, RomVersion};
use lexopt::prelude::*;

use super::{Command, DiskCommand, Error, Permissions, Target, Write, WriteDisk};
use crate::address::CardAddress;
use crate::chip::Region;
use crate::operation;

const STATE_DIR: &str = "/var/lib/flasher";

/// The command that has commands of its own.
const DISK: &str = "disk";

const TARGET: &[&str] = &[
    "card",
    "pci-id",
    "chip",
    "time-limit",
    "allow-session-card",
    "crash-at",
    "fail-at",
    "without-guards",
];
const PERMISSIONS: &[&str] = &["allow-downgrade", "allow-unprotect", "after-backup"];

/// The commands and the options that each takes.
const COMMANDS: &[(&str, &[&[&str]])] = &[
    ("list", &[]),
    ("probe", &[TARGET]),
    ("backup", &[TARGET, &["backup"]]),
    ("inspect", &[&["card", "pci-id"]]),
    (
        "write",
        &[
            TARGET,
            PERMISSIONS,
            &[
                "rom",
                "region",
                "backup",
                "component",
                "sha256",
                "rom-version",
                "minimum-version",
                "dry-run",
            ],
        ],
    ),
    ("verify", &[TARGET, &["rom", "region"]]),
    ("restore", &[TARGET, PERMISSIONS, &["backup", "region"]]),
    ("status", &[&["card"]]),
    ("disk list", &[&["target"]]),
    ("disk write", &[&["target", "image", "sha256", "backup", "time-limit", "dry-run"]]),
    ("disk restore", &[&["target", "backup", "time-limit"]]),
    (operation::ARGUMENT, &[]),
];

/// What people may give; faults are for tests.
#[cfg(test)]
pub(super) const OPTIONS: &[&str] = &[
    "json",
    "verbose",
    "state-dir",
    "card",
    "pci-id",
    "chip",
    "time-limit",
    "allow-session-card",
    "rom",
    "region",
    "backup",
    "sha256",
    "rom-version",
    "minimum-version",
    "dry-run",
    "allow-downgrade",
    "allow-unprotect",
    "after-backup",
    "target",
    "image",
];

/// The options as they were given.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) json: bool,
    pub(super) verbose: bool,
    pub(super) state_dir: PathBuf,
    command: Option<String>,
    /// The names of the command's options, in order.
    names: Vec<String>,
    file: Option<PathBuf>,
    card: Option<CardAddress>,
    pci_id: Option<PciId>,
    chip: Option<String>,
    time_limit: Option<u64>,
    allow_session_card: bool,
    rom: Option<PathBuf>,
    target: Option<Fingerprint>,
    image: Option<PathBuf>,
    region: Option<Region>,
    backup: Option<PathBuf>,
    component: Option<String>,
    sha256: Option<Sha256Digest>,
    rom_version: Option<RomVersion>,
    minimum_version: Option<RomVersion>,
    dry_run: bool,
    permissions: Permissions,
    #[cfg(feature = "dummy")]
    faults: operation::Faults,
}

impl Given {
    pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Self, Error> {
        let mut given = Self { state_dir: STATE_DIR.into(), ..Self::default() };
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => given.help = true,
                Short('V') | Long("version") => given.version = true,
                Short('v') | Long("verbose") => given.verbose = true,
                Long("json") => given.json = true,
                Long("state-dir") => given.state_dir = parser.value()?.into(),
                Long(name) => {
                    let name = name.to_owned();
                    given.option(&name, &mut parser)?;
                    given.names.push(name);
                }
                Value(word) if given.command.is_none() => given.command = Some(word.string()?),
                Value(word) if given.command.as_deref() == Some(DISK) => {
                    given.command = Some(format!("{DISK} {}", word.string()?));
                }
                Value(file) if given.takes_file() => given.file = Some(file.into()),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(given)
    }

    fn option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        match name {
            "card" => self.card = Some(parser.value()?.parse()?),
            "pci-id" => self.pci_id = Some(parser.value()?.parse()?),
            "chip" => self.chip = Some(parser.value()?.string()?),
            "time-limit" => self.time_limit = Some(parser.value()?.parse()?),
            "allow-session-card" => self.allow_session_card = true,
            "target" => self.target = Some(parser.value()?.parse()?),
            "image" => self.image = Some(parser.value()?.into()),
            "rom" => self.rom = Some(parser.value()?.into()),
            "region" => self.region = Some(parser.value()?.parse()?),
            "backup" => self.backup = Some(parser.value()?.into()),
            "component" => self.component = Some(parser.value()?.string()?),
            "sha256" => self.sha256 = Some(parser.value()?.parse()?),
            "rom-version" => self.rom_version = Some(parser.value()?.string()?.as_str().into()),
            "minimum-version" => {
                self.minimum_version = Some(parser.value()?.string()?.as_str().into());
            }
            "dry-run" => self.dry_run = true,
            "allow-downgrade" => self.permissions.allow_downgrade = true,
            "allow-unprotect" => self.permissions.allow_unprotect = true,
            "after-backup" => self.permissions.after_backup = Some(parser.value()?.into()),
            #[cfg(feature = "dummy")]
            "crash-at" => self.faults.crash_at = Some(parser.value()?.parse()?),
            #[cfg(feature = "dummy")]
            "fail-at" => self.faults.fail_at = Some(parser.value()?.parse()?),
            #[cfg(feature = "dummy")]
            "without-guards" => self.faults.without_guards = true,
            _ => return Err(Long(name).unexpected()),
        }
        Ok(())
    }

    fn takes_file(&self) -> bool {
        self.file.is_none() && self.command.as_deref() == Some("inspect")
    }

    /// Does the command take every option that was given?
    pub(super) fn check(&self) -> Result<(), Error> {
        let command = self.command.clone().ok_or(Error::NoCommand)?;
        let Some((_, takes)) = COMMANDS.iter().find(|(name, _)| *name == command) else {
            return Err(Error::Command(command));
        };
        let is_taken = |name: &String| takes.concat().contains(&name.as_str());
        if let Some(name) = self.names.iter().find(|name| !is_taken(name)) {
            return Err(Error::NotTaken { command, option: format!("--{name}") });
        }
        if command == "inspect" && self.card.is_some() && self.pci_id.is_some() {
            return Err(Error::NotTaken { command, option: "--card and --pci-id".to_owned() });
        }
        Ok(())
    }

    pub(super) fn command(self) -> Result<Command, Error> {
        let name = self.command.clone().ok_or(Error::NoCommand)?;
        Ok(match name.as_str() {
            "list" => Command::List,
            "probe" => Command::Probe(self.target()?),
            "backup" => Command::Backup { target: self.target()?, backup: self.backup },
            "inspect" => Command::Inspect {
                rom: needed(&name, "a ROM", self.file)?,
                card: self.card,
                pci_id: self.pci_id,
            },
            "write" => Command::Write(Write {
                target: self.target()?,
                rom: needed(&name, "--rom", self.rom)?,
                region: self.region,
                backup: self.backup,
                component: self.component,
                sha256: self.sha256,
                rom_version: self.rom_version,
                minimum_version: self.minimum_version,
                dry_run: self.dry_run,
                permissions: self.permissions,
            }),
            "verify" => Command::Verify {
                target: self.target()?,
                rom: needed(&name, "--rom", self.rom)?,
                region: self.region,
            },
            "restore" => Command::Restore {
                target: self.target()?,
                backup: self.backup,
                region: self.region,
                permissions: self.permissions,
            },
            "status" => Command::Status { card: self.card },
            "disk list" => Command::Disk(DiskCommand::List { target: self.target }),
            "disk write" => Command::Disk(DiskCommand::Write(WriteDisk {
                target: needed(&name, "--target", self.target)?,
                image: needed(&name, "--image", self.image)?,
                sha256: self.sha256,
                backup: self.backup,
                time_limit: self.time_limit,
                dry_run: self.dry_run,
            })),
            "disk restore" => Command::Disk(DiskCommand::Restore {
                target: needed(&name, "--target", self.target)?,
                backup: needed(&name, "--backup", self.backup)?,
                time_limit: self.time_limit,
            }),
            operation::ARGUMENT => Command::ChipOperation,
            _ => return Err(Error::Command(name)),
        })
    }

    fn target(&self) -> Result<Target, Error> {
        let command = self.command.as_deref().unwrap_or_default();
        Ok(Target {
            card: needed(command, "--card", self.card.clone())?,
            pci_id: self.pci_id,
            chip: self.chip.clone(),
            time_limit: self.time_limit,
            allow_session_card: self.allow_session_card,
            #[cfg(feature = "dummy")]
            faults: self.faults,
        })
    }
}

fn needed<T>(command: &str, what: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::Missing { command: command.to_owned(), what })
}
