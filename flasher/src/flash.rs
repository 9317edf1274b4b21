//! The procedure: read, decide, back up, write, read back, and go back if anything fails.
//!
//! On entry nothing is known of the chip. Until the backup is stored nothing is erased, and any
//! trouble is a refusal. On return the chip holds the new image, or what it held before, or the
//! outcome is `Degraded` and names a backup. Whatever stops this procedure in between, the ROM on
//! the chip is absent or complete, and the next run finds the journal.

mod writer;

use std::path::Path;
use std::time::Instant;

use agent_types::flash_report::{
    BackupSummary, ChipSummary, FlashEvent, FlashOutcome, FlashPhase, FlashReport, PhaseTime,
    RomSummary,
};
use agent_types::rom::OptionRom;

use crate::chip::{Chip, FlashChip, Region};
use crate::decide::{self, Decision, Facts, Image, Refusal, Wish};
use crate::plan::Plan;
use crate::store::{self, Journal, Store};
use writer::Writer;

/// Called with the stored backup before anything is erased: it may send it away. An error keeps
/// the chip as it is.
pub type AfterBackup<'a> = &'a mut dyn FnMut(&BackupSummary) -> Result<(), String>;

/// What a run needs besides the chip.
pub struct Run<'a> {
    /// What was asked for.
    pub wish: Wish<'a>,
    /// How the card was named.
    pub card: String,
    /// What works on the chip.
    pub programmer: String,
    /// Where backup and journal are kept.
    pub store: &'a Store,
    /// Where the operator wants the backup.
    pub backup: Option<&'a Path>,
    /// May the chip's protection be removed?
    pub allow_unprotect: bool,
    /// What is told about the progress.
    pub events: &'a mut dyn FnMut(FlashEvent),
    /// What is done with the backup.
    pub after_backup: AfterBackup<'a>,
}

/// What a run would do.
#[derive(Debug)]
pub struct Preview {
    /// The chip.
    pub chip: Chip,
    /// The decision.
    pub decision: Decision,
    /// How long the whole chip took to read.
    pub read: std::time::Duration,
}

/// Writes what `run` asks for to `chip`.
pub fn reflash(chip: &mut dyn FlashChip, mut run: Run<'_>) -> FlashReport {
    let mut report = begun(&run);
    let end = procedure(chip, &mut run, &mut report);
    ended(report, end)
}

/// The report of a run that has done nothing yet.
pub(crate) fn begun(run: &Run<'_>) -> FlashReport {
    FlashReport {
        outcome: FlashOutcome::AlreadyProgrammed,
        card: run.card.clone(),
        pci_id: Some(run.wish.card.id),
        programmer: run.programmer.clone(),
        chip: None,
        rom: rom_of(&run.wish),
        previous: None,
        backup: None,
        blocks_changed: 0,
        phases: Vec::new(),
        components: Vec::new(),
    }
}

pub(crate) fn ended(report: FlashReport, end: Result<FlashOutcome, Refusal>) -> FlashReport {
    let refused = |refusal: Refusal| FlashOutcome::Refused { why: refusal.to_string() };
    FlashReport { outcome: end.unwrap_or_else(refused), ..report }
}

/// A version that the ROM does not say itself is what the operator says.
fn rom_of(wish: &Wish<'_>) -> Option<RomSummary> {
    match wish.image {
        Image::Rom(rom) => {
            let rom = RomSummary::from(&OptionRom::parse(rom).ok()?);
            let version = rom.version.clone().or(wish.version.cloned());
            Some(RomSummary { version, ..rom })
        }
        Image::Backup { content, header } => summary_at(content, header),
    }
}

fn summary_at(content: &[u8], start: usize) -> Option<RomSummary> {
    OptionRom::parse_start(content.get(start..)?).ok().as_ref().map(RomSummary::from)
}

/// The story. An error means that nothing was erased.
fn procedure(
    chip: &mut dyn FlashChip,
    run: &mut Run<'_>,
    report: &mut FlashReport,
) -> Result<FlashOutcome, Refusal> {
    let survey = survey(chip, run, report)?;
    let facts = survey.facts();
    let (plan, aim) = match decide::decide(&run.wish, &facts) {
        Decision::Refuse(refusal) => return Err(refusal),
        Decision::UpToDate => return close(run, FlashOutcome::AlreadyProgrammed),
        Decision::RecentEnough(present) => return Ok(FlashOutcome::RecentEnough { present }),
        Decision::Program { plan, aim } => (plan, aim),
    };
    report.blocks_changed = plan.touched.len();
    read_again(chip, run, report, &survey.content, &plan)?;
    let backup = back_up(run, report, &survey.before, survey.earlier.as_ref())?;
    let mut writer = Writer { chip, run, report, blocks: &survey.blocks, aim: &aim };
    let mut journal = writer.open_journal(&survey, backup)?;
    let written = writer.rewrite(&survey.content, &aim.target, &plan, &mut journal);
    let outcome = match written {
        Ok(()) => FlashOutcome::Programmed,
        Err(failure) => writer.roll_back(&survey.before, failure, &mut journal),
    };
    end_journal(run, journal, &outcome);
    Ok(outcome)
}

pub(crate) fn end_journal(run: &mut Run<'_>, journal: Journal, outcome: &FlashOutcome) {
    let journal = Journal { outcome: Some(outcome.clone()), ..journal };
    if let Err(error) = run.store.write(&journal) {
        note(run, format!("the journal stays open: {error}"));
    }
}

