//! From the address of a card to what works on it.

mod auto;

use std::path::Path;

use agent_types::rom::{Card, PciId, RomError};

use crate::address::CardAddress;
use crate::devlink::Device;
use crate::mtd;
use crate::pci::{self, PciAddress, PciDevice};
use crate::programmer::Programmer;
use crate::support::{Support, support_of};
use auto::the_card_of;
pub use auto::writable;

/// A card that can be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its address, as an operator writes it; never `auto`.
    pub name: String,
    /// What a ROM for it must fit; unknown where nobody said which card a chip is on.
    pub card: Option<Card>,
    /// What works on it.
    pub programmer: Programmer,
    /// The card, whose driver must let go of it.
    pub mapped: Option<PciDevice>,
}

/// Why a card cannot be worked on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No card has the address.
    #[error("no card at {address}")]
    NoCard {
        /// The address.
        address: CardAddress,
        /// What sysfs said.
        source: pci::Error,
    },
    /// No partition has the number.
    #[error("there is no mtd{0}")]
    NoMtd(u32),
    /// It cannot be written.
    #[error("{address} cannot be written: {why}")]
    NotWritable {
        /// The card.
        address: CardAddress,
        /// Why not.
        why: &'static str,
    },
    /// The card is another than the operator believes.
    #[error("expected card {expected} at {address}, got {got}")]
    AnotherCard {
        /// The address.
        address: CardAddress,
        /// What the operator said.
        expected: PciId,
        /// What is there.
        got: PciId,
    },
    /// `auto` found none or several.
    #[error("expected one card that the ROM is for and that can be written, got {}", list(found))]
    NotOne {
        /// What it found.
        found: Vec<String>,
    },
    /// `auto` needs a ROM.
    #[error("--card auto needs a ROM")]
    AutoWithoutRom,
    /// The ROM cannot be read.
    #[error("cannot tell which card the ROM is for")]
    Rom(#[from] RomError),
    /// sysfs cannot be read.
    #[error(transparent)]
    Pci(#[from] pci::Error),
}

fn list(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

/// What writes a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// libflashrom, block by block.
    Chip(Target),
    /// The card's own driver.
    Driver(Device),
    /// `mstflint`.
    Mstflint(PciAddress, Card),
}

/// Finds what writes `rom` to the card at `address`.
///
/// # Errors
/// As [`find`].
pub fn chosen(
    sysfs: &Path,
    address: &CardAddress,
    pci_id: Option<PciId>,
    rom: &[u8],
) -> Result<Chosen, Error> {
    match address {
        CardAddress::Auto => {
            let found = the_card_of(sysfs, Some(rom), pci_id)?;
            chosen(sysfs, &found.address, Some(found.card.id), rom)
        }
        CardAddress::Devlink(device) => Ok(Chosen::Driver(device.clone())),
        CardAddress::Mst(at) => {
            Ok(Chosen::Mstflint(*at, mstflint_card(sysfs, address, *at, pci_id)?))
        }
        _ => Ok(Chosen::Chip(find(sysfs, address, pci_id, Some(rom))?)),
    }
}

/// The card at `at`, if `mstflint` writes it.
///
/// # Errors
/// It is not there, is another, or `mstflint` does not write it.
pub fn mstflint_card(
    sysfs: &Path,
    address: &CardAddress,
    at: PciAddress,
    pci_id: Option<PciId>,
) -> Result<Card, Error> {
    let card = the_same(address, card_of_function(sysfs, address, at)?, pci_id)?;
    if support_of(card.id) == Support::Mstflint {
        return Ok(Card { rom_bar_bytes: None, ..card.card() });
    }
    let why = "mstflint is for ConnectX-3 and ConnectX-3 Pro here";
    Err(Error::NotWritable { address: address.clone(), why })
}

fn card_of_function(
    sysfs: &Path,
    address: &CardAddress,
    at: PciAddress,
) -> Result<PciDevice, Error> {
    let source = |source| Error::NoCard { address: address.clone(), source };
    pci::card_at(sysfs, at).map_err(source)
}

/// The card, if it is what the operator believes.
fn the_same(
    address: &CardAddress,
    card: PciDevice,
    pci_id: Option<PciId>,
) -> Result<PciDevice, Error> {
    match pci_id.filter(|expected| *expected != card.id) {
        Some(expected) => {
            Err(Error::AnotherCard { address: address.clone(), expected, got: card.id })
        }
        None => Ok(card),
    }
}

/// Finds what works on the card at `address`. `pci_id` is what the operator says that it is, and
/// `rom` decides for `auto`.
///
/// # Errors
/// The card is not there, is another, or cannot be written.
pub fn find(
    sysfs: &Path,
    address: &CardAddress,
    pci_id: Option<PciId>,
    rom: Option<&[u8]>,
) -> Result<Target, Error> {
    match address {
        CardAddress::Auto => {
            let found = the_card_of(sysfs, rom, pci_id)?;
            find(sysfs, &found.address, Some(found.card.id), rom)
        }
        CardAddress::Pci(at) => pci_target(address, card_of_function(sysfs, address, *at)?, pci_id),
        CardAddress::Mst(_) => {
            let why = "mstflint is asked for `write` and `restore` only";
            Err(Error::NotWritable { address: address.clone(), why })
        }
        CardAddress::Devlink(_) => {
            let why = "its driver takes whole packages only, with `write`";
            Err(Error::NotWritable { address: address.clone(), why })
        }
        CardAddress::Mtd(number) => mtd_target(sysfs, address, *number, pci_id),
        #[cfg(feature = "dummy")]
        CardAddress::Dummy(parameters) => Ok(Target {
            name: address.to_string(),
            card: pci_id.map(card_of),
            programmer: Programmer::Dummy(parameters.clone()),
            mapped: None,
        }),
    }
}

/// A card of which only the id is known.
#[must_use]
pub const fn card_of(id: PciId) -> Card {
    Card { id, rom_bar_bytes: None, memory_bar_bytes: None }
}

fn pci_target(
    address: &CardAddress,
    card: PciDevice,
    pci_id: Option<PciId>,
) -> Result<Target, Error> {
    let card = the_same(address, card, pci_id)?;
    let backend = match support_of(card.id) {
        Support::Writable { backend, .. } => backend,
        Support::Mstflint => {
            let why = "mstflint writes it, as mst: and not as pci:";
            return Err(Error::NotWritable { address: address.clone(), why });
        }
        Support::NotWritable { why } => {
            return Err(Error::NotWritable { address: address.clone(), why });
        }
    };
    Ok(Target {
        name: address.to_string(),
        card: Some(card.card()),
        programmer: backend.programmer(card.address),
        mapped: Some(card),
    })
}

fn mtd_target(
    sysfs: &Path,
    address: &CardAddress,
    number: u32,
    pci_id: Option<PciId>,
) -> Result<Target, Error> {
    let device = mtd::device(sysfs, number).ok_or(Error::NoMtd(number))?;
    if let Some(why) = device.why_not {
        return Err(Error::NotWritable { address: address.clone(), why });
    }
    if let (Some(expected), Some(got)) = (pci_id, device.pci_id)
        && expected != got
    {
        return Err(Error::AnotherCard { address: address.clone(), expected, got });
    }
    Ok(Target {
        name: address.to_string(),
        card: pci_id.or(device.pci_id).map(card_of),
        programmer: Programmer::LinuxMtd(number),
        mapped: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_types::flash_report::WritableCard;

    const ADDRESS: &str = "0000:03:00.0";

    fn rom() -> Vec<u8> {
        std::fs::read("/usr/lib/ipxe/qemu/pxe-e1000e.rom").expect("Debian's ipxe-qemu")
    }

    fn target(id: &str, address: &str, pci_id: Option<&str>) -> Result<Target, String> {
        let sysfs = pci::tests::sysfs_with(ADDRESS, id.parse().unwrap(), Some("e1000e"));
        let pci_id = pci_id.map(|id| id.parse().unwrap());
        find(sysfs.path(), &address.parse().unwrap(), pci_id, Some(&rom()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn auto_is_the_only_card_that_the_rom_is_for() {
        let found = target("8086:10d3", "auto", None).unwrap();
        assert_eq!(found, target("8086:10d3", "pci:0000:03:00.0", None).unwrap());
        assert_eq!(found.programmer, Programmer::NicIntelSpi(ADDRESS.parse().unwrap()));
        assert_eq!(
            target("8086:1533", "auto", None).unwrap_err(),
            "expected one card that the ROM is for and that can be written, got none"
        );
    }

    fn add_partition(sysfs: &Path, number: u32, name: &str, flags: &str) {
        let directory = sysfs.join(format!("class/mtd/mtd{number}"));
        std::fs::create_dir_all(&directory).unwrap();
        for (file, text) in [
            ("name", name),
            ("type", "nor"),
            ("flags", flags),
            ("size", "262144"),
            ("numeraseregions", "0"),
        ] {
            std::fs::write(directory.join(file), text).unwrap();
        }
    }

    #[test]
    fn auto_takes_a_partition_only_if_it_is_named_for_a_rom_and_alone() {
        let virtio =
            std::fs::read("/usr/lib/ipxe/qemu/pxe-virtio.rom").expect("Debian's ipxe-qemu");
        let sysfs = pci::tests::sysfs_with(ADDRESS, "1af4:1041".parse().unwrap(), None);
        let auto = |pci_id: Option<&str>| {
            let pci_id = pci_id.map(|id| id.parse().unwrap());
            find(sysfs.path(), &CardAddress::Auto, pci_id, Some(&virtio))
                .map(|target| (target.name, target.card.map(|card| card.id.to_string())))
                .map_err(|error| error.to_string())
        };
        let none = "expected one card that the ROM is for and that can be written, got none";
        add_partition(sysfs.path(), 0, "BIOS", "0xc00");
        assert_eq!(auto(None), Err(none.to_owned()), "the machine's own firmware");
        add_partition(sysfs.path(), 1, "oprom", "0x800");
        assert_eq!(auto(None), Err(none.to_owned()), "it is read-only");
        add_partition(sysfs.path(), 1, "oprom", "0xc00");
        let found = Ok(("mtd:1".to_owned(), Some("1af4:1041".to_owned())));
        assert_eq!(auto(None), found);
        assert_eq!(auto(Some("1af4:1041")), found);
        assert_eq!(auto(Some("8086:10d3")), Err(none.to_owned()), "the ROM is for another");
        add_partition(sysfs.path(), 2, "oprom", "0xc00");
        let both =
            "expected one card that the ROM is for and that can be written, got mtd:1, mtd:2";
        assert_eq!(auto(None), Err(both.to_owned()));
        let card = |card: &str| WritableCard {
            card: card.to_owned(),
            pci_id: "1af4:1041".parse().unwrap(),
        };
        assert_eq!(writable(sysfs.path()).unwrap(), [card("mtd:1"), card("mtd:2")]);
    }

    #[test]
    fn a_connectx_3_is_for_mstflint() {
        let sysfs = pci::tests::sysfs_with(ADDRESS, "15b3:1003".parse().unwrap(), None);
        let chosen = |address: &str| {
            chosen(sysfs.path(), &address.parse().unwrap(), None, &rom())
                .map_err(|error| error.to_string())
        };
        let Ok(Chosen::Mstflint(at, card)) = chosen("mst:0000:03:00.0") else { panic!() };
        assert_eq!((at.to_string().as_str(), card.id.to_string().as_str()), (ADDRESS, "15b3:1003"));
        assert_eq!(
            chosen("pci:0000:03:00.0").unwrap_err(),
            "pci:0000:03:00.0 cannot be written: mstflint writes it, as mst: and not as pci:"
        );
    }

    #[test]
    fn a_card_that_is_another_or_cannot_be_written_is_no_target() {
        assert_eq!(
            target("8086:10d3", "pci:0000:03:00.0", Some("8086:1533")).unwrap_err(),
            "expected card 8086:1533 at pci:0000:03:00.0, got 8086:10d3"
        );
        assert_eq!(
            target("1af4:1000", "pci:0000:03:00.0", None).unwrap_err(),
            "pci:0000:03:00.0 cannot be written: a virtual card: its ROM is a file of the hypervisor"
        );
        assert_eq!(target("8086:10d3", "mtd:7", None).unwrap_err(), "there is no mtd7");
        assert_eq!(
            target("8086:10d3", "pci:0000:04:00.0", None).unwrap_err(),
            "no card at pci:0000:04:00.0"
        );
    }
}
