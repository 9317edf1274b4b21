//! The procedure: read, decide, back up, write, read back, and go back if anything fails.
//!
//! On entry nothing is known of the chip. Until the backup is stored nothing is erased, and any
//! trouble is a refusal. On return the chip holds the new image, or what it held before, or the
//! outcome is `Degraded` and names a backup. Whatever stops this procedure in between, the ROM on
//! the chip is absent or complete, and the next run finds the journal.

use std::path::Path;
use std::time::Instant;

use agent_types::flash_report::{
    BackupSummary, ChipSummary, FlashEvent, FlashOutcome, FlashPhase, FlashReport, PhaseTime,
    RomSummary,
};
use agent_types::rom::{OptionRom, sha256};

use crate::chip::{Chip, ChipError, FlashChip, Region, Write};
use crate::decide::{self, Aim, Decision, Facts, Image, Refusal, Wish};
use crate::plan::{self, Plan, Step};
use crate::store::{self, Journal, Store};

/// A chip that fails once may work the second time, and there is nothing to lose any more.
const ROLL_BACK_ATTEMPTS: usize = 2;

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
    let mut report = FlashReport {
        outcome: FlashOutcome::AlreadyProgrammed,
        card: run.card.clone(),
        pci_id: Some(run.wish.card.id),
        programmer: run.programmer.clone(),
        chip: None,
        rom: rom_of(&run.wish.image),
        previous: None,
        backup: None,
        blocks_changed: 0,
        phases: Vec::new(),
    };
    report.outcome = match procedure(chip, &mut run, &mut report) {
        Ok(outcome) => outcome,
        Err(refusal) => FlashOutcome::Refused { why: refusal.to_string() },
    };
    report
}