/// What was learnt about the chip without changing it.
struct Survey {
    chip: Chip,
    content: Vec<u8>,
    before: Vec<u8>,
    /// The backup of a run that did not end.
    earlier: Option<BackupSummary>,
    blocks: Vec<Region>,
}

impl Survey {
    fn facts(&self) -> Facts<'_> {
        Facts { content: &self.content, before: &self.before, blocks: &self.blocks }
    }
}

fn survey(
    chip: &mut dyn FlashChip,
    run: &mut Run<'_>,
    report: &mut FlashReport,
) -> Result<Survey, Refusal> {
    let found = phase(run, report, FlashPhase::Probe, || chip.probe())?;
    report.chip = Some(ChipSummary {
        vendor: found.vendor.clone(),
        name: found.name.clone(),
        size_bytes: found.size_bytes,
    });
    let region = decide::region(&run.wish, found.size_bytes)?;
    let protection = phase(run, report, FlashPhase::WriteProtection, || chip.write_protection())?;
    if !run.allow_unprotect {
        decide::check_protection(&protection, region)?;
    }
    let whole = Region { start: 0, end: found.size_bytes };
    let content = phase(run, report, FlashPhase::Read, || chip.read(&[whole]))?;
    let blocks = phase(run, report, FlashPhase::EraseBlocks, || chip.erase_blocks(&content))?;
    let (before, earlier) = before(run, &found, &content)?;
    report.previous = summary_at(&before, region.start);
    Ok(Survey { chip: found, content, before, earlier, blocks })
}

/// What the chip held before anybody wrote: what it holds now, unless a run did not end.
fn before(
    run: &mut Run<'_>,
    chip: &Chip,
    content: &[u8],
) -> Result<(Vec<u8>, Option<BackupSummary>), Refusal> {
    let Some(journal) = run.store.open_journal().filter(|journal| journal.chip == *chip) else {
        return Ok((content.to_vec(), None));
    };
    note(run, format!("an earlier run did not get beyond phase {}", journal.phase));
    let Some(backup) = store::read_backup(&journal.backup) else {
        note(run, format!("its backup {} is gone", journal.backup.path));
        return Ok((content.to_vec(), None));
    };
    if matches!(run.wish.image, Image::Backup { .. }) {
        return Ok((content.to_vec(), Some(journal.backup)));
    }
    let before = decide::before(content, &backup, journal.extent, &journal.backup.path)?;
    Ok((before, Some(journal.backup)))
}

/// What will be erased is read by another process, and must be what was read before: it is what
/// the backup must be right about.
fn read_again(
    chip: &mut dyn FlashChip,
    run: &mut Run<'_>,
    report: &mut FlashReport,
    content: &[u8],
    plan: &Plan,
) -> Result<(), Refusal> {
    let regions = crate::chip::joined(plan.touched.clone());
    let again = phase(run, report, FlashPhase::ReadAgain, || chip.read(&regions))?;
    match first_difference(content, &again, &regions) {
        Some(at) => Err(Refusal::ReadsDiffer { at }),
        None => Ok(()),
    }
}

fn first_difference(left: &[u8], right: &[u8], regions: &[Region]) -> Option<usize> {
    regions.iter().flat_map(Region::range).find(|&at| left.get(at) != right.get(at))
}

/// The backup of a run that did not end is the one to keep: the chip holds what that run left.
pub(crate) fn back_up(
    run: &mut Run<'_>,
    report: &mut FlashReport,
    before: &[u8],
    earlier: Option<&BackupSummary>,
) -> Result<BackupSummary, Refusal> {
    let (store, path) = (run.store, run.backup);
    let kept = match earlier {
        Some(earlier) => Ok(earlier.clone()),
        None => phase(run, report, FlashPhase::Backup, || store.keep(before, path)),
    };
    let backup = kept.map_err(|error| Refusal::Backup(chain(&error)))?;
    (run.after_backup)(&backup).map_err(Refusal::Backup)?;
    (run.events)(FlashEvent::BackupStored(backup.clone()));
    report.backup = Some(backup.clone());
    Ok(backup)
}

/// Nothing is to be done, and so nothing is open any more.
pub(crate) fn close(run: &mut Run<'_>, outcome: FlashOutcome) -> Result<FlashOutcome, Refusal> {
    if let Some(mut journal) = run.store.open_journal() {
        journal.outcome = Some(outcome.clone());
        run.store.write(&journal).map_err(|error| Refusal::Journal(chain(&error)))?;
    }
    Ok(outcome)
}

/// Says that a phase begins, and keeps how long it took.
pub(crate) fn phase<T>(
    run: &mut Run<'_>,
    report: &mut FlashReport,
    phase: FlashPhase,
    work: impl FnOnce() -> T,
) -> T {
    (run.events)(FlashEvent::Phase { phase });
    let start = Instant::now();
    let result = work();
    report.phases.push(PhaseTime { phase, millis: millis(start) });
    result
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn note(run: &mut Run<'_>, message: String) {
    (run.events)(FlashEvent::Note { message });
}

/// An error with what caused it.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Looks and decides, and changes nothing.
///
/// # Errors
/// The chip cannot be surveyed.
pub fn preview(chip: &mut dyn FlashChip, mut run: Run<'_>) -> Result<Preview, Refusal> {
    let mut report = begun(&run);
    let survey = survey(chip, &mut run, &mut report)?;
    let decision = decide::decide(&run.wish, &survey.facts());
    let read = report.phases.iter().find(|time| time.phase == FlashPhase::Read);
    let read = std::time::Duration::from_millis(read.map_or(0, |time| time.millis));
    Ok(Preview { chip: survey.chip, decision, read })
}

#[cfg(test)]
mod tests;
