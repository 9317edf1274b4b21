//! Commands for whole disks.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use agent_types::disk::{Disk, Disks, Fingerprint};
use agent_types::flash_report::{FlashEvent, FlashPhase, FlashReport};
use serde_json::json;

use super::report::finish;
use super::{Error, OWN_PROGRAM, PROCFS, SYSFS, SharedOutput};
use crate::cli::{DiskCommand, WriteDisk};
use crate::disk::choose::choose;
use crate::disk::device::Extent;
use crate::disk::image::Image;
use crate::disk::operation::Access;
use crate::disk::plan::{Fill, Step};
use crate::disk::rewrite::{self, Preview, Wish};
use crate::disk::session::Session;
use crate::disk::sysfs::{self, Roots};
use crate::signal::Uninterrupted;
use crate::store::Store;

const DEV: &str = "/dev";
const MEMINFO: &str = "/proc/meminfo";

/// A machine that has been up for less may not have found all of its USB disks: one that fits may not
/// be the only one.
const SETTLED: Duration = Duration::from_secs(20);

pub(super) fn run(
    output: &SharedOutput,
    command: &DiskCommand,
    state_dir: &Path,
) -> Result<u8, Error> {
    match command {
        DiskCommand::List { target } => list(output, target.as_ref()),
        DiskCommand::Write(arguments) => write(output, arguments, state_dir),
        DiskCommand::Restore { target, backup, time_limit } => {
            let disk = chosen(target)?;
            let _lock = lock(state_dir, &disk)?;
            let mut session = session(target, &disk, Access::Write, *time_limit)?;
            Ok(finish(
                output,
                uninterrupted(output, |events| {
                    rewrite::restore(&mut session, &disk, backup, events)
                }),
            ))
        }
    }
}

fn roots() -> Roots<'static> {
    Roots { sysfs: Path::new(SYSFS), procfs: Path::new(PROCFS), dev: Path::new(DEV) }
}

fn list(output: &SharedOutput, target: Option<&Fingerprint>) -> Result<u8, Error> {
    let disks = match target {
        Some(target) => vec![chosen(target)?],
        None => sysfs::disks(roots()),
    };
    let value = Disks { disks };
    output.borrow_mut().result(&value, || match value.disks.as_slice() {
        [] => "no disks".to_owned(),
        disks => disks.iter().map(line).collect::<Vec<String>>().join("\n"),
    });
    Ok(0)
}

fn line(disk: &Disk) -> String {
    let mut line = disk.to_string();
    if let Some(unfinished) = &disk.unfinished {
        let image = unfinished.image.get(..16).unwrap_or_default();
        line.push_str(&format!("\n  NOT FINISHED: it was getting the image with sha256 {image}…"));
        if let Some(backup) = &unfinished.backup {
            line.push_str(&format!("; what it held before is in {backup}"));
        }
    }
    if let Some(why) = &disk.why_not {
        line.push_str(&format!("\n  not writable: {why}"));
    }
    line
}

/// The disk that is meant, when all that this machine has can be seen.
fn chosen(target: &Fingerprint) -> Result<Disk, Error> {
    settle();
    Ok(choose(&sysfs::disks(roots()), target)?.clone())
}

fn settle() {
    let uptime = std::fs::read_to_string(Path::new(PROCFS).join("uptime")).unwrap_or_default();
    let seconds = uptime.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    let up =
        seconds.map_or(SETTLED, |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(SETTLED));
    let (begin, rest) = (Instant::now(), SETTLED.saturating_sub(up));
    while let Some(rest) = rest.checked_sub(begin.elapsed()).filter(|rest| !rest.is_zero()) {
        thread::park_timeout(rest);
    }
}

fn lock(state_dir: &Path, disk: &Disk) -> Result<Store, Error> {
    Ok(Store::open(state_dir, &format!("disk:{}", disk.name))?)
}

