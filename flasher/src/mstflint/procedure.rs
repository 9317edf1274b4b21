//! The procedure for a card that holds its ROM as one section: read, decide, read again, back up,
//! write, verify, read back, and go back if anything fails.
//!
//! It keeps what the procedure for a chip keeps: the backup and the journal are stored before the
//! first burn, and a run that did not end is gone on with, or undone from its backup.

use agent_types::flash_report::{BackupSummary, FlashOutcome, FlashPhase, FlashReport, RomSummary};
use agent_types::rom::{self, OptionRom, RomVersion, sha256};

use super::{Error, RomSection};
use crate::chip::{Chip, Region};
use crate::decide::{Image, Refusal, Wish, check_version};
use crate::flash::{self, Run, chain, note, phase};
use crate::store::{self, Journal};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Intent {
    /// The card holds the image already.
    UpToDate,
    /// The card holds another ROM that is recent enough.
    RecentEnough(RomVersion),
    /// Write.
    Burn,
}

/// Writes what `run` asks for to a card.
pub fn rewrite(section: &mut dyn RomSection, mut run: Run<'_>) -> FlashReport {
    let mut report = flash::begun(&run);
    let end = procedure(section, &mut run, &mut report);
    flash::ended(report, end)
}

/// Looks and decides, and changes nothing.
///
/// # Errors
/// The card cannot be read, or nothing would be written, for a reason.
pub fn preview(section: &mut dyn RomSection, mut run: Run<'_>) -> Result<Intent, Refusal> {
    let mut report = flash::begun(&run);
    let survey = survey(section, &mut run, &mut report)?;
    decide(&run.wish, &survey)
}

/// The story. An error means that nothing was written.
fn procedure(
    section: &mut dyn RomSection,
    run: &mut Run<'_>,
    report: &mut FlashReport,
) -> Result<FlashOutcome, Refusal> {
    let survey = survey(section, run, report)?;
    match decide(&run.wish, &survey)? {
        Intent::UpToDate => return flash::close(run, FlashOutcome::AlreadyProgrammed),
        Intent::RecentEnough(present) => return Ok(FlashOutcome::RecentEnough { present }),
        Intent::Burn => {}
    }
    read_again(section, run, report, &survey.held)?;
    let backup = flash::back_up(run, report, &survey.before, survey.earlier.as_ref())?;
    if matches!(run.wish.image, Image::Rom(_)) {
        phase(run, report, FlashPhase::Settings, || section.enable()).map_err(refusal)?;
    }
    let mut journal = open_journal(run, &survey, backup)?;
    let outcome = burn(section, run, report, &survey.before, &mut journal);
    flash::end_journal(run, journal, &outcome);
    Ok(outcome)
}

fn refusal(error: Error) -> Refusal {
    Refusal::Section(chain(&error))
}

/// What was learnt about the card without changing it.
struct Survey {
    held: Vec<u8>,
    /// What it held before a run that did not end.
    before: Vec<u8>,
    /// The backup of that run.
    earlier: Option<BackupSummary>,
}

fn survey(
    section: &mut dyn RomSection,
    run: &mut Run<'_>,
    report: &mut FlashReport,
) -> Result<Survey, Refusal> {
    if let Image::Rom(rom) = run.wish.image {
        check_rom(&run.wish, rom)?;
    }
    let held = phase(run, report, FlashPhase::Read, || section.read()).map_err(refusal)?;
    let (before, earlier) = before(run, &held);
    report.previous = OptionRom::parse_start(&before).ok().as_ref().map(RomSummary::from);
    Ok(Survey { held, before, earlier })
}

fn check_rom(wish: &Wish<'_>, rom: &[u8]) -> Result<(), Refusal> {
    rom::check(&OptionRom::parse(rom)?, wish.card, u64::MAX)?;
    if let Some(expected) = wish.sha256 {
        rom::check_digest(rom, expected)?;
    }
    Ok(())
}

fn before(run: &mut Run<'_>, held: &[u8]) -> (Vec<u8>, Option<BackupSummary>) {
    let Some(journal) = run.store.open_journal() else { return (held.to_vec(), None) };
    note(run, format!("an earlier run did not get beyond phase {}", journal.phase));
    match store::read_backup(&journal.backup) {
        Some(content) => (content, Some(journal.backup)),
        None => {
            note(run, format!("its backup {} is gone", journal.backup.path));
            (held.to_vec(), None)
        }
    }
}

fn decide(wish: &Wish<'_>, survey: &Survey) -> Result<Intent, Refusal> {
    if survey.held == wanted(&wish.image) {
        return Ok(Intent::UpToDate);
    }
    let Image::Rom(rom) = wish.image else { return Ok(Intent::Burn) };
    let present = OptionRom::parse_start(&survey.before).ok().and_then(|rom| rom.version);
    let minimum = wish.minimum_version.filter(|_| survey.held == survey.before);
    if let (Some(present), Some(minimum)) = (&present, minimum)
        && present >= minimum
    {
        return Ok(Intent::RecentEnough(present.clone()));
    }
    check_version(wish, present, OptionRom::parse(rom)?.version)?;
    Ok(Intent::Burn)
}

const fn wanted<'a>(image: &Image<'a>) -> &'a [u8] {
    match image {
        Image::Rom(bytes) | Image::Backup { content: bytes, .. } => bytes,
    }
}

fn read_again(
    section: &mut dyn RomSection,
    run: &mut Run<'_>,
    report: &mut FlashReport,
    held: &[u8],
) -> Result<(), Refusal> {
    let again = phase(run, report, FlashPhase::ReadAgain, || section.read()).map_err(refusal)?;
    match difference(held, &again) {
        Some(at) => Err(Refusal::ReadsDiffer { at }),
        None => Ok(()),
    }
}

fn open_journal(run: &Run<'_>, survey: &Survey, backup: BackupSummary) -> Result<Journal, Refusal> {
    let target = wanted(&run.wish.image);
    let journal = Journal {
        card: run.card.clone(),
        chip: Chip {
            vendor: "Mellanox".to_owned(),
            name: "ROM section of the firmware".to_owned(),
            size_bytes: survey.before.len(),
        },
        extent: Region { start: 0, end: target.len() },
        target_sha256: sha256(target),
        backup,
        phase: FlashPhase::WriteBody,
        outcome: None,
    };
    run.store.write(&journal).map_err(|error| Refusal::Journal(chain(&error)))?;
    Ok(journal)
}

/// From the first burn to the end.
fn burn(
    section: &mut dyn RomSection,
    run: &mut Run<'_>,
    report: &mut FlashReport,
    before: &[u8],
    journal: &mut Journal,
) -> FlashOutcome {
    let target = wanted(&run.wish.image);
    let Err(why) = write(section, run, report, FlashPhase::WriteBody, target) else {
        return FlashOutcome::Programmed;
    };
    if holds(section, before) {
        return FlashOutcome::RolledBack { why };
    }
    note(run, format!("rolling back: {why}"));
    journal.phase = FlashPhase::RollBack;
    match write(section, run, report, FlashPhase::RollBack, before) {
        Ok(()) => FlashOutcome::RolledBack { why },
        Err(then) => FlashOutcome::Degraded {
            why: format!("{why}; rolling back: {then}"),
            restore_from: Some(journal.backup.path.clone()),
        },
    }
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
