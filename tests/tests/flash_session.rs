//! A ROM is written although that takes the network away, and what a chip held is on a server before
//! any of it is erased.

use std::fs;
use std::time::Duration;

use agent_types::params::{MROM, ROM_BACKUP};
use vmtest::document::{self, sha256};
use vmtest::flash::{Chip, OPROM, PARTITIONS, ROM, VIRTIO_ID, VIRTIO_ROM};
use vmtest::machine::{Card, Machine};
use vmtest::scenario::{HOST, Scenario};

use crate::flash_boot::{machine, report};

const MEMORY_MIB: u32 = 512;
const RESTART: Duration = Duration::from_secs(60);
const UP: &str = "eth0: 192.168.0.2/24 through 192.168.0.1";
/// Below this, a machine's backups are posted by its name.
const BACKUPS: &str = "/backups";

/// Where the backup of the chip's partition is posted.
fn place(chip: &Chip) -> String {
    let (card, content) = (sha256(b"mtd:1"), sha256(&chip.old[OPROM]));
    format!("{BACKUPS}/{HOST}/mtd-1-{}-{}.bin", &card[..8], &content[..16])
}

/// The kernel parameters of an update of this machine's card, whose ROM is served.
fn update(scenario: &Scenario) -> anyhow::Result<String> {
    let model = VIRTIO_ID.replace(':', "-");
    scenario.server.serve(&format!("/roms/{model}/{HOST}.mrom"), fs::read(VIRTIO_ROM)?);
    let url = |path: &str| scenario.server.https_url(path);
    Ok(format!("{PARTITIONS} {MROM}={} {ROM_BACKUP}={}", url("/roms"), url(BACKUPS)))
}

#[test]
fn what_the_chip_held_is_on_the_server_before_it_is_erased() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    scenario.server.serve(&place(&chip), "");
    let mut vm = scenario.start(&machine(&scenario, &chip, &update(&scenario)?))?;
    vm.expect_in_order(&["flasher: backup …", "backup sent to", "flasher: invalidate header …"])?;
    vm.expect_in_order(&["programmed: the card holds the new image", "the update is done"])?;
    vm.wait_exit(RESTART)?;
    assert!(chip.content()? == chip.with(&fs::read(VIRTIO_ROM)?), "{}", vm.evidence());
    let sent = scenario.server.requests_for(&place(&chip));
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert_eq!(sent[0].header("content-type"), Some("application/octet-stream"));
    assert!(sent[0].body == chip.old[OPROM]);
    Ok(())
}

#[test]
fn nothing_is_erased_unless_the_server_takes_the_backup() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    let mut vm = scenario.start(&machine(&scenario, &chip, &update(&scenario)?))?;
    vm.expect_in_order(&["cannot send the backup", "404 Not Found", "reported to"])?;
    assert!(chip.content()? == chip.old);
    let (message, flash) = report(&scenario.server);
    assert!(message.ends_with("exit status 3"), "{message}");
    assert_eq!(flash["outcome"], "refused", "{flash:#}");
    Ok(())
}

#[test]
fn the_network_is_brought_up_for_the_backup_and_for_the_report() -> anyhow::Result<()> {
    let (scenario, chip) = (Scenario::with_flasher()?, Chip::new()?);
    scenario.server.serve(&place(&chip), "");
    let rom = scenario.artifact("/new.rom", &fs::read(VIRTIO_ROM)?);
    let lose = "cd /sys/bus/virtio/drivers/virtio_net; \
                for device in virtio*; do echo $device >unbind; echo $device >bind; done";
    let write = format!(
        "{lose}; ROM_BACKUP_URL={}/{HOST} /sbin/flasher write --card auto --rom {{{{.files.rom.name}}}} \
         --after-backup /sbin/send-backup; ended=$?; {lose}; exit $ended",
        scenario.server.https_url(BACKUPS)
    );
    scenario.document(document::commands(&[("rom", &rom)], &[&["/bin/sh", "-c", &write]]));
    let mut vm = scenario.start(&machine(&scenario, &chip, PARTITIONS))?;
    vm.expect_in_order(&[UP, "backup sent to", "programmed", UP, "reported to"])?;
    assert!(scenario.server.requests_for(&place(&chip))[0].body == chip.old[OPROM]);
    assert_eq!(report(&scenario.server).1["outcome"], "programmed");
    Ok(())
}

#[test]
fn the_card_that_carries_the_session_is_given_back_and_the_report_arrives() -> anyhow::Result<()> {
    let scenario = Scenario::with_flasher()?;
    let rom = scenario.artifact("/new.rom", &fs::read(ROM)?);
    let write = "/sbin/flasher write --card auto --time-limit 5 --rom {{.files.rom.name}} --allow-session-card";
    let commands = [write.replace(" --allow-session-card", "; echo end=$?"), write.to_owned()];
    let commands = commands.iter().map(|line| ["/bin/sh", "-c", line]);
    let commands: Vec<_> = commands.collect();
    let commands: Vec<&[&str]> = commands.iter().map(|words| &words[..]).collect();
    scenario.document(document::commands(&[("rom", &rom)], &commands));
    let machine = Machine::new(MEMORY_MIB)
        .with_kernel(&scenario.image.vmlinuz, None, &scenario.cmdline())
        .with_card(Card::new("e1000e"));
    let mut vm = scenario.start(&machine)?;
    vm.expect_in_order(&[
        UP,
        "routes lead through the card, and they would be lost (--allow-session-card)",
        "end=3",
        "refused: no end of probing within 5 s",
        UP,
        "reported to",
    ])?;
    let (message, flash) = report(&scenario.server);
    assert!(message.ends_with("exit status 3"), "{message}");
    assert_eq!(flash["card"], "pci:0000:00:01.0", "{flash:#}");
    assert_eq!(flash["outcome"], "refused", "{flash:#}");
    Ok(())
}
