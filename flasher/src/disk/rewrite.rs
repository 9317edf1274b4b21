//! The procedure: compare, back up, write, read back, and go back if anything fails.
//!
//! On entry the disk is the one that was meant. Until the backup is stored nothing is written, and any
//! trouble is a refusal. On return the disk holds the image, or what it held before, or the outcome
//! is `Degraded` and names a backup. Whatever stops this procedure in between, the disk is one that no
//! machine starts from, or complete, and the next run knows it again.

mod restore;
mod tell;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use agent_types::digest::Sha256Digest;
use agent_types::disk::Disk;
use agent_types::flash_report::{
    BackupSummary, ChipSummary, FlashEvent, FlashOutcome, FlashPhase, FlashReport, RomSummary,
};

use super::backup::{self, Backup, Header};
use super::device::{BlockDevice, DiskError, Extent, Geometry};
use super::image::Image;
use super::plan::{self, HEAD, Step};
use super::survey::{Survey, sha256, survey};
use super::{marker, room};
pub use restore::restore;
use tell::Teller;
use write::Writer;

/// What the report says in place of a programmer.
const PROGRAMMER: &str = "block device";

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The disk.
    pub disk: &'a Disk,
    /// What it shall hold.
    pub image: &'a Image,
    /// What that must be.
    pub sha256: Option<Sha256Digest>,
    /// Where the operator wants the backup.
    pub backup: Option<&'a Path>,
    /// Where it goes otherwise.
    pub state_dir: &'a Path,
    /// The kernel's account of its memory.
    pub meminfo: &'a Path,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The image.
    #[error("cannot read the image")]
    Image(#[source] io::Error),
    /// An image that ends before what is written last.
    #[error("expected an image of at least {} bytes, got {image_bytes}", HEAD.length)]
    Short {
        /// How long it is.
        image_bytes: u64,
    },
    /// An image that does not fit.
    #[error("the image has {image_bytes} bytes, and the disk {disk_bytes}")]
    TooLarge {
        /// Of the image.
        image_bytes: u64,
        /// Of the disk.
        disk_bytes: u64,
    },
    /// Another image.
    #[error("expected an image with sha256 {expected}, got {got}")]
    Digest {
        /// What was asked for.
        expected: Sha256Digest,
        /// What is there.
        got: Sha256Digest,
    },
    /// A disk that cannot be trusted.
    #[error("two reads differ in the {} bytes from byte {}", .0.length, .0.at)]
    ReadsDiffer(Extent),
    /// The backup is of another disk.
    #[error("the backup is of {0}")]
    AnotherDisk(String),
    /// No place for the backup.
    #[error(transparent)]
    Room(#[from] room::Error),
    /// No backup.
    #[error(transparent)]
    Backup(#[from] backup::Error),
}

/// Makes the disk hold the image.
pub fn rewrite(
    device: &mut dyn BlockDevice,
    wish: &Wish<'_>,
    events: &mut dyn FnMut(FlashEvent),
) -> FlashReport {
    let (mut report, mut teller) = (report(wish.disk), Teller::new(events));
    report.outcome = match procedure(device, wish, &mut teller, &mut report) {
        Ok(outcome) => outcome,
        Err(refusal) => FlashOutcome::Refused { why: crate::flash::chain(&refusal) },
    };
    report.phases = teller.times;
    report
}

/// The story. An error means that nothing was written.
fn procedure(
    device: &mut dyn BlockDevice,
    wish: &Wish<'_>,
    teller: &mut Teller<'_>,
    report: &mut FlashReport,
) -> Result<FlashOutcome, Refusal> {
    let (geometry, survey) = look(device, wish, teller, report)?;
    if !survey.differs {
        return Ok(FlashOutcome::AlreadyProgrammed);
    }
    let steps = steps(geometry, &survey);
    let backup = match &wish.disk.unfinished {
        Some(_) => {
            teller
                .note("an earlier rewrite did not end: there is nothing to go back to".to_owned());
            None
        }
        None => Some(back_up(device, wish, &survey, &steps, teller)?),
    };
    report.backup = backup.as_ref().map(|(summary, _)| summary.clone());
    let path = report.backup.as_ref().map(|backup| backup.path.clone());
    let sector = geometry.sector_bytes;
    let marker = marker::sector(wish.disk, survey.image.to_string(), path, sector);
    let mut writer = Writer { device, geometry, marker, teller };
    Ok(match writer.write(&steps, wish.image, &survey) {
        Ok(()) => FlashOutcome::Programmed,
        Err(failure) => match &backup {
            Some((summary, backup)) => writer.roll_back(failure, backup, summary),
            None => write::stays_unfinished(failure, wish.disk),
        },
    })
}

/// Looks, and says what was found.
fn look(
    device: &mut dyn BlockDevice,
    wish: &Wish<'_>,
    teller: &mut Teller<'_>,
    report: &mut FlashReport,
) -> Result<(Geometry, Survey), Refusal> {
    let geometry = teller.phase(FlashPhase::Probe, 0, |_| device.reopen())?;
    let image_bytes = wish.image.length_bytes;
    if image_bytes < HEAD.length {
        return Err(Refusal::Short { image_bytes });
    }
    if wish.image.extent(geometry).end() > geometry.size_bytes {
        return Err(Refusal::TooLarge { image_bytes, disk_bytes: geometry.size_bytes });
    }
    let survey = teller.phase(FlashPhase::Read, image_bytes, |progress| {
        survey(device, geometry, wish.image, progress)
    })?;
    report.rom = Some(summary(survey.image, image_bytes));
    report.previous = Some(summary(survey.before, image_bytes));
    report.blocks_changed = survey.chunks.len();
    match wish.sha256 {
        Some(expected) if expected != survey.image => {
            Err(Refusal::Digest { expected, got: survey.image })
        }
        _ => Ok((geometry, survey)),
    }
}

fn steps(geometry: Geometry, survey: &Survey) -> Vec<Step> {
    let changed: Vec<Extent> = survey.chunks.iter().map(|chunk| chunk.extent).collect();
    plan::steps(geometry, &changed, survey.tail)
}

/// Keeps what will be overwritten, which must read as it did before.
fn back_up(
    device: &mut dyn BlockDevice,
    wish: &Wish<'_>,
    survey: &Survey,
    steps: &[Step],
    teller: &mut Teller<'_>,
) -> Result<(BackupSummary, Backup), Refusal> {
    let pieces: Vec<Extent> = survey.chunks.iter().map(|chunk| chunk.extent).collect();
    debug_assert!(plan::touched(steps).iter().all(|touched| plan::covers(&pieces, *touched)));
    let header = Header::new(wish.disk.clone(), survey.before, wish.image.length_bytes, pieces);
    let path = wish.backup_path(wish.disk, survey.before);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    room::check(directory.unwrap_or(Path::new(".")), wish.meminfo, header.need_bytes())?;
    let total = header.need_bytes();
    let summary = teller.phase(FlashPhase::Backup, total, |progress| {
        let (mut writer, mut done) = (backup::Writer::create(&path, &header)?, 0);
        for chunk in &survey.chunks {
            let bytes = device.read(chunk.extent)?;
            if sha256(&bytes) != chunk.before {
                return Err(Refusal::ReadsDiffer(chunk.extent));
            }
            writer.append(&bytes)?;
            done += chunk.extent.length;
            progress(done);
        }
        Ok(writer.finish()?)
    })?;
    let backup = Backup::open(Path::new(&summary.path))?;
    teller.event(FlashEvent::BackupStored(summary.clone()));
    Ok((summary, backup))
}

impl Wish<'_> {
    fn backup_path(&self, disk: &Disk, before: Sha256Digest) -> PathBuf {
        let name = format!("disk-{}-{}.backup", disk.name, &before.to_string()[..16]);
        self.backup.map_or_else(|| self.state_dir.join(name), Path::to_owned)
    }
}

fn summary(sha256: Sha256Digest, length_bytes: u64) -> RomSummary {
    let length_bytes = usize::try_from(length_bytes).unwrap_or(usize::MAX);
    RomSummary { sha256, length_bytes, id: None, version: None, ipxe_build_id: None }
}

fn report(disk: &Disk) -> FlashReport {
    FlashReport {
        outcome: FlashOutcome::AlreadyProgrammed,
        card: format!("{}{disk}", FlashReport::DISK),
        pci_id: None,
        programmer: PROGRAMMER.to_owned(),
        chip: Some(ChipSummary {
            vendor: disk.vendor.clone().unwrap_or_default(),
            name: disk.model.clone().unwrap_or_default(),
            size_bytes: usize::try_from(disk.size_bytes).unwrap_or(usize::MAX),
        }),
        rom: None,
        previous: None,
        backup: None,
        blocks_changed: 0,
        phases: Vec::new(),
        components: Vec::new(),
    }
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The steps; nothing, if the disk holds the image.
    pub steps: Vec<Step>,
    /// How long the backup would be.
    pub backup_bytes: u64,
    /// How long it took to read what would be written.
    pub read: std::time::Duration,
}

/// Looks, and changes nothing.
///
/// # Errors
/// The disk would be refused.
pub fn preview(
    device: &mut dyn BlockDevice,
    wish: &Wish<'_>,
    events: &mut dyn FnMut(FlashEvent),
) -> Result<Preview, Refusal> {
    let (mut teller, mut report) = (Teller::new(events), report(wish.disk));
    let (geometry, survey) = look(device, wish, &mut teller, &mut report)?;
    let steps = if survey.differs { steps(geometry, &survey) } else { Vec::new() };
    let backup_bytes = match wish.disk.unfinished {
        None if survey.differs => survey.chunks.iter().map(|chunk| chunk.extent.length).sum(),
        _ => 0,
    };
    let read = teller.times.iter().find(|time| time.phase == FlashPhase::Read);
    let read = std::time::Duration::from_millis(read.map_or(0, |time| time.millis));
    Ok(Preview { steps, backup_bytes, read })
}

#[cfg(test)]
mod tests;
