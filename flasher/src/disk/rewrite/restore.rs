//! Writes a backup back, when an operator asks for it.

use std::path::Path;

use agent_types::disk::Disk;
use agent_types::flash_report::{FlashEvent, FlashOutcome, FlashPhase, FlashReport};

use super::write::Writer;
use super::{Refusal, Teller, report, summary};
use crate::disk::backup::Backup;
use crate::disk::device::BlockDevice;
use crate::disk::marker;
use crate::flash::chain;

/// Makes the disk hold what it held when the backup at `path` was made.
pub fn restore(
    device: &mut dyn BlockDevice,
    disk: &Disk,
    path: &Path,
    events: &mut dyn FnMut(FlashEvent),
) -> FlashReport {
    let (mut report, mut teller) = (report(disk), Teller::new(events));
    let outcome = procedure(device, disk, path, &mut teller, &mut report);
    report.outcome =
        outcome.unwrap_or_else(|refusal| FlashOutcome::Refused { why: chain(&refusal) });
    report.phases = teller.times;
    report
}

fn procedure(
    device: &mut dyn BlockDevice,
    disk: &Disk,
    path: &Path,
    teller: &mut Teller<'_>,
    report: &mut FlashReport,
) -> Result<FlashOutcome, Refusal> {
    let backup = Backup::open(path)?;
    let header = &backup.header;
    report.rom = Some(summary(header.sha256, header.length_bytes));
    let geometry = teller.phase(FlashPhase::Probe, 0, |_| device.reopen())?;
    if header.disk.size_bytes != geometry.size_bytes || header.disk.serial != disk.serial {
        return Err(Refusal::AnotherDisk(header.disk.to_string()));
    }
    let shown = path.display().to_string();
    let image = header.sha256.to_string();
    let marker = marker::sector(disk, image, Some(shown.clone()), geometry.sector_bytes);
    Ok(match (Writer { device, geometry, marker, teller }).put_back(&backup) {
        Ok(()) => FlashOutcome::Programmed,
        Err(failure) => {
            FlashOutcome::Degraded { why: failure.to_string(), restore_from: Some(shown) }
        }
    })
}
