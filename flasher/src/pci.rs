//! Network cards, as sysfs shows them.
//!
//! Every function takes the root of sysfs, so that tests give a directory.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use agent_types::rom::{Card, PciId};
use serde::{Deserialize, Serialize};

/// Where a PCI function is: `0000:03:00.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// Why a text is no [`PciAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a PCI address such as 0000:03:00.0, got {0:?}")]
pub struct ParsePciAddressError(String);

impl FromStr for PciAddress {
    type Err = ParsePciAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_address(text).ok_or_else(|| ParsePciAddressError(text.to_owned()))
    }
}

fn parse_address(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let device = hexadecimal(parts.next()?, 2)?;
    let bus = hexadecimal(parts.next()?, 2)?;
    let domain = parts.next().map_or(Some(0), |domain| hexadecimal(domain, 8))?;
    let function = hexadecimal(function, 1)?;
    let inside = parts.next().is_none() && device < 32 && function < 8;
    inside.then_some(PciAddress {
        domain,
        bus: u8::try_from(bus).ok()?,
        device: u8::try_from(device).ok()?,
        function: u8::try_from(function).ok()?,
    })
}

fn hexadecimal(digits: &str, most: usize) -> Option<u32> {
    let plain = (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// A PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PciDevice {
    /// Where it is.
    #[serde(serialize_with = "as_text")]
    pub address: PciAddress,
    /// Vendor and device.
    pub id: PciId,
    /// Vendor and device of the board.
    pub subsystem: Option<PciId>,
    /// Size of the expansion ROM BAR.
    pub rom_bar_bytes: Option<u64>,
    /// Size of the largest 32-bit memory BAR.
    pub memory_bar_bytes: Option<u64>,
    /// The driver that holds it.
    pub driver: Option<String>,
    /// Its network interfaces.
    pub interfaces: Vec<String>,
}

fn as_text<S: serde::Serializer>(value: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

impl PciDevice {
    /// What a ROM for it must fit.
    #[must_use]
    pub const fn card(&self) -> Card {
        Card {
            id: self.id,
            rom_bar_bytes: self.rom_bar_bytes,
            memory_bar_bytes: self.memory_bar_bytes,
        }
    }
}

/// What cannot be learnt from sysfs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a directory.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds something else than it should.
    #[error("expected a hexadecimal number in {}, got {got:?}", path.display())]
    Number {
        /// Which.
        path: PathBuf,
        /// What it holds.
        got: String,
    },
}

/// Every network card (class 02), ordered by address.
///
/// # Errors
/// sysfs is not there. A card that vanishes on the way is left out.
pub fn network_cards(sysfs: &Path) -> Result<Vec<PciDevice>, Error> {
    let devices = sysfs.join("bus/pci/devices");
    let entries = match fs::read_dir(&devices) {
        // A machine without PCI has no cards.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|source| Error::Read { path: devices, source })?,
    };
    let mut cards: Vec<PciDevice> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|address| is_network(sysfs, *address))
        .filter_map(|address| card_at(sysfs, address).ok())
        .collect();
    cards.sort_by_key(|card| card.address);
    Ok(cards)
}

fn is_network(sysfs: &Path, address: PciAddress) -> bool {
    number(&directory(sysfs, address).join("class")).is_ok_and(|class| class >> 16 == 0x02)
}

/// Where sysfs keeps a function.
#[must_use]
pub fn directory(sysfs: &Path, address: PciAddress) -> PathBuf {
    sysfs.join("bus/pci/devices").join(address.to_string())
}

/// The function at `address`.
///
/// # Errors
/// There is none.
pub fn card_at(sysfs: &Path, address: PciAddress) -> Result<PciDevice, Error> {
    let directory = directory(sysfs, address);
    let id = |vendor: &str, device: &str| {
        Ok(PciId {
            vendor: number(&directory.join(vendor))? as u16,
            device: number(&directory.join(device))? as u16,
        })
    };
    let resources = fs::read_to_string(directory.join("resource")).unwrap_or_default();
    let (rom_bar_bytes, memory_bar_bytes) = bars(&resources);
    Ok(PciDevice {
        address,
        id: id("vendor", "device")?,
        subsystem: id("subsystem_vendor", "subsystem_device").ok(),
        rom_bar_bytes,
        memory_bar_bytes,
        driver: link_name(&directory.join("driver")),
        interfaces: names(&directory.join("net")),
    })
}

