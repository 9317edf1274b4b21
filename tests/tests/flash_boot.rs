//! ROMs are written as a part of booting: by a command of a boot document, and by ePoxy's update,
//! from the card's iPXE to the chip.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so")]

use std::fs;
use std::time::Duration;

use agent_types::flash_report::REPORTS_VARIABLE;
use serde_json::Value;
use vmtest::chain::{Chain, HOST, ROMS, Stage3};
use vmtest::document::{self, Artifact, sha256};
use vmtest::flash::{Chip, OPROM, PARTITIONS, VIRTIO, VIRTIO_ID, VIRTIO_ROM};
use vmtest::image::Image;
use vmtest::machine::{Card, Machine};
use vmtest::scenario::{DOCUMENT, Scenario};
use vmtest::server::BootServer;
use vmtest::stage3::Debian;
use vmtest::vm::Vm;

const WRITE: &[&str] =
    &["/sbin/flasher", "write", "--card", "auto", "--rom", "{{.files.rom.name}}"];
const MEMORY_MIB: u32 = 512;
const RESTART: Duration = Duration::from_secs(60);

pub(crate) fn machine(scenario: &Scenario, chip: &Chip, more: &str) -> Machine {
    let cmdline = format!("{} {more}", scenario.cmdline());
    let machine = Machine::new(MEMORY_MIB)
        .with_kernel(&scenario.image.vmlinuz, None, &cmdline)
        .with_card(Card::new(VIRTIO));
    chip.plugged_into(machine)
}

/// The only report so far, and what the flasher told of the card.
pub(crate) fn report(server: &BootServer) -> (String, Value) {
    let reports = server.reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let (_, flash) = reports[0].debug_config.rsplit_once("\n{\n  \"flash\"").expect("a report");
    let flash: Value = serde_json::from_str(&format!("{{\"flash\"{flash}")).unwrap();
    (reports[0].message.clone(), flash["flash"][0].clone())
}

fn is_told_in_full(flash: &Value, rom: &[u8]) {
    assert_eq!(flash["outcome"], "programmed", "{flash:#}");
    assert_eq!(flash["pci_id"], VIRTIO_ID, "{flash:#}");
    assert_eq!(flash["rom"]["sha256"], sha256(rom), "{flash:#}");
    assert_eq!(flash["rom"]["version"], "1.0.0+git-20190125.36a4c85-5.1", "{flash:#}");
    assert_eq!(flash["previous"], Value::Null, "{flash:#}");
    assert_eq!(flash["backup"]["sha256"].as_str().map(str::len), Some(64), "{flash:#}");
    let phases = flash["phases"].as_array().unwrap();
    assert!(phases.iter().any(|phase| phase["phase"] == "commit-header"), "{flash:#}");
    assert!(phases.iter().all(|phase| phase["millis"].is_u64()), "{flash:#}");
}

#[test]
fn a_boot_document_writes_the_rom_of_the_only_card() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    let rom = fs::read(VIRTIO_ROM)?;
    let expected = chip.with(&rom);
    let files = [
        ("rom", &scenario.artifact("/new.rom", &rom)),
        ("expected", &scenario.artifact("/expected", &expected[OPROM])),
    ];
    // Debian's flashrom is the judge: it fails unless the chip is what we expect.
    let judge: &[&str] =
        &["/usr/sbin/flashrom", "-p", "linux_mtd:dev=1", "-v", "{{.files.expected.name}}"];
    scenario.document(document::commands(&files, &[WRITE, judge]));
    let mut vm = scenario.start(&machine(&scenario, &chip, PARTITIONS))?;
    vm.expect_in_order(&["programmed: the card holds the new image", "VERIFIED", "reported to"])?;
    assert!(chip.content()? == expected, "{}", vm.evidence());
    let (message, flash) = report(&scenario.server);
    assert_eq!(message, "success");
    is_told_in_full(&flash, &rom);
    Ok(())
}

#[test]
fn two_cards_that_could_be_meant_are_both_left_alone() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    let rom = scenario.artifact("/new.rom", &fs::read(VIRTIO_ROM)?);
    scenario.document(document::commands(&[("rom", &rom)], &[WRITE]));
    let two = "mtdparts=physmap-flash.0:256k(config)ro,256k(oprom),512k(oprom)";
    let mut vm = scenario.start(&machine(&scenario, &chip, two))?;
    vm.expect_in_order(&[
        "expected one card that the ROM is for and that can be written, got mtd:1, mtd:2",
        "exit status 3",
    ])?;
    assert!(chip.content()? == chip.old);
    Ok(())
}

