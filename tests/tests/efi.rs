//! EFI firmware takes the image for one of its own programs: from a disk, from the network, and from
//! iPXE. The way on into the next kernel is another one than after a BIOS too.

use std::fs;
use std::path::PathBuf;

use vmtest::chain::{Chain, Stage3};
use vmtest::document::InitrdForm;
use vmtest::image::Image;
use vmtest::machine::{Card, Firmware, Machine, UserNetwork, Wire};
use vmtest::scenario::{DOCUMENT, Scenario};
use vmtest::stage3::minimal;
use vmtest::vm::Vm;

/// The firmware itself wants some of it.
const MEMORY_MIB: u32 = 512;

/// Where firmware looks on a medium that it does not know: UEFI 2.10, section 3.5.1.1.
pub(crate) const ON_A_DISK: &str = "EFI/BOOT/BOOTX64.EFI";

const CONSOLES: &str = "console=tty0 console=ttyS0,115200n8";

/// What the firmware starts, and where it is, for machines of this scenario.
pub(crate) struct Medium {
    pub(crate) directory: tempfile::TempDir,
    program: PathBuf,
}

/// The firmware of a machine passes no command line, so the image has to bring it.
pub(crate) fn medium(scenario: &Scenario, place: &str) -> anyhow::Result<Medium> {
    let directory = tempfile::tempdir()?;
    let program = directory.path().join(place);
    let packed = tempfile::tempdir()?;
    let cmdline = format!("{CONSOLES} {}", scenario.cmdline());
    let image = scenario.image.with_cmdline(&cmdline, packed.path())?;
    fs::create_dir_all(program.parent().unwrap_or(&program))?;
    fs::copy(image, &program)?;
    Ok(Medium { directory, program })
}

/// The firmware's own lines end in our image, which asks the server and enters Debian's kernel.
fn expect_boot(scenario: &Scenario, vm: &mut Vm, firmware: &[&str]) -> anyhow::Result<()> {
    vm.expect_in_order(firmware)?;
    vm.expect_in_order(&[
        "efi: EFI v2.",
        "Run /init as init process",
        "stage2: eth0: 192.168.0.2/24 through 192.168.0.1",
        "entering the loaded kernel",
        "Linux version 6.1.",
        "efi: EFI v2.",
        minimal::GREETING,
    ])?;
    let asked = scenario.server.log().requests();
    let paths: Vec<_> = asked.iter().map(|request| request.path.as_str()).take(2).collect();
    assert_eq!(paths, [scenario.route("stage2").as_str(), DOCUMENT]);
    Ok(())
}

#[test]
fn firmware_boots_the_image_from_a_disk() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document_into_minimal_stage3("console=ttyS0", InitrdForm::OneWord)?;
    let disk = medium(&scenario, ON_A_DISK)?;
    let machine = Machine {
        firmware: Firmware::Efi,
        disk: Some(disk.directory.path().to_owned()),
        ..Machine::new(MEMORY_MIB).with_card(Card::new("virtio-net-pci"))
    };
    let mut vm = scenario.start(&machine)?;
    expect_boot(&scenario, &mut vm, &["BdsDxe: starting Boot"])
}

#[test]
fn firmware_boots_the_image_from_the_network() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document_into_minimal_stage3("console=ttyS0", InitrdForm::OneWord)?;
    let tftp = medium(&scenario, "stage2.efi")?;
    let user = UserNetwork {
        tftp: tftp.program.parent().map(Into::into),
        bootfile: Some("stage2.efi".to_owned()),
        ..UserNetwork::default()
    };
    let card = Card::new("virtio-net-pci").on(Wire::User(user));
    let machine = Machine { firmware: Firmware::Efi, ..Machine::new(MEMORY_MIB).with_card(card) };
    let mut vm = scenario.start(&machine)?;
    expect_boot(&scenario, &mut vm, &["NBP file downloaded successfully.", "UEFI PXEv4"])
}

#[test]
fn ipxe_in_the_cards_rom_boots_the_image_under_efi() -> anyhow::Result<()> {
    let chain = Chain::prepare(Image::under_test()?, Stage3::Minimal, &|line| eprintln!("{line}"))?;
    let machine =
        Machine { firmware: Firmware::Efi, ..chain.machine("virtio-net-pci", MEMORY_MIB) };
    let mut vm = Vm::start(&machine)?.asking(&chain.server);
    vm.expect_in_order(&[
        "Features: DNS HTTP iSCSI NFS TFTP AoE EFI Menu",
        "Booting stage2",
        "efi: EFI v2.",
        "entering the loaded kernel",
        "Linux version 6.1.",
        minimal::GREETING,
    ])?;
    chain.stage2_was_fetched_by_ipxe()
}