/// The disk, open; it is still the one that was chosen.
fn session(
    target: &Fingerprint,
    disk: &Disk,
    access: Access,
    time_limit: Option<u64>,
) -> Result<Session, Error> {
    let path = PathBuf::from(DEV).join(&disk.name);
    let sector_bytes = sysfs::sector_bytes(roots(), &disk.name);
    let limit = time_limit.map(Duration::from_secs);
    let mut session = Session::new(OWN_PROGRAM.into(), path, access, sector_bytes).limit(limit);
    session.open().map_err(rewrite::Refusal::from)?;
    if chosen(target)? == *disk { Ok(session) } else { Err(Error::DiskChanged(disk.name.clone())) }
}

fn write(output: &SharedOutput, arguments: &WriteDisk, state_dir: &Path) -> Result<u8, Error> {
    let WriteDisk { target, image: path, sha256, backup, time_limit, dry_run } = arguments;
    let read = |source| Error::Read { path: path.clone(), source };
    let image = Image::open(path).map_err(read)?;
    let disk = chosen(target)?;
    let _lock = lock(state_dir, &disk)?;
    let access = if *dry_run { Access::ReadOnly } else { Access::Write };
    let mut session = session(target, &disk, access, *time_limit)?;
    let (backup, meminfo) = (backup.as_deref(), Path::new(MEMINFO));
    let wish = Wish { disk: &disk, image: &image, sha256: *sha256, backup, state_dir, meminfo };
    if sha256.is_none() {
        let message = "no --sha256 was given: the image is taken as it is".to_owned();
        output.borrow_mut().event(&FlashEvent::Note { message });
    }
    if *dry_run {
        let mut events = |event: FlashEvent| output.borrow_mut().event(&event);
        return Ok(show(output, &rewrite::preview(&mut session, &wish, &mut events)?));
    }
    let report = uninterrupted(output, |events| rewrite::rewrite(&mut session, &wish, events));
    Ok(finish(output, report))
}

/// From the first write on, nobody interrupts by accident.
fn uninterrupted(
    output: &SharedOutput,
    work: impl FnOnce(&mut dyn FnMut(FlashEvent)) -> FlashReport,
) -> FlashReport {
    let uninterrupted = RefCell::new(Uninterrupted::default());
    work(&mut |event: FlashEvent| {
        if begins_to_write(&event) {
            uninterrupted.borrow_mut().begin();
        }
        output.borrow_mut().event(&event);
    })
}

fn begins_to_write(event: &FlashEvent) -> bool {
    use FlashPhase::{InvalidateHeader, RollBack};
    let phases = [InvalidateHeader, RollBack].map(|phase| FlashEvent::Phase { phase });
    matches!(event, FlashEvent::BackupStored(_)) || phases.contains(event)
}

fn show(output: &SharedOutput, preview: &Preview) -> u8 {
    let Preview { steps, backup_bytes, read } = preview;
    let decision = if steps.is_empty() { "up-to-date" } else { "program" };
    let lines: Vec<String> = steps.iter().map(step_line).collect();
    let value = json!({
        "decision": decision,
        "steps": lines,
        "write_bytes": steps.iter().map(length).sum::<u64>(),
        "backup_bytes": backup_bytes,
        "estimate_seconds": estimate(preview).as_secs(),
    });
    output.borrow_mut().result(&value, || match lines.as_slice() {
        [] => "up to date: nothing would be written".to_owned(),
        lines => format!(
            "in at least {} s, with a backup of {backup_bytes} bytes (reading took {} s):\n{}",
            estimate(preview).as_secs(),
            read.as_secs(),
            lines.join("\n")
        ),
    });
    0
}

/// No disk writes faster than it reads, and what was written is read back.
fn estimate(preview: &Preview) -> Duration {
    preview.read * 2
}

fn length(step: &Step) -> u64 {
    step.extents.iter().map(|extent| extent.length).sum()
}

fn step_line(step: &Step) -> String {
    let what = match step.fill {
        Fill::Marker => "mark as unfinished",
        Fill::Zeros => "erase",
        Fill::Content => "write",
    };
    let extents = &step.extents;
    let parts: Vec<String> =
        extents.iter().take(4).map(|Extent { at, length }| format!("{length} at {at}")).collect();
    let more = if extents.len() > 4 { ", …" } else { "" };
    format!("{}: {what} {} bytes: {}{more}", step.phase, length(step), parts.join(", "))
}
