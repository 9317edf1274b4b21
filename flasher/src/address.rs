//! How an operator names a card.

use std::fmt;
use std::str::FromStr;

use crate::devlink;
use crate::pci::PciAddress;

/// The card to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardAddress {
    /// The only card that the ROM is for.
    Auto,
    /// A PCI function: `pci:0000:03:00.0`.
    Pci(PciAddress),
    /// A card whose ROM `mstflint` writes: `mst:0000:03:00.0`.
    Mst(PciAddress),
    /// A partition of the kernel's memory technology devices: `mtd:1`.
    Mtd(u32),
    /// A card that its own driver flashes: `devlink:pci/0000:03:00.0`.
    Devlink(devlink::Device),
    /// flashrom's simulated chip: `dummy:PARAMETERS`.
    #[cfg(feature = "dummy")]
    Dummy(String),
}

/// Why a text names no card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, pci:ADDRESS, mst:ADDRESS, mtd:NUMBER or devlink:BUS/DEVICE, got {0:?}")]
pub struct ParseCardAddressError(String);

impl FromStr for CardAddress {
    type Err = ParseCardAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseCardAddressError(text.to_owned());
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.split_once(':').ok_or_else(wrong)? {
            ("pci", address) => address.parse().map(Self::Pci).map_err(|_| wrong()),
            ("mst", address) => address.parse().map(Self::Mst).map_err(|_| wrong()),
            ("mtd", number) => number.parse().map(Self::Mtd).map_err(|_| wrong()),
            ("devlink", device) => device.parse().map(Self::Devlink).map_err(|()| wrong()),
            #[cfg(feature = "dummy")]
            ("dummy", parameters) => Ok(Self::Dummy(parameters.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for CardAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pci(address) => write!(f, "pci:{address}"),
            Self::Mst(address) => write!(f, "mst:{address}"),
            Self::Mtd(number) => write!(f, "mtd:{number}"),
            Self::Devlink(device) => write!(f, "devlink:{device}"),
            #[cfg(feature = "dummy")]
            Self::Dummy(parameters) => write!(f, "dummy:{parameters}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for text in
            ["auto", "pci:0000:03:00.0", "mst:0000:03:00.0", "mtd:1", "devlink:pci/0000:03:00.0"]
        {
            assert_eq!(text.parse::<CardAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn programmers_that_are_not_ours_cannot_be_named() {
        for text in ["internal:", "internal", "serprog:dev=/dev/ttyS0", "mtd:", ""] {
            assert!(text.parse::<CardAddress>().is_err(), "{text}");
        }
    }
}
