//! USB sticks, and an image for one: a GPT with a FAT partition, made by Debian's tools.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::command;
use crate::machine::Machine;
use crate::qmp::Qmp;

/// How large the sticks are; images are smaller.
const STICK_BYTES: usize = 16 << 20;
const IMAGE_BYTES: usize = 8 << 20;
/// The first sector of the partition.
const PARTITION: usize = 2048;
const PARTITION_SECTORS: usize = 4096;
/// How the stick counts.
pub const SECTOR_BYTES: usize = 512;
/// The state of QEMU's blkdebug, counted up at each flush, in which the body is written.
const BODY_STATE: usize = 4;
/// So often the kernel tries to write a sector.
const KERNEL_TRIES: usize = 6;
/// Behind the partition: bytes that no file system has.
const PATTERN: Range<usize> = 4 << 20..7 << 20;

/// A stick, or another disk, on a file that only this test knows.
pub struct Stick {
    directory: tempfile::TempDir,
    /// Its serial number.
    pub serial: &'static str,
    /// What it held at first.
    pub old: Vec<u8>,
}

/// How a stick behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// As it should.
    Good,
    /// It takes 2 MiB in a second, so that a test can act while it is written.
    Slow,
    /// The first write to what is not its head fails, and it works again.
    FailsOnce,
    /// The first sector cannot be written.
    TakesNothing,
}

impl Stick {
    /// A stick with this label on its file system.
    pub fn new(serial: &'static str, label: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let old = disk(&directory.path().join("stick"), STICK_BYTES, label, 1)?;
        Ok(Self { directory, serial, old })
    }

    /// What it holds now.
    pub fn content(&self) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(self.path())?)
    }

    /// What it holds when the image was written to it: the second header of the old GPT is gone.
    #[must_use]
    pub fn with(&self, image: &[u8]) -> Vec<u8> {
        let mut content = self.old.clone();
        content[..image.len()].copy_from_slice(image);
        content[STICK_BYTES - SECTOR_BYTES..].fill(0);
        content
    }

    /// The machine with this stick in it; the first one brings the USB controller.
    #[must_use]
    pub fn plugged_into(&self, mut machine: Machine, temper: Temper) -> Machine {
        let Self { serial, .. } = self;
        let controller = "qemu-xhci,id=usb";
        if !machine.extra.iter().any(|argument| argument == controller) {
            machine.extra.extend(["-device", controller].map(OsString::from));
        }
        let drive = self.drive(serial, temper);
        let device =
            format!("usb-storage,bus=usb.0,id=stick-{serial},drive={serial},serial={serial}");
        machine.extra.extend(["-drive".into(), drive.into(), "-device".into(), device.into()]);
        machine
    }

    /// Pulls it out of a machine that runs.
    pub fn pull_out(&self, machine: &mut Qmp) -> anyhow::Result<()> {
        let id = format!("stick-{}", self.serial);
        machine.execute("device_del", &json!({ "id": id })).map(drop)
    }

    /// Plugs it into a machine that runs, and that has had it already.
    pub fn plug_in(&self, machine: &mut Qmp) -> anyhow::Result<()> {
        let Self { serial, .. } = self;
        let again = format!("{serial}-again");
        let command = format!("drive_add 0 {}", self.drive(&again, Temper::Good));
        machine.execute("human-monitor-command", &json!({ "command-line": command }))?;
        let device = json!({
            "driver": "usb-storage", "bus": "usb.0", "id": again, "drive": again, "serial": serial,
        });
        machine.execute("device_add", &device).map(drop)
    }

    /// The machine with this as a disk that is no stick.
    #[must_use]
    pub fn built_into(&self, mut machine: Machine) -> Machine {
        let Self { serial, .. } = self;
        let drive = self.drive(serial, Temper::Good);
        let device = format!("virtio-blk-pci,drive={serial},serial={serial}");
        machine.extra.extend(["-drive".into(), drive.into(), "-device".into(), device.into()]);
        machine
    }

    fn drive(&self, id: &str, temper: Temper) -> String {
        let (common, path) = (format!("if=none,id={id},format=raw"), self.path());
        let file = path.display();
        let failing = format!("{common},file.driver=blkdebug,file.image.filename={file}");
        match temper {
            Temper::Good => format!("{common},file={file}"),
            Temper::Slow => format!("{common},file={file},throttling.bps-write={}", 2 << 20),
            Temper::TakesNothing => failing + &failing_write(0, ",sector=0"),
            Temper::FailsOnce => {
                let flush = |state: usize| {
                    let (rule, next) = (format!(",file.set-state.{}", state - 1), state + 1);
                    format!("{rule}.event=flush_to_disk{rule}.state={state}{rule}.new_state={next}")
                };
                let body = format!(",state={BODY_STATE},once=on");
                let failures = (0..KERNEL_TRIES).map(|number| failing_write(number, &body));
                failing + &(1..BODY_STATE).map(flush).chain(failures).collect::<String>()
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("stick")
    }
}

/// A rule of QEMU's blkdebug: a write ends with an I/O error.
fn failing_write(number: usize, conditions: &str) -> String {
    let options = format!(",event=write_aio,iotype=write,errno=5{conditions}");
    options.replace(',', &format!(",file.inject-error.{number}."))
}

/// An image that a machine could start from, as far as its signs tell.
pub fn image() -> anyhow::Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    disk(&directory.path().join("image"), IMAGE_BYTES, "NEW", 2)
}

/// Is there nothing that firmware would start?
#[must_use]
pub fn is_absent(content: &[u8]) -> bool {
    let is_there = |at: usize, sign: &[u8]| content[at..].starts_with(sign);
    let last = content.len() - SECTOR_BYTES;
    !(is_there(510, &[0x55, 0xaa]) || is_there(512, b"EFI PART") || is_there(last, b"EFI PART"))
}

fn disk(path: &Path, length: usize, label: &str, seed: usize) -> anyhow::Result<Vec<u8>> {
    let bytes: Vec<u8> = vec![0; length];
    fs::write(path, bytes)?;
    partition(path)?;
    let mut mkfs = Command::new("/sbin/mkfs.vfat");
    mkfs.args(["-F", "12", "-n", label, "--offset", &PARTITION.to_string()]).arg(path);
    command::output(mkfs.arg((PARTITION_SECTORS / 2).to_string()))?;
    let mut content = fs::read(path)?;
    ensure!(content.len() == length, "expected {length} bytes, got {}", content.len());
    let pattern = PATTERN.map(|at| (at / 5 * seed % 241) as u8);
    content[PATTERN].copy_from_slice(&pattern.collect::<Vec<u8>>());
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(path, &content)?;
    Ok(content)
}

fn partition(path: &Path) -> anyhow::Result<()> {
    let mut sfdisk = Command::new("/sbin/sfdisk")
        .arg("--quiet")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start sfdisk")?;
    let table = format!("label: gpt\nstart={PARTITION}, size={PARTITION_SECTORS}\n");
    sfdisk.stdin.take().context("expected a pipe")?.write_all(table.as_bytes())?;
    let status = sfdisk.wait()?;
    ensure!(status.success(), "sfdisk: {status}");
    Ok(())
}
