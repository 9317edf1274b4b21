//! Commands that look, and touch no chip.

use std::path::Path;

use agent_types::flash_report::RomSummary;
use agent_types::rom::{self, Card, OptionRom, PciId, RomImage};
use serde_json::{Value, json};

use super::{Error, REFUSED, SYSFS, SharedOutput, read_file};
use crate::address::CardAddress;
use crate::mtd::{self, MtdDevice};
use crate::pci::{self, PciDevice};
use crate::store::{self, Journal};
use crate::support::{Support, support_of};
use crate::target;

pub(super) fn list(output: &SharedOutput) -> Result<u8, Error> {
    let sysfs = Path::new(SYSFS);
    let cards = pci::network_cards(sysfs).map_err(target::Error::from)?;
    let partitions = mtd::devices(sysfs);
    let value = json!({
        "cards": cards.iter().map(card_value).collect::<Vec<Value>>(),
        "mtd": partitions,
        "writable": target::writable(sysfs)?,
    });
    output.borrow_mut().result(&value, || {
        let mut lines: Vec<String> = cards.iter().map(card_line).collect();
        lines.extend(partitions.iter().map(mtd_line));
        if lines.is_empty() {
            "no cards and no MTD partitions".to_owned()
        } else {
            lines.join("\n")
        }
    });
    Ok(0)
}

fn card_value(card: &PciDevice) -> Value {
    json!({
        "name": format!("pci:{}", card.address),
        "card": card,
        "support": support_of(card.id),
    })
}

fn card_line(card: &PciDevice) -> String {
    let support = match support_of(card.id) {
        Support::Writable { backend, tested } => {
            let tested = if tested { "" } else { ", untested" };
            format!("written by {backend:?}{tested}")
        }
        Support::Mstflint => "written by mstflint, as mst:, untested".to_owned(),
        Support::NotWritable { why } => format!("not writable: {why}"),
    };
    let rom = card
        .rom_bar_bytes
        .map_or_else(|| "no ROM BAR".to_owned(), |bytes| format!("ROM BAR {} KiB", bytes / 1024));
    let driver = card.driver.as_deref().unwrap_or("no driver");
    format!("pci:{}  {}  {driver}  {rom}  {support}", card.address, card.id)
}

fn mtd_line(device: &MtdDevice) -> String {
    let support = device
        .why_not
        .map_or_else(|| "written by LinuxMtd".to_owned(), |why| format!("not writable: {why}"));
    let card = device.pci_id.map_or_else(|| "card unknown".to_owned(), |id| id.to_string());
    let MtdDevice { number, name, size_bytes, .. } = device;
    format!("mtd:{number}  {name:?}  {card}  {} KiB  {support}", size_bytes / 1024)
}

pub(super) fn inspect(
    output: &SharedOutput,
    path: &Path,
    address: Option<&CardAddress>,
    pci_id: Option<PciId>,
) -> Result<u8, Error> {
    let bytes = read_file(path)?;
    let card = card_for(address, pci_id, &bytes)?;
    let parsed = OptionRom::parse(&bytes);
    let verdict = parsed.as_ref().map_err(Clone::clone).and_then(|rom| match &card {
        Some(card) => rom::check(rom, card, u64::MAX),
        None => Ok(()),
    });
    let value = json!({
        "file_sha256": rom::sha256(&bytes).to_string(),
        "rom": parsed.as_ref().ok().map(RomSummary::from),
        "images": parsed.iter().flat_map(|rom| &rom.images).map(image_value).collect::<Vec<_>>(),
        "card": card.map(|card| card.id),
        "accepted": verdict.is_ok(),
        "broken_rule": verdict.as_ref().err().map(rom::RomError::rule),
        "why": verdict.as_ref().err().map(ToString::to_string),
    });
    output.borrow_mut().result(&value, || {
        let images = parsed.iter().flat_map(|rom| &rom.images).map(image_line);
        let mut lines: Vec<String> = images.collect();
        lines.extend(parsed.iter().map(rom_line));
        lines.push(match (&verdict, &card) {
            (Ok(()), Some(card)) => format!("accepted for {}", card.id),
            (Ok(()), None) => "well-formed; name a card to check it against".to_owned(),
            (Err(error), _) => format!("refused by rule {}: {error}", error.rule()),
        });
        lines.join("\n")
    });
    Ok(if verdict.is_ok() { 0 } else { REFUSED })
}

fn card_for(
    address: Option<&CardAddress>,
    pci_id: Option<PciId>,
    rom: &[u8],
) -> Result<Option<Card>, Error> {
    match address {
        Some(address) => Ok(target::find(Path::new(SYSFS), address, pci_id, Some(rom))?.card),
        None => Ok(pci_id.map(target::card_of)),
    }
}

fn image_value(image: &RomImage) -> Value {
    json!({
        "offset": image.offset,
        "length_bytes": image.pci.image_bytes,
        "id": image.pci.id,
        "device_list": image.pci.device_list,
        "class": format!("{:06x}", image.pci.class),
        "code_type": format!("{:?}", image.pci.code_type),
        "pcir_revision": image.pci.revision,
        "header": format!("{:?}", image.header),
        "last": image.pci.last,
    })
}

fn image_line(image: &RomImage) -> String {
    let list: Vec<String> = image.pci.device_list.iter().map(|id| format!("{id:04x}")).collect();
    format!(
        "image at {:#x}: {:?}, {} bytes, {} [{}], class {:06x}, PCIR revision {}{}\n  {:?}",
        image.offset,
        image.pci.code_type,
        image.pci.image_bytes,
        image.pci.id,
        list.join(" "),
        image.pci.class,
        image.pci.revision,
        if image.pci.last { ", last" } else { "" },
        image.header,
    )
}

fn rom_line(rom: &OptionRom) -> String {
    let version = rom.version.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let build = rom.ipxe_build_id().map_or_else(String::new, |id| format!(", iPXE build {id:08x}"));
    format!("{} bytes, version {version}{build}, sha256 {}", rom.length_bytes, rom.sha256)
}

pub(super) fn status(
    output: &SharedOutput,
    state_dir: &Path,
    card: Option<&CardAddress>,
) -> Result<u8, Error> {
    let wanted = card.map(ToString::to_string);
    let journals: Vec<Journal> = store::journals(state_dir)
        .into_iter()
        .filter(|journal| wanted.as_ref().is_none_or(|card| *card == journal.card))
        .collect();
    output.borrow_mut().result(&journals, || {
        let lines: Vec<String> = journals.iter().map(journal_line).collect();
        if lines.is_empty() { "no card was written".to_owned() } else { lines.join("\n") }
    });
    Ok(0)
}

fn journal_line(journal: &Journal) -> String {
    let end = journal.outcome.as_ref().map_or_else(
        || {
            let Journal { phase, backup, .. } = journal;
            format!("NOT FINISHED: in phase {phase}; write again, or restore {}", backup.path)
        },
        ToString::to_string,
    );
    format!("{}  {}  {end}", journal.card, journal.chip)
}
