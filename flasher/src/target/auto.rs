//! Which card `auto` is: the only one that the ROM is for and that something writes.

use std::path::Path;

use agent_types::flash_report::WritableCard;
use agent_types::rom::{Card, OptionRom, PciId};

use super::{Error, card_of};
use crate::address::CardAddress;
use crate::mtd;
use crate::pci::{self, PciDevice};
use crate::support::{Support, support_of};

/// A card that `auto` may choose.
pub(super) struct Candidate {
    pub(super) address: CardAddress,
    pub(super) card: Card,
}

/// The cards that `auto` chooses from, whatever the ROM.
///
/// # Errors
/// sysfs cannot be read.
pub fn writable(sysfs: &Path) -> Result<Vec<WritableCard>, Error> {
    let shown =
        |found: Candidate| WritableCard { card: found.address.to_string(), pci_id: found.card.id };
    Ok(candidates(sysfs, None)?.into_iter().map(shown).collect())
}

/// `pci_id` is what the operator says that a card is of which the kernel does not tell.
fn candidates(sysfs: &Path, pci_id: Option<PciId>) -> Result<Vec<Candidate>, Error> {
    let cards = pci::network_cards(sysfs)?;
    let pci = cards.iter().filter(|card| is_first_function(card)).filter_map(|card| {
        // The whole chip counts, not what the card shows of it.
        let card_bars = Card { rom_bar_bytes: None, ..card.card() };
        Some(Candidate { address: address_of(card)?, card: card_bars })
    });
    let mtd = mtd::devices(sysfs).into_iter().filter_map(|device| {
        let named = || pci_id.or_else(|| only_model(&cards)).filter(|_| device.name == OPTION_ROM);
        let id = device.pci_id.or_else(named).filter(|_| device.why_not.is_none())?;
        Some(Candidate { address: CardAddress::Mtd(device.number), card: card_of(id) })
    });
    Ok(pci.chain(mtd).collect())
}

/// A partition of this name is for a network card's ROM, which the kernel cannot tell of flash that
/// is not behind a card. Others may hold the machine's own firmware.
const OPTION_ROM: &str = "oprom";

/// The first function of a card holds its ROM; asking the others locked cards up.
fn is_first_function(card: &PciDevice) -> bool {
    card.address.to_string().ends_with(".0")
}

/// How a card is named that something writes.
fn address_of(card: &PciDevice) -> Option<CardAddress> {
    match support_of(card.id) {
        Support::Writable { .. } => Some(CardAddress::Pci(card.address)),
        Support::Mstflint => Some(CardAddress::Mst(card.address)),
        Support::NotWritable { .. } => None,
    }
}

/// What all of the machine's network cards are, if they are the same.
fn only_model(cards: &[PciDevice]) -> Option<PciId> {
    let first = cards.first()?.id;
    cards.iter().all(|card| card.id == first).then_some(first)
}

pub(super) fn the_card_of(
    sysfs: &Path,
    rom: Option<&[u8]>,
    pci_id: Option<PciId>,
) -> Result<Candidate, Error> {
    let rom = OptionRom::parse_start(rom.ok_or(Error::AutoWithoutRom)?)?;
    let mut found = candidates(sysfs, pci_id)?;
    found.retain(|candidate| {
        let is_meant = pci_id.is_none_or(|id| id == candidate.card.id);
        is_meant && agent_types::rom::check(&rom, &candidate.card, u64::MAX).is_ok()
    });
    match found.len() {
        1 => Ok(found.remove(0)),
        _ => {
            let found = found.iter().map(|candidate| candidate.address.to_string()).collect();
            Err(Error::NotOne { found })
        }
    }
}
