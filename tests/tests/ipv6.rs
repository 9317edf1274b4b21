//! A machine with an IPv6 address of its own boots from a server that has nothing else, and lets its
//! operator in there.

use std::net::{Ipv6Addr, SocketAddr};

use vmtest::certificate::Presented;
use vmtest::document;
use vmtest::lab::{self, Dhcp, HOST_IPV6, HOST_IPV6_NAME};
use vmtest::machine::{Card, Machine};
use vmtest::vm::Vm;

use crate::rescue::Rescue;

const MEMORY_MIB: u32 = 256;
const GUEST: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x77);

/// The server is known by this name, or by its address.
fn boots_over_ipv6_from(known_as: &str, test: &str) -> anyhow::Result<()> {
    lab::run(test, Dhcp::Off, |lab| {
        let rescue = Rescue::shared()?;
        let (image, operator) = (&rescue.image, &rescue.operator);
        let server = lab.server_at(HOST_IPV6, known_as, &image.authority, Presented::Good)?;
        server.serve("/greet.json", document::commands(&[], &[&["/bin/echo", "hello"]]));
        let cmdline = format!(
            "epoxy.ipv6={GUEST}/64,{HOST_IPV6},{HOST_IPV6} epoxy.stage2={}",
            server.https_url("/greet.json")
        );
        let machine = Machine::new(MEMORY_MIB)
            .with_kernel(&image.vmlinuz, None, &cmdline)
            .with_card(Card::new("virtio-net-pci").on(lab.wire()));
        let mut vm = Vm::start(&machine)?.asking(&server);
        vm.expect("Result: success")?;
        assert_eq!(server.requests_for("/greet.json")[0].source.ip(), GUEST);
        let access = operator.trust(SocketAddr::from((GUEST, 22)))?;
        let from = access.ask("echo $SSH_CONNECTION")?;
        assert!(from.starts_with(&format!("{HOST_IPV6} ")), "{from}");
        Ok(())
    })
}

#[test]
fn the_server_is_found_by_a_name_that_has_an_ipv6_address_only() -> anyhow::Result<()> {
    let test = "ipv6::the_server_is_found_by_a_name_that_has_an_ipv6_address_only";
    boots_over_ipv6_from(HOST_IPV6_NAME, test)
}

#[test]
fn the_server_is_named_by_its_ipv6_address() -> anyhow::Result<()> {
    boots_over_ipv6_from(HOST_IPV6, "ipv6::the_server_is_named_by_its_ipv6_address")
}
