//! The Debian that stage2 boots, on its own: what the demo and the other tests stand on.

use vmtest::machine::{Card, Machine};
use vmtest::stage3::Debian;
use vmtest::vm::Vm;

const CMDLINE: &str = "console=ttyS0 net.ifnames=0 \
    epoxy.ip=192.168.0.2::192.168.0.1:255.255.255.0:demo.stage2.test:eth0::192.168.0.3:";

#[test]
fn debian_configures_its_network_from_the_command_line_and_comes_to_its_login_prompt()
-> anyhow::Result<()> {
    let debian = Debian::prepare(&|line| eprintln!("{line}"))?;
    let machine = Machine::new(768)
        .with_kernel(&debian.kernel, Some(&debian.initramfs), CMDLINE)
        .with_card(Card::new("virtio-net-pci"));
    let mut vm = Vm::start(&machine)?;
    let found = vm.expect_in_order(&[
        "Linux version 6.1",
        "epoxy-network: eth0 has 192.168.0.2/24",
        "demo login:",
    ])?;
    eprintln!("{found:#?}");
    Ok(())
}
