//! The procedure for a card that holds its ROM as one section: read twice, check, back up, write,
//! verify, read back, and go back if anything fails.

use std::time::Instant;

use agent_types::flash_report::{
    BackupSummary, FlashEvent, FlashOutcome, FlashPhase, FlashReport, PhaseTime, RomSummary,
};
use agent_types::rom::{self, Card, OptionRom};

use super::{Error, RomSection};
use crate::decide::{Refusal, check_version};
use crate::flash::chain;

/// What was asked for.
pub struct Wish<'a> {
    /// The ROM.
    pub rom: &'a [u8],
    /// The card.
    pub card: &'a Card,
    /// May an older ROM replace a newer one?
    pub allow_downgrade: bool,
    /// A card whose ROM has this version or a newer one is left alone.
    pub minimum_version: Option<&'a rom::RomVersion>,
    /// Digest of the file that was meant.
    pub sha256: Option<agent_types::digest::Sha256Digest>,
}

/// Stores what the card holds, before anything is written.
pub type Keep<'a> = &'a mut dyn FnMut(&[u8]) -> Result<BackupSummary, String>;

/// Says and hears about the run.
pub struct Run<'a> {
    /// What was asked for.
    pub wish: Wish<'a>,
    /// How the card was named.
    pub card: String,
    /// Stores the backup.
    pub keep: Keep<'a>,
    /// What is told about the progress.
    pub events: &'a mut dyn FnMut(FlashEvent),
}

/// Writes a ROM to a card.
pub fn rewrite(section: &mut dyn RomSection, mut run: Run<'_>) -> FlashReport {
    let mut report = FlashReport {
        outcome: FlashOutcome::AlreadyProgrammed,
        card: run.card.clone(),
        pci_id: Some(run.wish.card.id),
        programmer: "mstflint".to_owned(),
        chip: None,
        rom: OptionRom::parse(run.wish.rom).ok().as_ref().map(RomSummary::from),
        previous: None,
        backup: None,
        blocks_changed: 0,
        phases: Vec::new(),
        components: Vec::new(),
    };
    report.outcome = match procedure(section, &mut run, &mut report) {
        Ok(outcome) => outcome,
        Err(refusal) => FlashOutcome::Refused { why: refusal },
    };
    report
}

/// The story. An error means that nothing was written.
fn procedure(
    section: &mut dyn RomSection,
    run: &mut Run<'_>,
    report: &mut FlashReport,
) -> Result<FlashOutcome, String> {
    let offered = checked(&run.wish).map_err(|refusal| refusal.to_string())?;
    let failed = |error: Error| chain(&error);
    let present = phase(run, report, FlashPhase::Read, || section.read()).map_err(failed)?;
    let held = OptionRom::parse_start(&present).ok();
    report.previous = held.as_ref().map(RomSummary::from);
    if present == run.wish.rom {
        return Ok(FlashOutcome::AlreadyProgrammed);
    }
    let version = held.and_then(|rom| rom.version);
    if let (Some(present), Some(minimum)) = (&version, run.wish.minimum_version)
        && present >= minimum
    {
        return Ok(FlashOutcome::RecentEnough { present: present.clone() });
    }
    check_version(version, offered.version, run.wish.allow_downgrade)
        .map_err(|refusal| refusal.to_string())?;
    let again = phase(run, report, FlashPhase::ReadAgain, || section.read()).map_err(failed)?;
    if let Some(at) = difference(&present, &again) {
        return Err(Refusal::ReadsDiffer { at }.to_string());
    }
    let keep = &mut *run.keep;
    let backup = keep(&present)?;
    (run.events)(FlashEvent::BackupStored(backup.clone()));
    report.backup = Some(backup.clone());
    phase(run, report, FlashPhase::Settings, || section.enable()).map_err(failed)?;
    let rom = run.wish.rom;
    match write(section, run, report, FlashPhase::WriteBody, rom) {
        Ok(()) => Ok(FlashOutcome::Programmed),
        Err(why) if holds(section, &present) => Ok(FlashOutcome::RolledBack { why }),
        Err(why) => Ok(match write(section, run, report, FlashPhase::RollBack, &present) {
            Ok(()) => FlashOutcome::RolledBack { why },
            Err(then) => FlashOutcome::Degraded {
                why: format!("{why}; rolling back: {then}"),
                restore_from: Some(backup.path),
            },
        }),
    }
}

fn checked(wish: &Wish<'_>) -> Result<OptionRom, Refusal> {
    let offered = OptionRom::parse(wish.rom)?;
    rom::check(&offered, wish.card, u64::MAX)?;
    if let Some(expected) = wish.sha256 {
        rom::check_digest(wish.rom, expected)?;
    }
    Ok(offered)
}

fn write(
    section: &mut dyn RomSection,
    run: &mut Run<'_>,
    report: &mut FlashReport,
    current: FlashPhase,
    rom: &[u8],
) -> Result<(), String> {
    let failed = |error: Error| chain(&error);
    phase(run, report, current, || section.write(rom)).map_err(failed)?;
    let found = phase(run, report, FlashPhase::ReadBack, || {
        section.verify()?;
        section.read()
    });
    match difference(rom, &found.map_err(failed)?) {
        Some(at) => Err(format!("read back: byte {at:#x} differs")),
        None => Ok(()),
    }
}

/// `mstflint` may have failed before it wrote anything.
fn holds(section: &mut dyn RomSection, rom: &[u8]) -> bool {
    section.verify().is_ok() && section.read().is_ok_and(|found| found == rom)
}

fn difference(left: &[u8], right: &[u8]) -> Option<usize> {
    let longest = left.len().max(right.len());
    (0..longest).find(|&at| left.get(at) != right.get(at))
}

fn phase<T>(
    run: &mut Run<'_>,
    report: &mut FlashReport,
    phase: FlashPhase,
    work: impl FnOnce() -> T,
) -> T {
    (run.events)(FlashEvent::Phase { phase });
    let start = Instant::now();
    let result = work();
    let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.phases.push(PhaseTime { phase, millis });
    result
}
