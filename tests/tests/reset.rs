//! A connection that is reset in the middle. QEMU's user network turns a reset into a close, so this
//! machine is in a network with the real thing.

use vmtest::certificate::Presented;
use vmtest::document::{self, Artifact};
use vmtest::image::Image;
use vmtest::lab::{self, Dhcp, GUEST, GUEST_NAME, HOST};
use vmtest::machine::{Card, Machine};
use vmtest::server::{EpoxyHost, Fault, Times};
use vmtest::vm::Vm;

const MEMORY_MIB: u32 = 256;
const PAYLOAD: &str = "/payload";
const DOCUMENT: &str = "/stage2to3.json";

#[test]
fn a_transfer_that_is_reset_is_fetched_on_from_there() -> anyhow::Result<()> {
    lab::run("reset::a_transfer_that_is_reset_is_fetched_on_from_there", Dhcp::Off, |lab| {
        let image = Image::under_test()?;
        let server = lab.server(&image.authority, Presented::Good)?;
        let stage2 = server.https_url(DOCUMENT);
        server.add_host(EpoxyHost { name: GUEST_NAME.to_owned(), stage2, ..EpoxyHost::default() });
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| (number >> 3) as u8).collect();
        server.serve(PAYLOAD, bytes.clone());
        let payload = Artifact::of_bytes(&server.https_url(PAYLOAD), &bytes);
        server.serve(DOCUMENT, document::commands(&[("payload", &payload)], &[]));
        server.fault(PAYLOAD, Fault::ResetAfter(500_000), Times::First(1));

        let action = server.https_url(&format!("/v1/boot/{GUEST_NAME}/session/stage2"));
        let network = format!("{GUEST}::{HOST}:255.255.255.0:{GUEST_NAME}:eth0:off:{HOST}:");
        let cmdline = format!("net.ifnames=0 epoxy.ip={network} epoxy.stage2={action}");
        let machine = Machine::new(MEMORY_MIB)
            .with_kernel(&image.vmlinuz, None, &cmdline)
            .with_card(Card::new("virtio-net-pci").on(lab.wire()));
        let mut vm = Vm::start(&machine)?.asking(&server);
        vm.expect(&format!("payload: cannot GET {}: connection broke after ", payload.url))?;
        vm.expect(" of 1000000 bytes: Connection reset by peer (os error 104); next try in 1s")?;
        vm.expect("payload: going on after ")?;
        vm.expect(", sha256 verified")?;
        vm.expect("Result: success")?;
        let requests = server.requests_for(PAYLOAD);
        let ranges: Vec<_> = requests.iter().map(|request| request.header("range")).collect();
        assert!(matches!(ranges[..], [None, Some(_)]), "{ranges:?}");
        Ok(())
    })
}
