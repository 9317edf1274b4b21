//! Whether a chip gets a ROM: a function of what was read and what was asked for.

use agent_types::digest::Sha256Digest;
use agent_types::rom::{self, Card, OptionRom, RomError, RomVersion};

use crate::chip::{ChipError, Region, WriteProtection};
use crate::plan::{ERASED, Plan};

/// A file that was asked to be written.
#[derive(Debug, Clone, Copy)]
pub enum Image<'a> {
    /// An expansion ROM, which must fit the card.
    Rom(&'a [u8]),
    /// A whole chip, from a backup.
    Backup {
        /// Its bytes.
        content: &'a [u8],
        /// Where the ROM's header is in it.
        header: usize,
    },
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// What to write.
    pub image: Image<'a>,
    /// Where; the whole chip if nobody says.
    pub region: Option<Region>,
    /// The card that the chip is on.
    pub card: &'a Card,
    /// Digest of the file that was meant, if somebody knows it.
    pub sha256: Option<Sha256Digest>,
    /// The ROM's version, where it does not say one itself.
    pub version: Option<&'a RomVersion>,
    /// May an older ROM replace a newer one?
    pub allow_downgrade: bool,
    /// A card whose ROM has this version or a newer one is left alone.
    pub minimum_version: Option<&'a RomVersion>,
}

/// What is known of the chip.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What it holds.
    pub content: &'a [u8],
    /// What it held before a run that did not end; otherwise the same.
    pub before: &'a [u8],
    /// Its erase blocks.
    pub blocks: &'a [Region],
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// The chip holds the image already.
    UpToDate,
    /// The chip holds another ROM that is recent enough.
    RecentEnough(RomVersion),
    /// Write.
    Program {
        /// In which steps.
        plan: Plan,
        /// What for.
        aim: Aim,
    },
    /// Do nothing.
    Refuse(Refusal),
}

/// What the chip shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    /// The whole chip.
    pub target: Vec<u8>,
    /// The part of it that the image covers, in whole erase blocks.
    pub extent: Region,
    /// Where the ROM's header is.
    pub header: usize,
}

/// Why nothing is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The chip does not answer as it should.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// The ROM is broken, or not for this card.
    #[error("the ROM breaks rule {rule}: {0}", rule = .0.rule())]
    Rom(#[from] RomError),
    /// The region is not on the chip.
    #[error("region {region} is not within the chip's {size_bytes:#x} bytes")]
    RegionOutside {
        /// The region.
        region: Region,
        /// The chip's size.
        size_bytes: usize,
    },
    /// The region shares an erase block with something else.
    #[error("region {region} does not begin and end with an erase block: {block} is not all in it")]
    RegionNotAligned {
        /// The region.
        region: Region,
        /// The block at its edge.
        block: Region,
    },
    /// A backup of another chip.
    #[error("the backup has {backup:#x} bytes, the chip {chip:#x}")]
    BackupSize {
        /// Bytes of the backup.
        backup: usize,
        /// Bytes of the chip.
        chip: usize,
    },
    /// The card has a newer ROM.
    #[error("the card has version {present}, the ROM is {offered} (--allow-downgrade)")]
    Downgrade {
        /// What the card has.
        present: RomVersion,
        /// What it would get.
        offered: RomVersion,
    },
    /// The chip is protected.
    #[error("bytes {region} are write-protected ({mode})")]
    Protected {
        /// Which.
        region: Region,
        /// How.
        mode: String,
    },
    /// An earlier run did not end well, and not only where it was to write.
    #[error(
        "an earlier run was not finished, and the chip differs from its backup {backup} outside of \
         the ROM: restore that first"
    )]
    Unfinished {
        /// The backup.
        backup: String,
    },
    /// The chip is not read reliably.
    #[error("two reads differ at {at:#x}")]
    ReadsDiffer {
        /// Where first.
        at: usize,
    },
    /// `mstflint` does not do what it should, before it was to write.
    #[error("{0}")]
    Section(String),
    /// The backup cannot be stored.
    #[error("cannot store the backup: {0}")]
    Backup(String),
    /// The journal cannot be written.
    #[error("cannot write the journal: {0}")]
    Journal(String),
}

/// Must `protection` keep us from writing `region`? Unknown protection is no reason: most
/// parallel chips have none that could be asked for.
///
/// # Errors
/// It must.
pub fn check_protection(protection: &WriteProtection, region: Region) -> Result<(), Refusal> {
    match protection {
        WriteProtection::On { region: protected, mode } if protected.overlaps(&region) => {
            Err(Refusal::Protected { region: *protected, mode: mode.clone() })
        }
        _ => Ok(()),
    }
}

/// Where the image may be, on a chip of `size_bytes`.
///
/// # Errors
/// The region is not on the chip.
pub fn region(wish: &Wish<'_>, size_bytes: usize) -> Result<Region, Refusal> {
    let region = wish.region.unwrap_or(Region { start: 0, end: size_bytes });
    if region.end > size_bytes {
        return Err(Refusal::RegionOutside { region, size_bytes });
    }
    Ok(region)
}

