//! A real flash driver below the flasher: QEMU's parallel flash, the kernel's MTD partitions, and
//! libflashrom's `linux_mtd`, all as packed into an image.

use std::fs;

use agent_types::rom::OptionRom;
use vmtest::flash::{CARD, Chip, DONE, OPROM, ROM};
use vmtest::image::Image;

fn write(options: &str) -> String {
    format!("flasher write --json --rom /new.rom --pci-id {CARD} {options}; echo write=$?\n")
}

#[test]
fn a_partition_of_the_kernel_is_written_and_nothing_beside_it() -> anyhow::Result<()> {
    let (image, chip) = (Image::with_flasher_under_test()?, Chip::new()?);
    let twice = write("--card mtd:1").repeat(2);
    let commands = format!(
        "flasher list\n{twice}\
         flasher verify --card mtd:1 --rom /new.rom; echo verify=$?\n\
         flashrom -p linux_mtd:dev=1 -r /read; cmp -n $(wc -c < /new.rom) /read /new.rom; echo cmp=$?\n"
    );
    let mut vm = chip.boot(&image.vmlinuz, &commands)?;
    vm.expect_in_order(&[
        "mtd:0  \"config\"  card unknown  256 KiB  not writable: it is read-only",
        "mtd:1  \"oprom\"  card unknown  256 KiB  written by LinuxMtd",
        "mtd:2  \"odd\"  card unknown  384 KiB  not writable: its size is no power of two",
        "\"outcome\":\"programmed\"",
        "write=0",
        "\"outcome\":\"already-programmed\"",
        "write=0",
        "verify=0",
        "cmp=0",
        DONE,
    ])?;
    assert!(chip.content()? == chip.with(&fs::read(ROM)?), "{}", vm.evidence());
    Ok(())
}

#[test]
fn what_a_shipped_flasher_must_not_do_it_cannot_be_asked_for() -> anyhow::Result<()> {
    let (image, chip) = (Image::with_flasher_under_test()?, Chip::new()?);
    let commands = "flasher probe --card dummy:bus=spi; echo probe=$?\n\
        flasher write --card internal: --rom /new.rom; echo write=$?\n\
        flasher write --card mtd:0 --rom /new.rom; echo read-only=$?\n\
        flasher write --card devlink:pci/0000:00:02.0 --rom /new.rom; echo devlink=$?\n";
    let mut vm = chip.boot(&image.vmlinuz, commands)?;
    vm.expect_in_order(&[
        "expected auto, pci:ADDRESS, mst:ADDRESS, mtd:NUMBER or devlink:BUS/DEVICE, got \"dummy:bus=spi\"",
        "probe=2",
        "write=2",
        "mtd:0 cannot be written: it is read-only",
        "read-only=3",
        "this kernel has no devlink",
        "devlink=1",
        DONE,
    ])?;
    assert!(chip.content()? == chip.old);
    Ok(())
}

/// The machine loses power when the flasher has said `moment`; the same command at the next boot
/// goes on where it stopped.
fn survives(moment: &str) -> anyhow::Result<()> {
    let (image, chip) = (Image::with_flasher_under_test()?, Chip::new()?);
    let rom = fs::read(ROM)?;
    let command = write("--card mtd:1");
    let mut vm = chip.boot(&image.vmlinuz, &command)?;
    vm.expect(moment)?;
    drop(vm);

    let torn = chip.content()?;
    assert!(torn[..OPROM.start] == chip.old[..OPROM.start]);
    let absent = torn[OPROM.start..][..2] != [0x55, 0xaa];
    assert!(absent || OptionRom::parse_start(&torn[OPROM]).is_ok());

    let mut vm = chip.boot(&image.vmlinuz, &command)?;
    vm.expect_in_order(&["write=0", DONE])?;
    assert!(chip.content()? == chip.with(&rom), "{}", vm.evidence());
    Ok(())
}

#[test]
fn power_is_lost_while_the_header_is_invalidated() -> anyhow::Result<()> {
    survives("\"phase\":\"invalidate-header\"")
}

#[test]
fn power_is_lost_before_the_body_is_written() -> anyhow::Result<()> {
    survives("\"phase\":\"write-body\"}")
}

#[test]
fn power_is_lost_early_in_the_body() -> anyhow::Result<()> {
    survives("\"phase\":\"write-body\",\"done\":40960,")
}

#[test]
fn power_is_lost_late_in_the_body() -> anyhow::Result<()> {
    survives("\"phase\":\"write-body\",\"done\":204800,")
}

#[test]
fn power_is_lost_while_the_header_is_written() -> anyhow::Result<()> {
    survives("\"phase\":\"commit-header\"}")
}

#[test]
fn power_is_lost_while_the_chip_is_read_back() -> anyhow::Result<()> {
    survives("\"phase\":\"read-back\"}")
}
