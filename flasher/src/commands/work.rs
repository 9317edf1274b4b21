//! Commands that work on a chip.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use agent_types::flash_report::{BackupSummary, FlashEvent};
use agent_types::rom::Card;
use serde_json::json;

use super::report::finish;
use super::{DIFFERS, Error, OWN_PROGRAM, PROCFS, REFUSED, SYSFS, SharedOutput, read_file};
use crate::chip::{Chip, FlashChip, Region, WriteProtection};
use crate::cli;
use crate::decide::{Decision, Image, Refusal, Wish};
use crate::driver::{self, Unbound};
use crate::flash::{self, Preview, Run};
use crate::helper::Helper;
use crate::plan::Step;
use crate::signal::Uninterrupted;
use crate::store::{self, Store};
use crate::target::{self, Target};

/// A target whose chip can be worked on. The driver gets its card back when this is dropped.
struct Opened {
    target: Target,
    chip: Helper,
    unbound: Option<Unbound>,
    /// Did the machine's routes lead through the card?
    carries_traffic: bool,
}

/// A card that is found and may be worked on, but whose driver still has it.
fn found(arguments: &cli::Target, rom: Option<&[u8]>) -> Result<Target, Error> {
    Ok(target::find(Path::new(SYSFS), &arguments.card, arguments.pci_id, rom)?)
}

fn open(output: &SharedOutput, arguments: &cli::Target, target: Target) -> Result<Opened, Error> {
    let programmer = target.programmer.clone();
    let interfaces = target.mapped.as_ref().map_or(&[][..], |card| card.interfaces.as_slice());
    let carries_traffic = driver::carries_traffic(Path::new(PROCFS), interfaces);
    if carries_traffic && !arguments.allow_session_card {
        return Err(Error::SessionCard);
    }
    let mapped = target.mapped.as_ref();
    let unbound = mapped.map(|card| Unbound::take(Path::new(SYSFS), card)).transpose()?.flatten();
    let listener = Rc::clone(output);
    let chip = Helper::new(PathBuf::from(OWN_PROGRAM), programmer)
        .chip_name(arguments.chip.clone())
        .limit(arguments.time_limit.map(Duration::from_secs))
        .on_message(move |message| listener.borrow_mut().library(message));
    #[cfg(feature = "dummy")]
    let chip = chip.faults(arguments.faults);
    Ok(Opened { target, chip, unbound, carries_traffic })
}

fn whole(chip: &Chip) -> Region {
    Region { start: 0, end: chip.size_bytes }
}

pub(super) fn probe(output: &SharedOutput, arguments: &cli::Target) -> Result<u8, Error> {
    let mut opened = open(output, arguments, found(arguments, None)?)?;
    let chip = opened.chip.probe()?;
    let protection = opened.chip.write_protection()?;
    let value = json!({"chip": chip, "write_protection": protection});
    output.borrow_mut().result(&value, || format!("{chip}\n{}", protection_text(&protection)));
    Ok(0)
}

fn protection_text(protection: &WriteProtection) -> String {
    match protection {
        WriteProtection::Off => "write protection: off".to_owned(),
        WriteProtection::On { region, mode } => format!("write protection: {region} ({mode})"),
        WriteProtection::Unknown => "write protection: not known for this chip".to_owned(),
    }
}

pub(super) fn backup(
    output: &SharedOutput,
    arguments: &cli::Target,
    state_dir: &Path,
    path: Option<&Path>,
) -> Result<u8, Error> {
    let target = found(arguments, None)?;
    let store = Store::open(state_dir, &target.name)?;
    let mut opened = open(output, arguments, target)?;
    let chip = opened.chip.probe()?;
    let first = opened.chip.read(&[whole(&chip)])?;
    let second = opened.chip.read(&[whole(&chip)])?;
    if let Some(at) = (0..first.len()).find(|&at| first[at] != second[at]) {
        return Err(Refusal::ReadsDiffer { at }.into());
    }
    let backup = store.keep(&first, path)?;
    output.borrow_mut().result(&backup, || format!("{} (sha256 {})", backup.path, backup.sha256));
    Ok(0)
}

pub(super) fn verify(
    output: &SharedOutput,
    arguments: &cli::Target,
    rom: &Path,
    region: Option<Region>,
) -> Result<u8, Error> {
    let rom = read_file(rom)?;
    let mut opened = open(output, arguments, found(arguments, Some(&rom))?)?;
    let chip = opened.chip.probe()?;
    let start = region.map_or(0, |region| region.start);
    let extent = Region { start, end: start.saturating_add(rom.len()) };
    if extent.is_empty() || !region.unwrap_or(whole(&chip)).contains(&extent) {
        let region = region.unwrap_or(extent);
        return Err(Refusal::RegionOutside { region, size_bytes: chip.size_bytes }.into());
    }
    if !whole(&chip).contains(&extent) {
        return Err(Refusal::RegionOutside { region: extent, size_bytes: chip.size_bytes }.into());
    }
    let content = opened.chip.read(&[extent])?;
    let difference = extent.range().find(|&at| content[at] != rom[at - start]);
    let value = json!({"equal": difference.is_none(), "first_difference": difference});
    output.borrow_mut().result(&value, || match difference {
        None => "equal: the card holds this image".to_owned(),
        Some(at) => format!("different: the first byte that differs is {at:#x}"),
    });
    Ok(if difference.is_none() { 0 } else { DIFFERS })
}

