//! From the first write to the end: the steps of a plan, reading back, and the way back.

use std::io;
use std::path::Path;

use agent_types::disk::Disk;
use agent_types::flash_report::{BackupSummary, FlashOutcome, FlashPhase};
use sha2::{Digest as _, Sha256};

use super::Teller;
use crate::disk::backup::Backup;
use crate::disk::device::{BlockDevice, DiskError, Extent, Geometry};
use crate::disk::image::{Content, Image};
use crate::disk::plan::{self, Fill, Step, Tail};
use crate::disk::survey::{Survey, digest};

/// A disk that fails once may work the second time, and there is nothing to lose any more.
const ROLL_BACK_ATTEMPTS: usize = 2;

/// Why the disk does not hold what it shall.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{phase}: {source}")]
    Disk { phase: FlashPhase, source: DiskError },
    #[error("{phase}: cannot read what shall be written: {source}")]
    Content { phase: FlashPhase, source: io::Error },
    #[error("read back: byte {at} is not what was written")]
    ReadBack { at: u64 },
    #[error("read back: the image has changed while it was written")]
    ImageChanged,
    #[error("roll back: the disk does not hold what it held before")]
    NotBefore,
}

fn failed(phase: FlashPhase) -> impl Fn(DiskError) -> Failure {
    move |source| Failure::Disk { phase, source }
}

/// A disk while it is written.
pub(super) struct Writer<'w, 't> {
    pub(super) device: &'w mut dyn BlockDevice,
    pub(super) geometry: Geometry,
    /// The first sector, as long as the disk is incomplete.
    pub(super) marker: Vec<u8>,
    pub(super) teller: &'w mut Teller<'t>,
}

impl Writer<'_, '_> {
    /// Makes the disk hold the image.
    pub(super) fn write(
        &mut self,
        steps: &[Step],
        image: &Image,
        survey: &Survey,
    ) -> Result<(), Failure> {
        self.apply(steps, image, None)?;
        self.read_back(image, survey)
    }

    /// Every step is on the disk before the next one begins.
    fn apply(
        &mut self,
        steps: &[Step],
        content: &dyn Content,
        instead: Option<FlashPhase>,
    ) -> Result<(), Failure> {
        for step in steps {
            let phase = instead.unwrap_or(step.phase);
            let total = step.extents.iter().map(|extent| extent.length).sum();
            let (device, marker) = (&mut *self.device, &self.marker);
            self.teller.phase(phase, total, |progress| {
                let mut done = 0;
                for extent in step.extents.iter().flat_map(|extent| extent.chunks()) {
                    let bytes = bytes(step.fill, extent, content, marker)
                        .map_err(|source| Failure::Content { phase, source })?;
                    device.write(extent.at, bytes).map_err(failed(phase))?;
                    done += extent.length;
                    progress(done);
                }
                device.flush().map_err(failed(phase))
            })?;
        }
        Ok(())
    }

    /// All of the image, by a process that has not written it.
    fn read_back(&mut self, image: &Image, survey: &Survey) -> Result<(), Failure> {
        let (device, geometry) = (&mut *self.device, self.geometry);
        let phase = FlashPhase::ReadBack;
        self.teller.phase(phase, image.length_bytes, |progress| {
            device.reopen().map_err(failed(phase))?;
            let mut of_disk = Sha256::new();
            for extent in image.extent(geometry).chunks() {
                let found = device.read(extent).map_err(failed(phase))?;
                let wanted =
                    image.read(extent).map_err(|source| Failure::Content { phase, source })?;
                same(extent, &wanted, &found)?;
                of_disk.update(&found[..image.own(extent)]);
                progress(extent.end());
            }
            if survey.tail == Tail::Stale {
                let last = geometry.last_sector();
                let found = device.read(last).map_err(failed(phase))?;
                same(last, &vec![0; found.len()], &found)?;
            }
            if digest(of_disk) == survey.image { Ok(()) } else { Err(Failure::ImageChanged) }
        })
    }