/// Decides. On return [`Decision::Program`] is a plan within the region.
pub fn decide(wish: &Wish<'_>, facts: &Facts<'_>) -> Decision {
    let aim = match aim(wish, facts) {
        Ok(aim) => aim,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    if aim.target == facts.content {
        return Decision::UpToDate;
    }
    if let Some(present) = recent_enough(wish, facts) {
        return Decision::RecentEnough(present);
    }
    let plan = Plan::new(facts.content, &aim.target, facts.blocks, aim.header);
    Decision::Program { plan, aim }
}

/// The version of what the chip holds, if that may stay. What an unfinished run left may not.
fn recent_enough(wish: &Wish<'_>, facts: &Facts<'_>) -> Option<RomVersion> {
    let minimum = wish.minimum_version.filter(|_| facts.content == facts.before)?;
    let region = region(wish, facts.content.len()).ok()?;
    let present = OptionRom::parse_start(&facts.content[region.range()]).ok()?;
    rom::check(&present, wish.card, region.len() as u64).ok()?;
    present.version.filter(|present| present >= minimum)
}

fn aim(wish: &Wish<'_>, facts: &Facts<'_>) -> Result<Aim, Refusal> {
    let region = region(wish, facts.content.len())?;
    check_aligned(region, facts.blocks)?;
    match wish.image {
        Image::Rom(rom) => {
            check_rom(wish, rom, facts, region)?;
            let extent = extent_of(rom.len(), region, facts.blocks);
            let mut part = rom.to_vec();
            part.resize(extent.len(), ERASED);
            Ok(Aim { target: with(facts.before, extent, &part), extent, header: extent.start })
        }
        Image::Backup { content, header } if content.len() == facts.content.len() => {
            let target = with(facts.content, region, &content[region.range()]);
            Ok(Aim { target, extent: region, header })
        }
        Image::Backup { content, .. } => {
            Err(Refusal::BackupSize { backup: content.len(), chip: facts.content.len() })
        }
    }
}

/// `content`, with `part` in `region`.
fn with(content: &[u8], region: Region, part: &[u8]) -> Vec<u8> {
    let mut with = content.to_vec();
    with[region.range()].copy_from_slice(part);
    with
}

fn check_rom(
    wish: &Wish<'_>,
    rom: &[u8],
    facts: &Facts<'_>,
    region: Region,
) -> Result<(), Refusal> {
    let offered = OptionRom::parse(rom)?;
    rom::check(&offered, wish.card, region.len() as u64)?;
    if rom.len() > region.len() {
        let (have, room) = (rom.len() as u64, region.len() as u64);
        return Err(RomError::TooLarge { have, place: "the region", room }.into());
    }
    if let Some(expected) = wish.sha256 {
        rom::check_digest(rom, expected)?;
    }
    let present = OptionRom::parse_start(&facts.before[region.range()]).ok();
    check_version(wish, present.and_then(|rom| rom.version), offered.version)
}

/// May a ROM of version `offered` replace one of version `present`?
///
/// # Errors
/// It is older, and nobody has allowed that.
pub fn check_version(
    wish: &Wish<'_>,
    present: Option<RomVersion>,
    offered: Option<RomVersion>,
) -> Result<(), Refusal> {
    match (present, offered.or(wish.version.cloned())) {
        (Some(present), Some(offered)) if offered < present && !wish.allow_downgrade => {
            Err(Refusal::Downgrade { present, offered })
        }
        _ => Ok(()),
    }
}

/// What the chip held before an earlier run that did not end, whose backup is `backup`, wrote to
/// `extent` of it.
///
/// # Errors
/// The chip has changed elsewhere, too.
pub fn before(
    content: &[u8],
    backup: &[u8],
    extent: Region,
    path: &str,
) -> Result<Vec<u8>, Refusal> {
    let same_size = content.len() == backup.len() && extent.end <= content.len();
    if same_size && with(content, extent, &backup[extent.range()]) == backup {
        return Ok(backup.to_vec());
    }
    Err(Refusal::Unfinished { backup: path.to_owned() })
}

/// A block at the region's edge that is shared would be erased with what else is in it.
fn check_aligned(region: Region, blocks: &[Region]) -> Result<(), Refusal> {
    match blocks.iter().find(|block| block.overlaps(&region) && !region.contains(block)) {
        Some(block) => Err(Refusal::RegionNotAligned { region, block: *block }),
        None => Ok(()),
    }
}

/// The ROM, padded to the end of its last erase block.
fn extent_of(rom_bytes: usize, region: Region, blocks: &[Region]) -> Region {
    let end = region.start + rom_bytes;
    let last = blocks.iter().find(|block| block.start < end && end <= block.end);
    Region { start: region.start, end: last.map_or(end, |block| block.end) }
}