pub(super) fn write(
    output: &SharedOutput,
    arguments: &cli::Write,
    rom: &[u8],
    state_dir: &Path,
    target: Target,
) -> Result<u8, Error> {
    let card = target.card.ok_or_else(|| Error::UnknownCard(target.name.clone()))?;
    let store = Store::open(state_dir, &target.name)?;
    let opened = open(output, &arguments.target, target)?;
    let job = Job::of_rom(arguments, rom, &card, &store);
    if arguments.dry_run { job.preview(output, opened) } else { job.carry_out(output, opened) }
}

/// What `restore` was asked for.
pub(super) struct Restore<'a> {
    pub(super) backup: Option<&'a Path>,
    pub(super) region: Option<Region>,
    pub(super) permissions: &'a cli::Permissions,
}

impl Restore<'_> {
    /// What the operator names, or else the journal.
    pub(super) fn content(&self, store: &Store, card: &str) -> Result<Vec<u8>, Error> {
        if let Some(path) = self.backup {
            return read_file(path);
        }
        let named = store.journal().and_then(|journal| store::read_backup(&journal.backup));
        named.ok_or_else(|| Error::NoBackup(card.to_owned()))
    }
}

pub(super) fn restore(
    output: &SharedOutput,
    arguments: &cli::Target,
    wanted: &Restore<'_>,
    state_dir: &Path,
) -> Result<u8, Error> {
    let target = found(arguments, None)?;
    let store = Store::open(state_dir, &target.name)?;
    let content = wanted.content(&store, &target.name)?;
    let header = store.journal().map(|journal| journal.extent.start);
    let header = wanted.region.map(|region| region.start).or(header).unwrap_or_default();
    // A backup is of this chip, whatever the card.
    let card = target.card.unwrap_or(target::card_of(NO_CARD));
    let opened = open(output, arguments, target)?;
    let image = Image::Backup { content: &content, header };
    let job = Job::of_backup(wanted, image, &card, &store);
    job.carry_out(output, opened)
}

const NO_CARD: agent_types::rom::PciId = agent_types::rom::PciId { vendor: 0, device: 0 };

/// A card to be written.
pub(super) struct Job<'a> {
    pub(super) wish: Wish<'a>,
    pub(super) backup: Option<&'a Path>,
    pub(super) permissions: &'a cli::Permissions,
    pub(super) store: &'a Store,
}

impl<'a> Job<'a> {
    pub(super) fn of_rom(
        arguments: &'a cli::Write,
        rom: &'a [u8],
        card: &'a Card,
        store: &'a Store,
    ) -> Self {
        let wish = Wish {
            image: Image::Rom(rom),
            region: arguments.region,
            card,
            sha256: arguments.sha256,
            version: arguments.rom_version.as_ref(),
            allow_downgrade: arguments.permissions.allow_downgrade,
            minimum_version: arguments.minimum_version.as_ref(),
        };
        let (backup, permissions) = (arguments.backup.as_deref(), &arguments.permissions);
        Self { wish, backup, permissions, store }
    }

    pub(super) fn of_backup(
        wanted: &Restore<'a>,
        image: Image<'a>,
        card: &'a Card,
        store: &'a Store,
    ) -> Self {
        let wish = Wish {
            image,
            region: wanted.region,
            card,
            sha256: None,
            version: None,
            allow_downgrade: true,
            minimum_version: None,
        };
        Self { wish, backup: None, permissions: wanted.permissions, store }
    }

    fn carry_out(&self, output: &SharedOutput, opened: Opened) -> Result<u8, Error> {
        if self.wish.sha256.is_none() && has_efi_image(&self.wish.image) {
            let text = "no --sha256 was given, and an EFI image has no checksum of its own";
            output.borrow_mut().event(&FlashEvent::Note { message: text.to_owned() });
        }
        let Opened { target, mut chip, unbound, carries_traffic } = opened;
        let names = (target.name.as_str(), target.programmer.name());
        Ok(uninterrupted(output, |events| {
            // Bound again before anybody may interrupt.
            let unbound = unbound;
            let session = unbound.as_ref().filter(|_| carries_traffic);
            let report =
                self.with_run(names, session, events, |run| flash::reflash(&mut chip, run));
            #[cfg(feature = "dummy")]
            if chip.crashed() {
                return crate::operation::CRASHED;
            }
            finish(output, report)
        }))
    }

    fn preview(&self, output: &SharedOutput, mut opened: Opened) -> Result<u8, Error> {
        let mut events = |event: FlashEvent| output.borrow_mut().event(&event);
        let names = (opened.target.name.as_str(), opened.target.programmer.name());
        let preview =
            self.with_run(names, None, &mut events, |run| flash::preview(&mut opened.chip, run))?;
        Ok(show(output, &preview))
    }