    /// Writes back what the disk held before.
    pub(super) fn roll_back(
        &mut self,
        failure: Failure,
        backup: &Backup,
        summary: &BackupSummary,
    ) -> FlashOutcome {
        let why = failure.to_string();
        self.teller.note(format!("rolling back: {why}"));
        // A disk that takes no writes may hold everything still.
        if self.holds(backup).is_ok() {
            return FlashOutcome::RolledBack { why };
        }
        let mut last = None;
        for _ in 0..ROLL_BACK_ATTEMPTS {
            match self.put_back(backup) {
                Ok(()) => return FlashOutcome::RolledBack { why },
                Err(error) => last = Some(error),
            }
        }
        let last = last.map(|error| format!("; rolling back: {error}")).unwrap_or_default();
        let restore_from = Some(summary.path.clone());
        FlashOutcome::Degraded { why: format!("{why}{last}"), restore_from }
    }

    /// Makes the disk hold the backup.
    pub(super) fn put_back(&mut self, backup: &Backup) -> Result<(), Failure> {
        let phase = FlashPhase::RollBack;
        self.device.reopen().map_err(failed(phase))?;
        let pieces = &backup.header.pieces;
        let is_last = |piece: &Extent| piece.end() > self.geometry.last_sector().at;
        let tail = if pieces.iter().any(is_last) { Tail::Replaced } else { Tail::Absent };
        let steps = plan::steps(self.geometry, pieces, tail);
        self.apply(&steps, backup, Some(phase))?;
        self.holds(backup)
    }

    /// Does the disk hold what it held when the backup was made, as far as the image reaches?
    fn holds(&mut self, backup: &Backup) -> Result<(), Failure> {
        let (device, header) = (&mut *self.device, &backup.header);
        let phase = FlashPhase::RollBack;
        let sector = self.geometry.sector_bytes;
        let whole = Extent { at: 0, length: header.length_bytes.next_multiple_of(sector) };
        self.teller.phase(phase, whole.length, |progress| {
            device.reopen().map_err(failed(phase))?;
            let mut of_disk = Sha256::new();
            for extent in whole.chunks() {
                let found = device.read(extent).map_err(failed(phase))?;
                let own = header.length_bytes.saturating_sub(extent.at).min(extent.length);
                of_disk.update(&found[..usize::try_from(own).unwrap_or(found.len())]);
                progress(extent.end());
            }
            for piece in header.pieces.iter().filter(|piece| piece.end() >= whole.end()) {
                let found = device.read(*piece).map_err(failed(phase))?;
                let wanted =
                    backup.read(*piece).map_err(|source| Failure::Content { phase, source })?;
                same(*piece, &wanted, &found)?;
            }
            if digest(of_disk) == header.sha256 { Ok(()) } else { Err(Failure::NotBefore) }
        })
    }
}

/// A disk that was unfinished already has no way back but the first run's backup.
pub(super) fn stays_unfinished(failure: Failure, disk: &Disk) -> FlashOutcome {
    let backup = disk.unfinished.as_ref().and_then(|unfinished| unfinished.backup.clone());
    let restore_from = backup.filter(|path| Path::new(path).exists());
    FlashOutcome::Degraded { why: failure.to_string(), restore_from }
}

fn bytes(fill: Fill, extent: Extent, content: &dyn Content, marker: &[u8]) -> io::Result<Vec<u8>> {
    match fill {
        Fill::Marker => Ok(marker.to_vec()),
        Fill::Zeros => Ok(vec![0; usize::try_from(extent.length).map_err(io::Error::other)?]),
        Fill::Content => content.read(extent),
    }
}

fn same(extent: Extent, wanted: &[u8], found: &[u8]) -> Result<(), Failure> {
    if wanted == found {
        return Ok(());
    }
    let offset = wanted.iter().zip(found).take_while(|(wanted, found)| wanted == found).count();
    Err(Failure::ReadBack { at: extent.at + offset as u64 })
}
