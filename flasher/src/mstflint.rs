//! ROMs of ConnectX-3 cards, which only `mstflint` of Debian's package writes: driven as a process.
//!
//! The card's firmware holds the ROM as one section, and `mstflint` writes it beside the old one
//! before it says that it counts. So the procedure is another than for a chip: there are no blocks
//! to plan, and no header to take away. Not tried with a card.
//! See mstflint's manual, and M-Lab's `flashrom.sh`, whose settings these are.

pub mod procedure;
mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use process::Error;
use process::run;

/// What it is called in reports.
pub const NAME: &str = "mstflint";

use crate::pci::PciAddress;

/// Where Debian's package has it.
pub const MSTFLINT: &str = "/usr/bin/mstflint";
const MSTCONFIG: &str = "/usr/bin/mstconfig";

/// A whole firmware of 16 MiB is read and written through the card's registers.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Port 1 starts the ROM, and the ROM is one for PXE.
const SETTINGS: &[&str] = &["BOOT_OPTION_ROM_EN_P1=True", "LEGACY_BOOT_PROTOCOL_P1=PXE"];

/// A ROM that is not the firmware maker's is refused otherwise.
const BURN: &[&str] = &["--allow_rom_change", "brom"];

/// What holds a ROM as one section.
pub trait RomSection {
    /// What it holds.
    ///
    /// # Errors
    /// It cannot be read, or there is none.
    fn read(&mut self) -> Result<Vec<u8>, Error>;

    /// Puts `rom` there.
    ///
    /// # Errors
    /// What it holds is not known.
    fn write(&mut self, rom: &[u8]) -> Result<(), Error>;

    /// Checks all that the card has of checksums.
    ///
    /// # Errors
    /// One is wrong.
    fn verify(&mut self) -> Result<(), Error>;

    /// Makes the card start the ROM.
    ///
    /// # Errors
    /// The card does not take the settings.
    fn enable(&mut self) -> Result<(), Error>;
}

/// A card, as `mstflint` reaches it.
#[derive(Debug)]
pub struct Mstflint {
    mstflint: PathBuf,
    mstconfig: PathBuf,
    card: PciAddress,
    limit: Duration,
    directory: PathBuf,
}

impl Mstflint {
    /// The card at an address; files that pass between us and `mstflint` go to `directory`.
    #[must_use]
    pub fn new(card: PciAddress, directory: &Path) -> Self {
        let [mstflint, mstconfig] = [MSTFLINT, MSTCONFIG].map(PathBuf::from);
        Self { mstflint, mstconfig, card, limit: LIMIT, directory: directory.to_owned() }
    }

    /// Other programs than Debian's.
    #[must_use]
    pub fn programs(self, mstflint: &Path, mstconfig: &Path) -> Self {
        Self { mstflint: mstflint.to_owned(), mstconfig: mstconfig.to_owned(), ..self }
    }

    /// Bounds every operation.
    #[must_use]
    pub fn limit(self, limit: Option<Duration>) -> Self {
        Self { limit: limit.unwrap_or(self.limit), ..self }
    }

    /// The commands that write a ROM, for people.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let Self { mstflint, mstconfig, card, .. } = self;
        let (flint, config) = (mstflint.display(), mstconfig.display());
        vec![
            format!("{config} -d {card} -y set {}", SETTINGS.join(" ")),
            format!("{flint} -d {card} -y {} ROM", BURN.join(" ")),
            format!("{flint} -d {card} -y verify"),
            format!("{flint} -d {card} -y rrom FILE, which must be the ROM"),
        ]
    }

    fn flint(&self, arguments: &[&str]) -> Result<(), Error> {
        let card = self.card.to_string();
        run(&self.mstflint, &[&["-d", &card, "-y"], arguments].concat(), self.limit)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("mstflint-{}-{name}.rom", std::process::id()))
    }

    fn with_file<T>(
        &self,
        name: &str,
        work: impl FnOnce(&Path, &str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let path = self.file(name);
        let result = work(&path, &path.display().to_string());
        // One that stays is overwritten by the next process of this number.
        let _stays = fs::remove_file(&path);
        result
    }
}

impl RomSection for Mstflint {
    fn read(&mut self) -> Result<Vec<u8>, Error> {
        self.with_file("read", |path, name| {
            self.flint(&["rrom", name])?;
            fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
        })
    }

    fn write(&mut self, rom: &[u8]) -> Result<(), Error> {
        self.with_file("write", |path, name| {
            fs::write(path, rom).map_err(|source| Error::File { path: path.to_owned(), source })?;
            self.flint(&[BURN, &[name]].concat())
        })
    }

    fn verify(&mut self) -> Result<(), Error> {
        self.flint(&["verify"])
    }

    fn enable(&mut self) -> Result<(), Error> {
        let card = self.card.to_string();
        let arguments = [&["-d", &card, "-y", "set"], SETTINGS].concat();
        run(&self.mstconfig, &arguments, self.limit)
    }
}