    /// The hook may need the network that the card carries.
    pub(super) fn with_run<T>(
        &self,
        (card, programmer): (&str, &str),
        session: Option<&Unbound>,
        events: &mut dyn FnMut(FlashEvent),
        work: impl FnOnce(Run<'_>) -> T,
    ) -> T {
        let mut after_backup = |backup: &BackupSummary| {
            let Some(hook) = self.permissions.after_backup.as_deref() else { return Ok(()) };
            match session {
                Some(card) => card
                    .while_bound(|| run_hook(hook, backup))
                    .unwrap_or_else(|error| Err(flash::chain(&error))),
                None => run_hook(hook, backup),
            }
        };
        work(Run {
            wish: self.wish,
            card: card.to_owned(),
            programmer: programmer.to_owned(),
            store: self.store,
            backup: self.backup,
            allow_unprotect: self.permissions.allow_unprotect,
            events,
            after_backup: &mut after_backup,
        })
    }
}

/// Says the events of `work`, which nobody interrupts once the backup is stored, up to and with its
/// report.
pub(super) fn uninterrupted(
    output: &SharedOutput,
    work: impl FnOnce(&mut dyn FnMut(FlashEvent)) -> u8,
) -> u8 {
    let uninterrupted = RefCell::new(Uninterrupted::default());
    work(&mut |event: FlashEvent| {
        if matches!(event, FlashEvent::BackupStored(_)) {
            uninterrupted.borrow_mut().begin();
        }
        output.borrow_mut().event(&event);
    })
}

fn has_efi_image(image: &Image<'_>) -> bool {
    let Image::Rom(bytes) = image else { return false };
    let rom = agent_types::rom::OptionRom::parse(bytes);
    let is_efi =
        |image: &agent_types::rom::RomImage| image.pci.code_type == agent_types::rom::CodeType::Efi;
    rom.is_ok_and(|rom| rom.images.iter().any(is_efi))
}

/// A typical block of 4 KiB takes this long to erase and to program.
const BLOCK_TIME: Duration = Duration::from_millis(60);
/// libflashrom waits this long before it verifies.
const SETTLE_TIME: Duration = Duration::from_secs(1);

fn show(output: &SharedOutput, preview: &Preview) -> u8 {
    match &preview.decision {
        Decision::UpToDate => {
            let value = json!({"decision": "up-to-date", "chip": preview.chip});
            output
                .borrow_mut()
                .result(&value, || "up to date: nothing would be written".to_owned());
            0
        }
        Decision::RecentEnough(present) => {
            let value = json!({"decision": "recent-enough", "present": present});
            output.borrow_mut().result(&value, || format!("recent enough: version {present}"));
            0
        }
        Decision::Refuse(why) => {
            let value = json!({"decision": "refuse", "why": why.to_string()});
            output.borrow_mut().result(&value, || format!("would be refused: {why}"));
            REFUSED
        }
        Decision::Program { plan, .. } => {
            let estimate = estimate(preview, plan.touched.len(), plan.steps.len());
            let steps: Vec<String> = plan.steps.iter().map(step_text).collect();
            let value = json!({
                "decision": "program",
                "chip": preview.chip,
                "blocks": plan.touched,
                "steps": steps,
                "estimate_seconds": estimate.as_secs(),
            });
            output.borrow_mut().result(&value, || {
                format!(
                    "{} blocks would change, in about {} s:\n{}",
                    plan.touched.len(),
                    estimate.as_secs(),
                    steps.join("\n")
                )
            });
            0
        }
    }
}

fn estimate(preview: &Preview, blocks: usize, steps: usize) -> Duration {
    let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
    let steps = u32::try_from(steps).unwrap_or(u32::MAX);
    preview.read.saturating_add(BLOCK_TIME.saturating_mul(blocks)) + SETTLE_TIME * steps
}

fn step_text(step: &Step) -> String {
    let regions: Vec<String> =
        crate::chip::joined(step.regions()).iter().map(ToString::to_string).collect();
    let what = match step {
        Step::InvalidateHeader(_) => "erase the header",
        Step::WriteBody(_) => "write the body",
        Step::CommitHeader { .. } => "write the header's first page",
    };
    format!("{what}: {}", regions.join(" "))
}

/// Sending a backup of some megabytes over a slow line, with retries.
const HOOK_LIMIT: Duration = Duration::from_secs(600);

fn run_hook(program: &Path, backup: &BackupSummary) -> Result<(), String> {
    let name = PathBuf::from(program).display().to_string();
    let child = Command::new(program)
        .arg(&backup.path)
        .arg(backup.sha256.to_string())
        .stdin(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| format!("cannot start {name}: {error}"))?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || child.wait().map(|status| sender.send(status)));
    match receiver.recv_timeout(HOOK_LIMIT) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(_) => Err(format!("{name} did not end within {} s", HOOK_LIMIT.as_secs())),
    }
}
