//! What the program does, command by command.

mod disk;
mod mellanox;
mod package;
mod report;
mod show;
mod work;

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use crate::address::CardAddress;
use crate::chip::ChipError;
use crate::cli::{self, Cli, Command};
use crate::decide::Refusal;
use crate::output::Output;
use crate::target::Chosen;
use crate::{devlink, driver, flash, store, target};

/// Exit code: the command could not be carried out.
const CANNOT: u8 = 1;
/// Exit code: nothing was written, for a reason.
const REFUSED: u8 = 3;
/// Exit code: the card holds something else.
const DIFFERS: u8 = 6;

/// Where the kernel shows devices and processes.
const SYSFS: &str = "/sys";
const PROCFS: &str = "/proc";
/// This very program, even if its file is replaced while it runs: an upgrade must not put another
/// version to work on a chip that is half written. The kernel names these processes `exe`: a `flasher`
/// is one that tells how it went.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// No option ROM is larger than the largest ROM BAR.
const MOST_ROM_BYTES: u64 = 32 << 20;

/// Why a command could not be carried out. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is too large for what it should be.
    #[error("expected at most {MOST_ROM_BYTES} bytes in {}", .0.display())]
    TooLarge(PathBuf),
    /// The card.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// The chip.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// Reasons that the procedure would give, too.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The driver.
    #[error(transparent)]
    Driver(#[from] driver::UnbindError),
    /// A card that its own driver flashes.
    #[error(transparent)]
    Devlink(#[from] devlink::Error),
    /// Backups and journals.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The card carries routes.
    #[error("routes lead through the card, and they would be lost (--allow-session-card)")]
    SessionCard,
    /// Nobody said which card the chip is on.
    #[error("the kernel does not tell which card {0} is on: say it with --pci-id")]
    UnknownCard(String),
    /// No disk is meant, or one in use.
    #[error(transparent)]
    Disk(#[from] crate::disk::choose::Error),
    /// The disk changed its name or its content while it was opened.
    #[error("{0} is not the disk any more that was found")]
    DiskChanged(String),
    /// The disk cannot be opened, or would be refused.
    #[error(transparent)]
    Rewrite(#[from] crate::disk::rewrite::Refusal),
    /// There is nothing to restore.
    #[error("no journal names a backup of {0}: say it with --backup")]
    NoBackup(String),
}

impl Error {
    /// A refusal is an answer; the rest are failures to ask.
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_)
            | Self::SessionCard
            | Self::UnknownCard(_)
            | Self::Chip(_)
            | Self::Disk(_)
            | Self::DiskChanged(_)
            | Self::Rewrite(_)
            | Self::Target(_) => REFUSED,
            _ => CANNOT,
        }
    }
}

/// One output for the command and for what works behind it.
pub(crate) type SharedOutput = Rc<RefCell<Output>>;

/// Carries out one command.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    let output = Rc::new(RefCell::new(Output::new(cli.json, cli.verbose)));
    match dispatch(cli, &output) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let message = flash::chain(&error);
            let value = serde_json::json!({"event": "error", "message": message});
            if cli.json {
                output.borrow_mut().result(&value, String::new);
            } else {
                output.borrow_mut().line(&message);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

fn dispatch(cli: &Cli, output: &SharedOutput) -> Result<u8, Error> {
    match &cli.command {
        Command::List => show::list(output),
        Command::Inspect { rom, card, pci_id } => {
            show::inspect(output, rom, card.as_ref(), *pci_id)
        }
        Command::Status { card } => show::status(output, &cli.state_dir, card.as_ref()),
        Command::Probe(target) => work::probe(output, target),
        Command::Backup { target, backup } => {
            work::backup(output, target, &cli.state_dir, backup.as_deref())
        }
        Command::Verify { target, rom, region } => work::verify(output, target, rom, *region),
        Command::Write(write) => self::write(output, write, &cli.state_dir),
        Command::Restore { target, backup, region, permissions } => {
            let wanted = work::Restore { backup: backup.as_deref(), region: *region, permissions };
            match &target.card {
                CardAddress::Mst(at) => {
                    mellanox::restore(output, target, *at, &wanted, &cli.state_dir)
                }
                _ => work::restore(output, target, &wanted, &cli.state_dir),
            }
        }
        Command::Disk(command) => disk::run(output, command, &cli.state_dir),
        // main.rs has taken this way already: a process per operation has no output of ours.
        Command::ChipOperation => Ok(CANNOT),
    }
}

/// What writes a card depends on the card.
fn write(output: &SharedOutput, write: &cli::Write, state_dir: &Path) -> Result<u8, Error> {
    let rom = read_file(&write.rom)?;
    let cli::Target { card, pci_id, .. } = &write.target;
    match target::chosen(Path::new(SYSFS), card, *pci_id, &rom)? {
        Chosen::Driver(device) => package::write(output, write, &rom, &device),
        Chosen::Mstflint(address, card) => {
            mellanox::write(output, write, &rom, state_dir, (address, card))
        }
        Chosen::Chip(target) => work::write(output, write, &rom, state_dir, target),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let error = |source| Error::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(error)?.len() > MOST_ROM_BYTES {
        return Err(Error::TooLarge(path.to_owned()));
    }
    fs::read(path).map_err(error)
}
