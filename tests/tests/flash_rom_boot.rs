//! What the flasher leaves on a chip, as the ROM of a card: firmware runs it if it is whole, and a
//! machine whose flasher lost power starts without it.

use std::fs;
use std::path::PathBuf;

use vmtest::chain::{Chain, Stage3};
use vmtest::flash::{CARD, Chip, DONE, OPROM, ROM};
use vmtest::image::Image;
use vmtest::machine::{Card, Firmware, Machine};
use vmtest::scenario::Scenario;
use vmtest::vm::Vm;

use crate::efi::{ON_A_DISK, medium};

/// An earlier ROM for the same card: the BIOS image alone.
const OLD_ROM: &str = "/usr/lib/ipxe/qemu/pxe-e1000e.rom";
const MODEL: &str = "e1000e";
const MEMORY_MIB: u32 = 512;

/// iPXE in a BIOS says this when the firmware initializes the card, whatever is booted then.
const BANNER: &str = "iPXE (http://ipxe.org)";

/// The ROM's part of a chip, as a file that QEMU takes for a card's ROM.
struct Flashed {
    directory: tempfile::TempDir,
}

impl Flashed {
    /// A chip with an old ROM, after the flasher was told to write a new one: until it says `end`,
    /// when the machine loses power.
    fn upto(end: &str) -> anyhow::Result<Self> {
        let image = Image::with_flasher_under_test()?;
        let chip = Chip::holding(&fs::read(OLD_ROM)?)?;
        let write = format!("flasher write --json --card mtd:1 --rom /new.rom --pci-id {CARD}\n");
        chip.boot(&image.vmlinuz, &write)?.expect(end)?;
        Self::of(&chip.content()?[OPROM])
    }

    fn of(rom: &[u8]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("rom"), rom)?;
        Ok(Self { directory })
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("rom")
    }

    fn content(&self) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(self.file())?)
    }

    fn card(&self) -> Card {
        Card::new(MODEL).with_rom(&self.file())
    }

    /// The whole way: this ROM, from the boot server stage2, and its init.
    fn boots_stage2(&self, firmware: Firmware, words: &[&str]) -> anyhow::Result<()> {
        let chain =
            Chain::prepare(Image::under_test()?, Stage3::Minimal, &|line| eprintln!("{line}"))?;
        let machine = Machine { firmware, ..chain.machine_with(self.card(), MEMORY_MIB) };
        let mut vm = Vm::start(&machine)?.asking(&chain.server);
        vm.expect_in_order(words)?;
        vm.expect_in_order(&["Booting stage2", "Run /init as init process"])?;
        chain.stage2_was_fetched_by_ipxe()
    }

    /// A BIOS passes the ROM over and goes on to a kernel.
    fn is_passed_over_by_a_bios(&self) -> anyhow::Result<()> {
        let machine = Machine::new(MEMORY_MIB)
            .with_kernel(&Image::under_test()?.vmlinuz, None, "console=ttyS0")
            .with_card(self.card());
        let mut vm = Vm::start(&machine)?;
        vm.expect("Run /init as init process")?;
        vm.has_no("iPXE")
    }
}

/// A power loss in the middle of the body.
fn torn() -> anyhow::Result<Flashed> {
    let torn = Flashed::upto("\"phase\":\"write-body\",\"done\":40960,")?;
    let (content, new) = (torn.content()?, fs::read(ROM)?);
    assert_ne!(content[..2], [0x55, 0xaa], "the header is absent");
    let first = new.len() - 4096;
    assert!(content[first..new.len()] != new[first..], "the body is not complete");
    Ok(torn)
}

#[test]
fn a_bios_boots_from_what_was_written() -> anyhow::Result<()> {
    let written = Flashed::upto(DONE)?;
    assert!(written.content()?.starts_with(&fs::read(ROM)?));
    written.boots_stage2(Firmware::Bios, &[BANNER, "iPXE initialising devices"])
}

#[test]
fn efi_firmware_boots_from_what_was_written() -> anyhow::Result<()> {
    let words = ["Features: DNS HTTP iSCSI NFS TFTP AoE EFI Menu"];
    Flashed::upto(DONE)?.boots_stage2(Firmware::Efi, &words)
}

#[test]
fn a_bios_passes_over_what_a_loss_of_power_left() -> anyhow::Result<()> {
    torn()?.is_passed_over_by_a_bios()
}

#[test]
fn efi_firmware_passes_over_what_a_loss_of_power_left() -> anyhow::Result<()> {
    let (torn, scenario) = (torn()?, Scenario::new()?);
    let disk = medium(&scenario, ON_A_DISK)?;
    let machine = Machine {
        firmware: Firmware::Efi,
        disk: Some(disk.directory.path().to_owned()),
        ..Machine::new(MEMORY_MIB).with_card(torn.card())
    };
    let mut vm = scenario.start(&machine)?;
    vm.expect_in_order(&["BdsDxe: starting Boot", "efi: EFI v2.", "Run /init as init process"])?;
    vm.has_no("iPXE")
}

#[test]
fn a_bios_passes_over_a_header_of_which_the_first_bytes_were_written() -> anyhow::Result<()> {
    let mut rom = fs::read(ROM)?;
    rom[64..256].fill(0xff);
    Flashed::of(&rom)?.is_passed_over_by_a_bios()
}

/// EFI firmware does not look at the ids: there only the flasher's own check keeps such a ROM away.
#[test]
fn a_bios_passes_over_a_rom_for_another_card() -> anyhow::Result<()> {
    Flashed::of(&for_another_card(fs::read(OLD_ROM)?))?.is_passed_over_by_a_bios()
}

/// The same ROM with another device's id in its header and its list, and the checksum mended.
fn for_another_card(mut rom: Vec<u8>) -> Vec<u8> {
    const ID: [u8; 2] = [0xd3, 0x10];
    let pcir = usize::from(u16::from_le_bytes([rom[0x18], rom[0x19]]));
    let list = pcir + usize::from(u16::from_le_bytes([rom[pcir + 8], rom[pcir + 9]]));
    for at in [pcir + 6, list] {
        assert_eq!(rom[at..at + 2], ID);
        rom[at..at + 2].copy_from_slice(&[0x33, 0x15]);
    }
    let init_bytes = usize::from(rom[2]) * 512;
    let sum = rom[..init_bytes].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    // Where iPXE keeps the byte that makes the sum 0.
    rom[6] = rom[6].wrapping_sub(sum);
    rom
}
