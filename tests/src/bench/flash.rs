//! Writing a ROM to a simulated chip whose clock counts, ours against Debian's `flashrom`; and what
//! the flasher adds to an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mkinitramfs::image::Image;
use mkinitramfs::kernel::cache::Cache;
use mkinitramfs::spec::ImageSpec;

use super::ramdisk::DATE;
use crate::command;

const CHIP_BYTES: usize = 16 << 20;
const BLOCK_BYTES: usize = 4096;
/// 1 MB in a second, the fastest that it simulates: a whole read takes 17 s.
const CHIP: &str = "dummy:bus=spi,emulate=W25Q128FV,freq=8MHz";
const WHOLE_CHIP: &str = "0:ffffff";
const ROM: &str = "/usr/lib/ipxe/qemu/pxe-e1000e.rom";
const CARD: &str = "8086:10d3";

/// A simulated chip, two ROMs that fill it, and what writes them.
pub struct Flash {
    directory: tempfile::TempDir,
    flasher: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
}

/// Who works on the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// We write a ROM of which one block in twenty is new.
    OurWrite,
    /// Debian's `flashrom -w` writes it.
    TheirWrite,
    /// We write what is there already.
    OurIdentical,
    /// Debian's `flashrom -r`.
    TheirRead,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::OurWrite, Self::TheirWrite, Self::OurIdentical, Self::TheirRead];
}

impl Flash {
    /// Gets everything ready; `flasher` was built with the feature `dummy`.
    pub fn prepare(flasher: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in("/dev/shm")?;
        let old = whole_chip_rom()?;
        let new = with_changes(&old);
        fs::write(directory.path().join("new.rom"), &new)?;
        fs::write(directory.path().join("old.rom"), &old)?;
        Ok(Self { directory, flasher: flasher.to_owned(), old, new })
    }

    /// How many seconds the job takes; the chip holds what it should afterwards.
    pub fn seconds(&self, job: Job) -> anyhow::Result<f64> {
        let (old, new) = (&self.old, &self.new);
        let (took, expected) = match job {
            Job::OurWrite => (self.timed(old, &mut self.our_write("new.rom"))?, new),
            Job::TheirWrite => (self.timed(old, &mut self.flashrom("-w", "new.rom"))?, new),
            Job::OurIdentical => (self.timed(old, &mut self.our_write("old.rom"))?, old),
            Job::TheirRead => (self.timed(old, &mut self.flashrom("-r", "read"))?, old),
        };
        ensure!(fs::read(self.path("chip"))? == *expected, "{job:?} left another content");
        Ok(took.as_secs_f64())
    }

    fn timed(&self, before: &[u8], command: &mut Command) -> anyhow::Result<Duration> {
        fs::write(self.path("chip"), before)?;
        let start = Instant::now();
        command::output(command)?;
        Ok(start.elapsed())
    }

    fn our_write(&self, rom: &str) -> Command {
        let mut command = Command::new(&self.flasher);
        command.arg("--state-dir").arg(self.path("state"));
        command.args(["write", "--json", "--pci-id", CARD, "--region", WHOLE_CHIP]);
        command.args(["--card", &self.chip(), "--rom"]).arg(self.path(rom));
        command
    }

    fn flashrom(&self, job: &str, file: &str) -> Command {
        let mut command = Command::new("/usr/sbin/flashrom");
        command.args(["-p", &self.chip(), job]).arg(self.path(file));
        command
    }

    fn chip(&self) -> String {
        format!("{CHIP},image={}", self.path("chip").display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// How many bytes `flasher` and its libraries add to a compressed image.
pub fn added_bytes(agent: &Path, flasher: &Path) -> anyhow::Result<usize> {
    let plain = ImageSpec::default();
    let with = ImageSpec { flasher: Some(flasher.to_owned()), ..ImageSpec::default() };
    let packed = |spec: &ImageSpec| -> anyhow::Result<usize> {
        let image = Image::collect(spec, agent, DATE)?;
        Ok(image.initramfs(spec.compression, DATE, &Cache::from_environment())?.len())
    };
    Ok(packed(&with)? - packed(&plain)?)
}

/// A ROM that fills the chip: a BIOS image, and a payload that nobody looks into.
fn whole_chip_rom() -> anyhow::Result<Vec<u8>> {
    let mut rom = fs::read(ROM).with_context(|| format!("cannot read {ROM}"))?;
    let (bios_bytes, pcir) = (rom.len(), 0x1c);
    // Another image follows, and the bytes of the first sum to zero again.
    rom[pcir + 21] = 0;
    let sum = rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    rom[6] = rom[6].wrapping_sub(sum);
    rom.extend((bios_bytes..CHIP_BYTES).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 13) as u8));
    let payload = &mut rom[bios_bytes..];
    let blocks = u16::try_from(payload.len() / 512)?;
    payload[..2].copy_from_slice(&[0x55, 0xaa]);
    payload[0x18..0x1a].copy_from_slice(&[0x1c, 0]);
    let mut structure = *b"PCIR\x86\x80\xd3\x10\0\0\x18\0\0\0\0\x02\0\0\0\0\xff\x80\0\0";
    structure[16..18].copy_from_slice(&blocks.to_le_bytes());
    payload[0x1c..0x1c + structure.len()].copy_from_slice(&structure);
    Ok(rom)
}

/// One block in twenty gets other bytes.
fn with_changes(rom: &[u8]) -> Vec<u8> {
    let mut changed = rom.to_vec();
    for block in changed.chunks_mut(BLOCK_BYTES).skip(40).step_by(20) {
        block.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    }
    changed
}
