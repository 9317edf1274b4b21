//! A machine boots from its network card's iPXE ROM into stage2, and on into Debian's kernel.

use vmtest::chain::{Chain, Stage3};
use vmtest::image::Image;
use vmtest::machine::{Chipset, Machine};
use vmtest::stage3::minimal;
use vmtest::vm::Vm;

const MEMORY_MIB: u32 = 512;

fn boots_from(model: &str, chipset: Chipset) -> anyhow::Result<()> {
    let chain = Chain::prepare(Image::under_test()?, Stage3::Minimal, &|line| eprintln!("{line}"))?;
    let machine = Machine { chipset, ..chain.machine(model, MEMORY_MIB) };
    let mut vm = Vm::start(&machine)?.asking(&chain.server);
    vm.expect_in_order(&[
        "iPXE initialising devices",
        "Booting stage2",
        "Linux version 6.12",
        "entering the loaded kernel",
        "Linux version 6.1.",
        minimal::GREETING,
    ])?;
    chain.stage2_was_fetched_by_ipxe()
}

#[test]
fn virtio_net_boots_from_its_rom() -> anyhow::Result<()> {
    boots_from("virtio-net-pci", Chipset::Q35)
}

#[test]
fn e1000_on_an_old_chipset_boots_from_its_rom() -> anyhow::Result<()> {
    boots_from("e1000", Chipset::I440fx)
}

#[test]
fn e1000e_boots_from_its_rom() -> anyhow::Result<()> {
    boots_from("e1000e", Chipset::Q35)
}
