//! Which cards can be written, by what, and why others cannot.
//!
//! From flashrom's tables and the drivers of Linux 6.12. Nothing here was tried on real hardware
//! by us: "tested" is what flashrom's own table says.

use agent_types::rom::PciId;
use serde::Serialize;

use crate::pci::PciAddress;
use crate::programmer::Programmer;

/// What writes a card's ROM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// flashrom's `nicintel`.
    NicIntel,
    /// flashrom's `nicintel_spi`.
    NicIntelSpi,
    /// flashrom's `nicrealtek`.
    NicRealtek,
    /// flashrom's `nic3com`.
    Nic3com,
}

impl Backend {
    /// flashrom's programmer for the card at `address`.
    #[must_use]
    pub const fn programmer(self, address: PciAddress) -> Programmer {
        match self {
            Self::NicIntel => Programmer::NicIntel(address),
            Self::NicIntelSpi => Programmer::NicIntelSpi(address),
            Self::NicRealtek => Programmer::NicRealtek(address),
            Self::Nic3com => Programmer::Nic3com(address),
        }
    }
}

/// Can a card be written?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// Yes.
    Writable {
        /// By what.
        backend: Backend,
        /// Did flashrom's authors see it work?
        tested: bool,
    },
    /// Its ROM is a section of its firmware, which `mstflint` of Debian's package writes.
    Mstflint,
    /// No.
    NotWritable {
        /// Why not.
        why: &'static str,
    },
}

struct Entry {
    vendor: u16,
    devices: &'static [u16],
    support: Support,
}

const fn writable(vendor: u16, devices: &'static [u16], backend: Backend, tested: bool) -> Entry {
    Entry { vendor, devices, support: Support::Writable { backend, tested } }
}

const fn not_writable(vendor: u16, devices: &'static [u16], why: &'static str) -> Entry {
    Entry { vendor, devices, support: Support::NotWritable { why } }
}

const INTEL: u16 = 0x8086;
const REALTEK: u16 = 0x10ec;
const THREECOM: u16 = 0x10b7;
const MELLANOX: u16 = 0x15b3;

/// No devices named: every other one of the vendor.
const CARDS: &[Entry] = &[
    writable(INTEL, &[0x1229], Backend::NicIntel, true),
    writable(INTEL, &[0x1209], Backend::NicIntel, false),
    writable(
        INTEL,
        &[0x105e, 0x1076, 0x107c, 0x10b9, 0x10d3, 0x10fc, 0x1531],
        Backend::NicIntelSpi,
        true,
    ),
    writable(
        INTEL,
        &[
            0x10d8, 0x10f7, 0x10f8, 0x10f9, 0x10fb, 0x1517, 0x151c, 0x1529, 0x152a, 0x1557, 0x1532,
            0x1533, 0x1536, 0x1537, 0x1538, 0x1539,
        ],
        Backend::NicIntelSpi,
        false,
    ),
    not_writable(
        INTEL,
        &[0x1509, 0x150e, 0x150f, 0x1510, 0x1511],
        "82580: flashrom reaches its EEPROM only, which holds no ROM",
    ),
    not_writable(INTEL, &[], "no programmer of flashrom; Intel's own tools take signed images"),
    writable(REALTEK, &[0x8139], Backend::NicRealtek, true),
    writable(REALTEK, &[0x8169], Backend::NicRealtek, false),
    writable(0x1113, &[0x1211], Backend::NicRealtek, true),
    writable(THREECOM, &[0x9055, 0x9004, 0x9006, 0x9058, 0x9200], Backend::Nic3com, true),
    writable(THREECOM, &[0x9001, 0x9005, 0x900a, 0x905a, 0x9805], Backend::Nic3com, false),
    Entry { vendor: MELLANOX, devices: &[0x1003, 0x1007], support: Support::Mstflint },
    not_writable(MELLANOX, &[], "Mellanox: its driver takes whole signed packages (devlink)"),
    not_writable(
        0x14e4,
        &[],
        "Broadcom: flashrom knows none; its driver takes whole packages only",
    ),
    not_writable(0x1af4, &[], "a virtual card: its ROM is a file of the hypervisor"),
];

/// Can `card` be written?
#[must_use]
pub fn support_of(card: PciId) -> Support {
    let named =
        |entry: &&Entry| entry.vendor == card.vendor && entry.devices.contains(&card.device);
    let others = |entry: &&Entry| entry.vendor == card.vendor && entry.devices.is_empty();
    CARDS
        .iter()
        .find(named)
        .or_else(|| CARDS.iter().find(others))
        .map_or(Support::NotWritable { why: "no backend knows this card" }, |entry| entry.support)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_has_one_answer() {
        for (n, entry) in CARDS.iter().enumerate() {
            for device in entry.devices {
                let again = CARDS[n + 1..].iter().filter(|other| other.vendor == entry.vendor);
                let twice = again.flat_map(|other| other.devices).any(|other| other == device);
                assert!(!twice, "{:04x}:{device:04x}", entry.vendor);
            }
        }
    }

    #[test]
    fn a_card_that_cannot_be_written_says_why() {
        let why = |id: &str| match support_of(id.parse().unwrap()) {
            Support::NotWritable { why } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why("1af4:1041"), "a virtual card: its ROM is a file of the hypervisor");
        assert_eq!(why("dead:beef"), "no backend knows this card");
        assert!(why("8086:1521").starts_with("no programmer of flashrom"), "I350");
    }
}