#[test]
fn a_card_that_is_degraded_keeps_the_machine_from_restarting_and_from_a_retry_that_was_wished_before()
-> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?.stuck());
    let rom = scenario.artifact("/new.rom", &fs::read(VIRTIO_ROM)?);
    let write = [WRITE, &["--time-limit", "10"]].concat().join(" ");
    let wishes = "stage2 set epoxy.hostname=other; stage2 retry";
    let script = format!("{write}; ended=$?; {wishes}; exit $ended");
    scenario.document(document::commands(&[("rom", &rom)], &[&["/bin/sh", "-c", &script]]));
    let mut vm = scenario.start(&machine(&scenario, &chip, PARTITIONS))?;
    vm.expect_in_order(&[
        "DEGRADED",
        "a network card or a disk needs an operator, and the machine must not restart",
        "reported to",
        "boot attempt: mtd:1: DEGRADED",
    ])?;
    let (message, flash) = report(&scenario.server);
    assert!(message.starts_with("error: mtd:1: DEGRADED: "), "{message}");
    assert_eq!(flash["outcome"], "degraded", "{flash:#}");
    assert!(flash["restore_from"].is_string(), "{flash:#}");
    Ok(())
}

/// Writes the ROM for a shell that does this in the middle.
fn write_and(in_the_middle: &str) -> String {
    let middle = format!("case $line in *'write body …'*) {in_the_middle};; esac");
    format!("{} 2>&1 | while read line; do echo $line; {middle}; done", WRITE.join(" "))
}

#[test]
fn a_flasher_outlives_the_boot_role_that_started_it() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    let rom = fs::read(VIRTIO_ROM)?;
    let artifact = scenario.artifact("/new.rom", &rom);
    let kill_in_the_middle: &[&str] = &["/bin/sh", "-c", &write_and("kill -9 $PPID")];
    scenario.document(document::commands(&[("rom", &artifact)], &[kill_in_the_middle, WRITE]));
    let mut vm = scenario.start(&machine(&scenario, &chip, PARTITIONS))?;
    vm.expect_in_order(&[
        "flasher (process ",
        " goes on: it may be writing to a card",
        "boot role ended with signal 9 (SIGKILL)",
        "already programmed: nothing was written",
        "Result: success",
    ])?;
    assert!(chip.content()? == chip.with(&rom), "{}", vm.evidence());
    Ok(())
}

#[test]
fn a_restart_that_is_asked_for_in_the_middle_of_a_write_is_refused() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    let rom = fs::read(VIRTIO_ROM)?;
    let artifact = scenario.artifact("/new.rom", &rom);
    let ask = "echo end=$(stage2 reboot 2>&1); reboot";
    let ask_in_the_middle: &[&str] = &["/bin/sh", "-c", &write_and(ask)];
    scenario.document(document::commands(&[("rom", &artifact)], &[ask_in_the_middle]));
    let mut vm = scenario.start(&machine(&scenario, &chip, PARTITIONS))?;
    vm.expect_in_order(&[
        " may be writing to a card: ask again when it has ended, or force it: `reboot -f`",
        " may be writing to a card: not restarting the machine before it has ended; ask again then",
        "Result: success",
        "the boot document ran to its end",
    ])?;
    assert!(chip.content()? == chip.with(&rom), "{}", vm.evidence());
    Ok(())
}

#[test]
fn a_kernel_that_is_loaded_in_the_middle_of_a_write_is_entered_after_it() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    let rom = fs::read(VIRTIO_ROM)?;
    let debian = Debian::prepare(&|line| eprintln!("{line}"))?;
    let kernel = Artifact::of_file(&scenario.server.https_url("/vmlinuz"), &debian.kernel)?;
    scenario.server.serve("/vmlinuz", debian.kernel);
    let files = [("rom", &scenario.artifact("/new.rom", &rom)), ("vmlinuz", &kernel)];
    let enter = "/sbin/kexec --append=console=ttyS0 {{.files.vmlinuz.name}}";
    let enter_in_the_middle: &[&str] = &["/bin/sh", "-c", &write_and(enter)];
    scenario.document(document::commands(&files, &[enter_in_the_middle]));
    let mut vm = scenario.start(&machine(&scenario, &chip, PARTITIONS))?;
    vm.expect_in_order(&[
        " may be writing to a card: entering the next kernel after it",
        "entering the loaded kernel",
        "Linux version 6.1",
    ])?;
    assert!(chip.content()? == chip.with(&rom), "{}", vm.evidence());
    Ok(())
}

