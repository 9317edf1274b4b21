//! A machine that is told to use DHCP gets its address, its name and its name server from a real
//! server, and finds the boot server by name.

use vmtest::certificate::Presented;
use vmtest::document;
use vmtest::image::Image;
use vmtest::lab::{self, Dhcp, GUEST, HOST};
use vmtest::machine::{Card, Machine};
use vmtest::server::EpoxyHost;
use vmtest::vm::Vm;

const MEMORY_MIB: u32 = 256;

fn boots_by_dhcp(test: &str, network: &str) -> anyhow::Result<()> {
    lab::run(test, Dhcp::On, |lab| {
        let image = Image::under_test()?;
        let server = lab.server(&image.authority, Presented::Good)?;
        server.add_host(EpoxyHost {
            name: lab::GUEST_NAME.to_owned(),
            stage2: server.https_url("/stage2to3.json"),
            ..EpoxyHost::default()
        });
        let greet = "echo $(hostname) at $(ip -4 -o address show dev eth0)";
        server.serve("/stage2to3.json", document::commands(&[], &[&["/bin/sh", "-c", greet]]));
        let stage2 = server.https_url(&format!("/v1/boot/{}/session/stage2", lab::GUEST_NAME));
        let machine = Machine::new(MEMORY_MIB)
            .with_kernel(&image.vmlinuz, None, &format!("{network} epoxy.stage2={stage2}"))
            .with_card(Card::new("virtio-net-pci").on(lab.wire()));
        let mut vm = Vm::start(&machine)?.asking(&server);
        vm.expect(&format!(
            "stage2: eth0: {GUEST}/24 through {HOST}, name servers {HOST}, granted by {HOST} for 120 s"
        ))?;
        vm.expect(&format!("{} at ", lab::GUEST_NAME))?;
        vm.expect("Result: success")?;
        let source = server.requests_for("/stage2to3.json")[0].source.ip();
        assert_eq!(source.to_string(), GUEST);
        Ok(())
    })
}

#[test]
fn the_autoconf_field_asks_for_dhcp() -> anyhow::Result<()> {
    boots_by_dhcp("dhcp::the_autoconf_field_asks_for_dhcp", "epoxy.ip=:::::eth0:dhcp")
}

#[test]
fn an_empty_address_asks_for_dhcp() -> anyhow::Result<()> {
    boots_by_dhcp("dhcp::an_empty_address_asks_for_dhcp", "epoxy.ip=:::::eth0:off")
}

#[test]
fn without_an_answer_the_machine_says_so() -> anyhow::Result<()> {
    lab::run("dhcp::without_an_answer_the_machine_says_so", Dhcp::Off, |lab| {
        let image = Image::under_test()?;
        let machine = Machine::new(MEMORY_MIB)
            .with_kernel(&image.vmlinuz, None, "epoxy.ip=dhcp epoxy.stage2=https://boot.lab.test/")
            .with_card(Card::new("virtio-net-pci").on(lab.wire()));
        let mut vm = Vm::start(&machine)?;
        vm.expect("no DHCP server answers on eth0 after")?;
        Ok(())
    })
}

#[test]
fn without_anything_to_boot_the_operator_gets_a_shell_while_the_lease_is_kept() -> anyhow::Result<()>
{
    lab::run(
        "dhcp::without_anything_to_boot_the_operator_gets_a_shell_while_the_lease_is_kept",
        Dhcp::On,
        |lab| {
            let image = Image::under_test()?;
            let machine = Machine::new(MEMORY_MIB)
                .with_kernel(&image.vmlinuz, None, "epoxy.ip=dhcp")
                .with_card(Card::new("virtio-net-pci").on(lab.wire()));
            let mut vm = Vm::start(&machine)?;
            vm.expect_in_order(&[
                "renewing the DHCP lease while an operator may need it",
                "the kernel command line asks for no boot: the machine stays in rescue",
                "nobody can log in: starting a shell on the console",
            ])?;
            Ok(())
        },
    )
}
