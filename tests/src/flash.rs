//! A flash chip with a ROM on it: QEMU's parallel flash below the firmware, of which the kernel
//! makes MTD partitions. What is written to it stays when the machine loses power.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mkinitramfs::cpio;
use mkinitramfs::tree::Tree;

use crate::document::sha256;
use crate::machine::Machine;
use crate::vm::Vm;

/// The ROM that is written: a BIOS and an EFI image for [`CARD`].
pub const ROM: &str = "/usr/lib/ipxe/qemu/efi-e1000e.rom";

/// The card that the ROM is for.
pub const CARD: &str = "8086:10d3";

/// The only writable partition of [`PARTITIONS`]: bytes of the chip.
pub const OPROM: std::ops::Range<usize> = 256 * 1024..512 * 1024;

/// The chip's partitions, a kernel parameter: one is for the ROM, one has a size that flashrom does
/// not take, the others must not be written.
pub const PARTITIONS: &str =
    "mtdparts=physmap-flash.0:256k(config)ro,256k(oprom),384k(odd),-(rest)ro";

const FIRMWARE: &str = "/usr/share/seabios/bios-256k.bin";
const CHIP_BYTES: usize = 1 << 20;
const ERASE_BLOCK_BYTES: usize = 4096;
const MEMORY_MIB: u32 = 256;

/// Said when the commands of [`Chip::machine`] have ended.
pub const DONE: &str = "all commands have ended";

/// In place of the agent: runs the commands that the test put into the ramdisk.
const INIT: &str = "\
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
sh /commands 2>&1
echo all commands have ended
poweroff -f
";

/// The card that [`VIRTIO_ROM`] is for, as QEMU knows it; its ids are those of [`VIRTIO_ID`].
pub const VIRTIO: &str = "virtio-net-pci,disable-legacy=on";

/// The ids of [`VIRTIO`].
pub const VIRTIO_ID: &str = "1af4:1041";

/// A ROM for [`VIRTIO`], a BIOS and an EFI image.
pub const VIRTIO_ROM: &str = "/usr/lib/ipxe/qemu/efi-virtio.rom";

/// A flash chip, on files that only this test knows.
pub struct Chip {
    directory: tempfile::TempDir,
    stuck: bool,
    /// What it held at first: nothing repeats, so that a byte in the wrong place shows.
    pub old: Vec<u8>,
}

impl Chip {
    /// A chip without a ROM.
    pub fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let old: Vec<u8> = (0..CHIP_BYTES).map(|at| (at / 5 % 241) as u8).collect();
        fs::write(directory.path().join("flash"), &old)?;
        fs::copy(FIRMWARE, directory.path().join("firmware"))
            .with_context(|| format!("cannot copy {FIRMWARE}"))?;
        Ok(Self { directory, stuck: false, old })
    }

    /// A chip that holds `rom` already.
    pub fn holding(rom: &[u8]) -> anyhow::Result<Self> {
        let mut chip = Self::new()?;
        chip.old = chip.with(rom);
        fs::write(chip.path("flash"), &chip.old)?;
        Ok(chip)
    }

    /// The same, which begins an erase and never ends it.
    #[must_use]
    pub fn stuck(self) -> Self {
        Self { stuck: true, ..self }
    }

    /// What it holds now.
    pub fn content(&self) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(self.path("flash"))?)
    }

    /// What it holds when `rom` was written to [`OPROM`], and nothing beside it.
    #[must_use]
    pub fn with(&self, rom: &[u8]) -> Vec<u8> {
        let mut content = self.old.clone();
        let end = OPROM.start + rom.len().next_multiple_of(ERASE_BLOCK_BYTES);
        content[OPROM.start..end].fill(0xff);
        content[OPROM.start..OPROM.start + rom.len()].copy_from_slice(rom);
        content
    }

    /// The machine with this chip in it.
    #[must_use]
    pub fn plugged_into(&self, mut machine: Machine) -> Machine {
        let drive = |unit: u8, more: &str, name: &str| {
            let path = self.path(name);
            format!("if=pflash,unit={unit},format=raw{more},file={}", path.display())
        };
        let stuck = if self.stuck { ",readonly=on" } else { "" };
        let arguments =
            ["-drive", &drive(0, ",readonly=on", "firmware"), "-drive", &drive(1, stuck, "flash")];
        machine.extra.extend(arguments.map(OsString::from));
        machine
    }

    /// Boots `kernel` with this chip; in place of the agent a shell runs `commands`, for which
    /// [`ROM`] is at `/new.rom`.
    pub fn machine(&self, kernel: &Path, commands: &str) -> anyhow::Result<Machine> {
        let mut tree = Tree::default();
        tree.file("/commands-init", 0o755, INIT)?;
        tree.file("/commands", 0o644, commands)?;
        tree.file("/new.rom", 0o644, fs::read(ROM).with_context(|| format!("cannot read {ROM}"))?)?;
        let initramfs = self.path("initramfs");
        fs::write(&initramfs, cpio::archive(&tree, 0)?)?;
        let cmdline = format!("quiet panic=-1 rdinit=/commands-init {PARTITIONS}");
        let machine = Machine::new(MEMORY_MIB).with_kernel(kernel, Some(&initramfs), &cmdline);
        Ok(self.plugged_into(machine))
    }

    /// Starts that machine.
    pub fn boot(&self, kernel: &Path, commands: &str) -> anyhow::Result<Vm> {
        Vm::start(&self.machine(kernel, commands)?)
    }

    /// Debian's `flashrom` reads from the chip what this process reads from its file.
    pub fn is_what_flashrom_reads(&self, kernel: &Path) -> anyhow::Result<()> {
        let commands = "flashrom -p linux_mtd:dev=1 -r /read; sha256sum /read\n";
        let mut vm = self.boot(kernel, commands)?;
        let expected = sha256(&self.content()?[OPROM]);
        vm.expect_in_order(&[&format!("{expected}  /read"), DONE])?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