fn rom_of(image: &Image<'_>) -> Option<RomSummary> {
    match image {
        Image::Rom(rom) => OptionRom::parse(rom).ok().as_ref().map(RomSummary::from),
        Image::Backup { content, header } => summary_at(content, *header),
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
    let backup = back_up(run, report, &survey)?;
    let mut writer = Writer { chip, run, report, blocks: &survey.blocks, aim: &aim };
    let mut journal = writer.open_journal(&survey, backup)?;
    let written = writer.rewrite(&survey.content, &aim.target, &plan, &mut journal);
    let outcome = match written {
        Ok(()) => FlashOutcome::Programmed,
        Err(failure) => writer.roll_back(&survey.before, failure, &mut journal),
    };
    journal.outcome = Some(outcome.clone());
    if let Err(error) = run.store.write(&journal) {
        note(run, format!("the journal stays open: {error}"));
    }
    Ok(outcome)
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
fn back_up(
    run: &mut Run<'_>,
    report: &mut FlashReport,
    survey: &Survey,
) -> Result<BackupSummary, Refusal> {
    let (store, path) = (run.store, run.backup);
    let kept = match &survey.earlier {
        Some(earlier) => Ok(earlier.clone()),
        None => phase(run, report, FlashPhase::Backup, || store.keep(&survey.before, path)),
    };
    let backup = kept.map_err(|error| Refusal::Backup(chain(&error)))?;
    (run.after_backup)(&backup).map_err(Refusal::Backup)?;
    (run.events)(FlashEvent::BackupStored(backup.clone()));
    report.backup = Some(backup.clone());
    Ok(backup)
}

/// Nothing is to be done, and so nothing is open any more.
fn close(run: &mut Run<'_>, outcome: FlashOutcome) -> Result<FlashOutcome, Refusal> {
    if let Some(mut journal) = run.store.open_journal() {
        journal.outcome = Some(outcome.clone());
        run.store.write(&journal).map_err(|error| Refusal::Journal(chain(&error)))?;
    }
    Ok(outcome)
}

/// From the first erase to the end.
struct Writer<'w, 'r> {
    chip: &'w mut dyn FlashChip,
    run: &'w mut Run<'r>,
    report: &'w mut FlashReport,
    blocks: &'w [Region],
    aim: &'w Aim,
}

/// Why the chip does not hold what it shall.
#[derive(Debug, thiserror::Error)]
enum WriteFailure {
    #[error("{phase}: {source}")]
    Chip { phase: FlashPhase, source: ChipError },
    #[error("read back: byte {at:#x} is {found:#04x}, not {expected:#04x}")]
    ReadBack { at: usize, expected: u8, found: u8 },
}

impl Writer<'_, '_> {
    fn open_journal(&mut self, survey: &Survey, backup: BackupSummary) -> Result<Journal, Refusal> {
        let journal = Journal {
            card: self.run.card.clone(),
            chip: survey.chip.clone(),
            extent: self.aim.extent,
            target_sha256: sha256(&self.aim.target),
            backup,
            phase: FlashPhase::Backup,
            outcome: None,
        };
        self.run.store.write(&journal).map_err(|error| Refusal::Journal(chain(&error)))?;
        Ok(journal)
    }

    /// Makes the chip, which holds `content`, hold `target`.
    fn rewrite(
        &mut self,
        content: &[u8],
        target: &[u8],
        plan: &Plan,
        journal: &mut Journal,
    ) -> Result<(), WriteFailure> {
        let mut now = content.to_vec();
        for step in &plan.steps {
            let after = step.after(&now, target, self.aim.header);
            self.apply(step, &now, &after, journal)
                .map_err(|source| WriteFailure::Chip { phase: phase_of(step), source })?;
            now = after;
        }
        self.read_back(target, plan)
    }

    fn apply(
        &mut self,
        step: &Step,
        now: &[u8],
        after: &[u8],
        journal: &mut Journal,
    ) -> Result<(), ChipError> {
        let current = phase_of(step);
        journal.phase = current;
        // A phase that is missing in the journal changes nothing: the chip tells what it holds.
        let journal_result = self.run.store.write(journal);
        let (regions, may_erase) = (step.regions(), step.may_erase());
        let total = regions.iter().map(Region::len).sum::<usize>() as u64;
        let start = Instant::now();
        (self.run.events)(FlashEvent::Phase { phase: current });
        let events = &mut *self.run.events;
        let mut progress = |done: u64| {
            events(FlashEvent::Progress { phase: current, done: done.min(total), total });
        };
        let write = Write { regions: &regions, may_erase: &may_erase, image: after, current: now };
        let result = self.chip.write(&write, &mut progress);
        self.report.phases.push(PhaseTime { phase: current, millis: millis(start) });
        if let Err(error) = journal_result {
            note(self.run, format!("the journal lacks a phase: {}", chain(&error)));
        }
        result
    }

    fn read_back(&mut self, target: &[u8], plan: &Plan) -> Result<(), WriteFailure> {
        let regions = plan::read_back(target, &plan.touched, self.blocks, self.aim.extent);
        let chip = &mut *self.chip;
        let found = phase(self.run, self.report, FlashPhase::ReadBack, || chip.read(&regions))
            .map_err(|source| WriteFailure::Chip { phase: FlashPhase::ReadBack, source })?;
        match first_difference(target, &found, &regions) {
            Some(at) => Err(WriteFailure::ReadBack { at, expected: target[at], found: found[at] }),
            None => Ok(()),
        }
    }

    /// Writes back what the chip held before.
    fn roll_back(
        &mut self,
        before: &[u8],
        failure: WriteFailure,
        journal: &mut Journal,
    ) -> FlashOutcome {
        let why = failure.to_string();
        note(self.run, format!("rolling back: {why}"));
        journal.phase = FlashPhase::RollBack;
        let mut last = None;
        for _ in 0..ROLL_BACK_ATTEMPTS {
            match self.try_roll_back(before, journal) {
                Ok(()) => return FlashOutcome::RolledBack { why },
                Err(error) => last = Some(error),
            }
        }
        let last = last.map(|error| format!("; rolling back: {error}")).unwrap_or_default();
        let restore_from = Some(journal.backup.path.clone());
        FlashOutcome::Degraded { why: format!("{why}{last}"), restore_from }
    }

    /// The chip may hold anything anywhere, so all of it is read.
    fn try_roll_back(&mut self, before: &[u8], journal: &mut Journal) -> Result<(), WriteFailure> {
        let whole = Region { start: 0, end: before.len() };
        let chip = &mut *self.chip;
        let content = phase(self.run, self.report, FlashPhase::RollBack, || chip.read(&[whole]))
            .map_err(|source| WriteFailure::Chip { phase: FlashPhase::RollBack, source })?;
        let plan = Plan::new(&content, before, self.blocks, self.aim.header);
        self.rewrite(&content, before, &plan, journal)
    }
}

const fn phase_of(step: &Step) -> FlashPhase {
    match step {
        Step::InvalidateHeader(_) => FlashPhase::InvalidateHeader,
        Step::WriteBody(_) => FlashPhase::WriteBody,
        Step::CommitHeader { .. } => FlashPhase::CommitHeader,
    }
}

/// Says that a phase begins, and keeps how long it took.
fn phase<T>(
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

fn note(run: &mut Run<'_>, message: String) {
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
    let mut report = FlashReport {
        outcome: FlashOutcome::AlreadyProgrammed,
        card: run.card.clone(),
        pci_id: None,
        programmer: run.programmer.clone(),
        chip: None,
        rom: None,
        previous: None,
        backup: None,
        blocks_changed: 0,
        phases: Vec::new(),
    };
    let survey = survey(chip, &mut run, &mut report)?;
    let decision = decide::decide(&run.wish, &survey.facts());
    let read = report.phases.iter().find(|time| time.phase == FlashPhase::Read);
    let read = std::time::Duration::from_millis(read.map_or(0, |time| time.millis));
    Ok(Preview { chip: survey.chip, decision, read })
}

#[cfg(test)]
mod tests;
