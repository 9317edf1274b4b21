//! From the first erase to the end: the steps of a plan, reading back, and the way back.

use std::time::Instant;

use agent_types::flash_report::{
    BackupSummary, FlashEvent, FlashOutcome, FlashPhase, FlashReport, PhaseTime,
};
use agent_types::rom::sha256;

use super::{Run, Survey, chain, first_difference, millis, note, phase};
use crate::chip::{ChipError, FlashChip, Region, Write};
use crate::decide::{Aim, Refusal};
use crate::plan::{self, Plan, Step};
use crate::store::Journal;

/// A chip that fails once may work the second time, and there is nothing to lose any more.
const ROLL_BACK_ATTEMPTS: usize = 2;

/// From the first erase to the end.
pub(super) struct Writer<'w, 'r> {
    pub(super) chip: &'w mut dyn FlashChip,
    pub(super) run: &'w mut Run<'r>,
    pub(super) report: &'w mut FlashReport,
    pub(super) blocks: &'w [Region],
    pub(super) aim: &'w Aim,
}

/// Why the chip does not hold what it shall.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteFailure {
    #[error("{phase}: {source}")]
    Chip { phase: FlashPhase, source: ChipError },
    #[error("read back: byte {at:#x} is {found:#04x}, not {expected:#04x}")]
    ReadBack { at: usize, expected: u8, found: u8 },
}

impl Writer<'_, '_> {
    pub(super) fn open_journal(
        &mut self,
        survey: &Survey,
        backup: BackupSummary,
    ) -> Result<Journal, Refusal> {
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
    pub(super) fn rewrite(
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
    pub(super) fn roll_back(
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