#[test]
fn what_a_flasher_says_after_its_boot_role_has_died_counts_for_the_next_one() -> anyhow::Result<()>
{
    let scenario = Scenario::new()?;
    let degraded = r#"{"outcome":"degraded","why":"w","restore_from":null,"card":"mtd:1",
        "pci_id":null,"programmer":"p","chip":null,"rom":null,"previous":null,"backup":null,
        "blocks_changed":0,"phases":[]}"#;
    let line = degraded.replace('\n', "");
    let script = format!("echo '{line}' >>${REPORTS_VARIABLE}; kill -9 $PPID");
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", &script]]));
    let mut vm = scenario.boot()?;
    vm.expect_in_order(&[
        "boot role ended with signal 9 (SIGKILL)",
        "a network card or a disk needs an operator, and the machine must not restart",
        "reported to",
        "boot attempt: mtd:1: DEGRADED",
    ])?;
    assert_eq!(scenario.server.requests_for(DOCUMENT).len(), 1, "nothing is tried again");
    Ok(())
}

#[test]
fn a_rom_with_the_wrong_digest_never_reaches_the_flasher() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    let right = scenario.artifact("/new.rom", &fs::read(VIRTIO_ROM)?);
    let wrong = document::Artifact { sha256: Some("0".repeat(64)), ..right };
    scenario.document(document::commands(&[("rom", &wrong)], &[WRITE]));
    let mut vm = scenario.start(&machine(&scenario, &chip, PARTITIONS))?;
    vm.expect("cannot fetch rom")?;
    vm.expect("next try in 10s")?;
    vm.has_no("flasher:")?;
    assert!(chip.content()? == chip.old);
    Ok(())
}

#[test]
fn a_manifest_says_which_card_gets_which_rom() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    let rom = fs::read(VIRTIO_ROM)?;
    let entry = |cards: &str, path: &str, bytes: &[u8]| {
        let url = scenario.server.https_url(path);
        format!(
            r#"{{"cards": ["{cards}"], "url": "{url}", "sha256": "{}", "version": "1.0.0"}}"#,
            sha256(bytes)
        )
    };
    let manifest = format!(
        r#"{{"roms": [{}, {}]}}"#,
        entry("15b3:1003", "/other.rom", b"never fetched"),
        entry(VIRTIO_ID, "/new.rom", &rom)
    );
    scenario.server.serve("/new.rom", rom.clone()).serve("/manifest.json", manifest);
    let url = scenario.server.https_url("/manifest.json");
    let mut vm = scenario.start(&machine(
        &scenario,
        &chip,
        &format!("{PARTITIONS} epoxy.rom_manifest={url}"),
    ))?;
    vm.expect_in_order(&["programmed: the card holds the new image", "the update is done"])?;
    vm.wait_exit(RESTART)?;
    assert!(chip.content()? == chip.with(&rom), "{}", vm.evidence());
    assert!(scenario.server.requests_for("/other.rom").is_empty());
    let (message, flash) = report(&scenario.server);
    assert_eq!(message, "success");
    is_told_in_full(&flash, &rom);
    Ok(())
}

#[test]
fn epoxys_update_goes_from_the_cards_ipxe_to_its_flash() -> anyhow::Result<()> {
    let image = Image::with_flasher_under_test()?;
    let chain = Chain::prepare(image, Stage3::RomUpdate, &|line| eprintln!("{line}"))?;
    let (chip, rom) = (Chip::new()?, fs::read(VIRTIO_ROM)?);
    let model = VIRTIO_ID.replace(':', "-");
    chain.server.serve(&format!("{ROMS}/{model}/{HOST}.mrom"), rom.clone());
    let machine = chip.plugged_into(chain.machine(VIRTIO, MEMORY_MIB));
    let mut vm = Vm::start(&machine)?.asking(&chain.server);
    vm.expect_in_order(&[
        "iPXE initialising devices",
        "Booting stage2",
        "entering the loaded kernel",
        "Linux version 6.12",
        "programmed: the card holds the new image",
        "reported to",
        "the update is done: restarting the machine",
    ])?;
    vm.wait_exit(RESTART)?;
    assert!(chip.content()? == chip.with(&rom), "{}", vm.evidence());
    chip.is_what_flashrom_reads(&chain.image.vmlinuz)?;
    let (message, flash) = report(&chain.server);
    assert_eq!(message, "success");
    is_told_in_full(&flash, &rom);
    Ok(())
}
