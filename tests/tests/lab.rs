//! The lab network: what tests of DHCP stand on.

use vmtest::certificate::{Authority, Presented};
use vmtest::lab::{self, Dhcp};
use vmtest::machine::{Card, Machine};
use vmtest::server::EpoxyHost;
use vmtest::vm::Vm;

#[test]
fn ipxe_gets_its_address_from_dnsmasq_and_finds_the_boot_server_by_name() -> anyhow::Result<()> {
    let test = "lab::ipxe_gets_its_address_from_dnsmasq_and_finds_the_boot_server_by_name";
    lab::run(test, Dhcp::On, |lab| {
        let server = lab.server(&Authority::new()?, Presented::Good)?;
        server.add_host(EpoxyHost { name: lab::GUEST_NAME.to_owned(), ..EpoxyHost::default() });
        server.serve("/hello.ipxe", "#!ipxe\necho I am ${hostname} at ${ip}\nshell\n");
        lab.offer_bootfile(&server.http_url("/hello.ipxe"))?;
        let card = Card::new("virtio-net-pci").with_ipxe().on(lab.wire());
        let mut vm = Vm::start(&Machine::new(128).with_card(card))?.asking(&server);
        vm.expect(&format!("I am {} at {}", lab::GUEST_NAME, lab::GUEST))?;
        lab.journal.expect("DHCPACK(br0) 192.168.0.77 52:54:00:73:74:32 mlab1")?;
        assert!(lab.leases()?.contains(lab::GUEST));
        Ok(())
    })
}
