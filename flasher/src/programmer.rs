//! The programmers of flashrom that the flasher may use; there is no way to name another.
//!
//! `internal` is not among them: on a PC it finds false positives and writes the board's firmware.

use serde::{Deserialize, Serialize};

use crate::pci::PciAddress;

/// A programmer with the device that it works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Programmer {
    /// Intel 8255x, parallel flash.
    NicIntel(PciAddress),
    /// Intel 8254x, 8257x, 8259x, I210: serial flash behind the MAC.
    NicIntelSpi(PciAddress),
    /// Realtek 8139 and 8169, parallel flash.
    NicRealtek(PciAddress),
    /// 3Com 3C90x, parallel flash.
    Nic3com(PciAddress),
    /// A partition of the kernel's memory technology devices.
    LinuxMtd(u32),
    /// flashrom's simulated chip.
    #[cfg(feature = "dummy")]
    Dummy(String),
}

impl Programmer {
    /// flashrom's name for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NicIntel(_) => "nicintel",
            Self::NicIntelSpi(_) => "nicintel_spi",
            Self::NicRealtek(_) => "nicrealtek",
            Self::Nic3com(_) => "nic3com",
            Self::LinuxMtd(_) => "linux_mtd",
            #[cfg(feature = "dummy")]
            Self::Dummy(_) => "dummy",
        }
    }

    /// flashrom's parameters. One device is always named: with several cards in the machine,
    /// flashrom would take the first.
    #[must_use]
    pub fn parameters(&self) -> String {
        match self {
            Self::NicIntel(card)
            | Self::NicIntelSpi(card)
            | Self::NicRealtek(card)
            | Self::Nic3com(card) => format!("pci={card}"),
            Self::LinuxMtd(device) => format!("dev={device}"),
            #[cfg(feature = "dummy")]
            Self::Dummy(parameters) => parameters.clone(),
        }
    }

    /// The card whose memory it maps; its driver must let go of it first.
    #[must_use]
    pub const fn mapped_card(&self) -> Option<PciAddress> {
        match self {
            Self::NicIntel(card)
            | Self::NicIntelSpi(card)
            | Self::NicRealtek(card)
            | Self::Nic3com(card) => Some(*card),
            _ => None,
        }
    }
}