/// Sizes of the ROM BAR and of the largest 32-bit memory BAR. Lines are `START END FLAGS`; the
/// seventh is the ROM.
fn bars(resources: &str) -> (Option<u64>, Option<u64>) {
    const ROM: usize = 6;
    const MEMORY: u64 = 0x200;
    const WIDE: u64 = 0x10_0000;
    let bar = |line: &str| {
        let mut numbers = line
            .split_whitespace()
            .map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default());
        let (start, end, flags) = (numbers.next()?, numbers.next()?, numbers.next()?);
        (end > start).then(|| (end - start + 1, flags))
    };
    let bars: Vec<Option<(u64, u64)>> = resources.lines().take(ROM + 1).map(bar).collect();
    let rom = bars.get(ROM).copied().flatten().map(|(size, _)| size);
    let memory = bars.iter().take(ROM).flatten();
    let narrow = memory.filter(|(_, flags)| flags & MEMORY != 0 && flags & WIDE == 0);
    (rom, narrow.map(|(size, _)| *size).max())
}

fn number(path: &Path) -> Result<u32, Error> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16)
        .map_err(|_| Error::Number { path: path.to_owned(), got: text.trim().to_owned() })
}

/// The last part of where a link leads.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

/// What a directory holds, sorted; nothing if it is not there.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs with one function.
    pub(crate) fn sysfs_with(address: &str, id: PciId, driver: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("bus/pci/devices").join(address);
        fs::create_dir_all(device.join("net/eth0")).unwrap();
        let file = |name: &str, text: String| fs::write(device.join(name), text).unwrap();
        file("class", "0x020000\n".to_owned());
        file("vendor", format!("{:#06x}\n", id.vendor));
        file("device", format!("{:#06x}\n", id.device));
        file("resource", RESOURCE.to_owned());
        if let Some(driver) = driver {
            let directory = root.path().join("bus/pci/drivers").join(driver);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("unbind"), "").unwrap();
            fs::write(directory.join("bind"), "").unwrap();
            symlink(directory, device.join("driver")).unwrap();
        }
        root
    }

    /// An 82574L: two memory BARs, ports, and a ROM of 256 KiB.
    const RESOURCE: &str = "\
0x00000000feb80000 0x00000000feb9ffff 0x0000000000040200
0x00000000feba0000 0x00000000febbffff 0x0000000000040200
0x000000000000c060 0x000000000000c07f 0x0000000000040101
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000feb40000 0x00000000feb7ffff 0x0000000000046200
";

    #[test]
    fn a_card_is_read_from_sysfs() {
        let id = PciId { vendor: 0x8086, device: 0x10d3 };
        let sysfs = sysfs_with("0000:03:00.0", id, Some("e1000e"));
        assert_eq!(
            network_cards(sysfs.path()).unwrap(),
            [PciDevice {
                address: "0000:03:00.0".parse().unwrap(),
                id,
                subsystem: None,
                rom_bar_bytes: Some(256 * 1024),
                memory_bar_bytes: Some(128 * 1024),
                driver: Some("e1000e".to_owned()),
                interfaces: vec!["eth0".to_owned()],
            }]
        );
    }

    #[test]
    fn a_machine_without_pci_has_no_cards() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(network_cards(empty.path()).unwrap(), []);
    }

    #[test]
    fn addresses_are_read_with_and_without_their_domain() {
        assert_eq!("03:00.0".parse::<PciAddress>().unwrap().to_string(), "0000:03:00.0");
        assert_eq!("10000:e1:1f.7".parse::<PciAddress>().unwrap().to_string(), "10000:e1:1f.7");
        for wrong in ["", "03:00", "03:20.0", "03:00.8", "0:0:0:0.0", "+3:00.0", "003:00.0"] {
            assert!(wrong.parse::<PciAddress>().is_err(), "{wrong}");
        }
    }
}
