//! A machine boots from its network card's iPXE ROM into what the boot server says.

use std::fs;

use vmtest::certificate::{Authority, Presented};
use vmtest::document;
use vmtest::machine::{Card, Chipset, Machine, UserNetwork, Wire};
use vmtest::server::{BootServer, EpoxyHost};
use vmtest::stage3::Debian;
use vmtest::vm::Vm;

fn debian_by_ipxe(model: &str, chipset: Chipset) -> anyhow::Result<()> {
    let debian = Debian::prepare(&|line| eprintln!("{line}"))?;
    let server = BootServer::for_user_network(&Authority::new()?, Presented::Good)?;
    server.serve("/vmlinuz", debian.kernel);
    let script = document::stage1to2_ipxe("/vmlinuz", "sandbox", "console=ttyS0");
    server.serve("/stage1to2.ipxe", script);
    server.add_host(EpoxyHost {
        name: "demo.stage2.test".to_owned(),
        stage1_ipxe: server.http_url("/stage1to2.ipxe"),
        ..EpoxyHost::default()
    });
    let tftp = tempfile::tempdir()?;
    let stage1 = server.http_url("/v1/boot/demo.stage2.test/stage1.ipxe");
    fs::write(tftp.path().join("rom.ipxe"), document::rom_script(&stage1))?;
    let user =
        UserNetwork { tftp: Some(tftp.path().to_owned()), bootfile: Some("rom.ipxe".to_owned()) };
    let card = Card::new(model).with_ipxe().on(Wire::User(user));
    let machine = Machine { chipset, ..Machine::new(512).with_card(card) };
    let mut vm = Vm::start(&machine)?.asking(&server);
    let found =
        vm.expect_in_order(&["iPXE", "Downloading stage2", "Linux version 6.1", "Command line"])?;
    eprintln!(
        "{found:#?}\n{}\n{:#?}",
        server.log(),
        server.requests_for("/v1/boot/demo.stage2.test/stage1.ipxe")
    );
    eprintln!("{}", vm.evidence());
    Ok(())
}

#[test]
fn virtio() -> anyhow::Result<()> {
    debian_by_ipxe("virtio-net-pci", Chipset::Q35)
}
#[test]
fn e1000() -> anyhow::Result<()> {
    debian_by_ipxe("e1000", Chipset::I440fx)
}
#[test]
fn e1000e() -> anyhow::Result<()> {
    debian_by_ipxe("e1000e", Chipset::Q35)
}
