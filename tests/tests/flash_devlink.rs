//! A card that its own driver flashes: the kernel's simulated one, which takes its time, says how
//! far it is, and looks at nothing of the package.

use std::time::Duration;

use vmtest::flash::{Chip, DONE};
use vmtest::image::Image;

const CARD: &str = "devlink:netdevsim/netdevsim10";
/// It waits 10 ms after each of 500 steps, and emulation makes more of it.
const SLOW: Duration = Duration::from_secs(180);

#[test]
fn a_drivers_progress_is_passed_on_and_its_refusals_are_told_from_failures() -> anyhow::Result<()> {
    let (image, chip) = (Image::with_flasher_and_disks()?, Chip::new()?);
    let write =
        |options: &str| format!("flasher write --json --rom /new.rom {options}; echo end=$?\n");
    let commands = [
        "echo '10 1' > /sys/bus/netdevsim/new_device\n",
        &write(&format!("--card {CARD} --dry-run")),
        &write(&format!("--card {CARD} --component fw.mgmt")),
        &write(&format!("--card {CARD} --component bogus")),
        &write("--card devlink:netdevsim/netdevsim11"),
        &write(&format!("--card {CARD} --sha256 {}", "0".repeat(64))),
        "flasher probe --card devlink:netdevsim/netdevsim10; ls /lib/firmware | wc -l\n",
    ];
    let mut vm = chip.boot(&image.vmlinuz, &commands.concat())?;
    vm.expect_in_order(&[
        "{\"card\":\"devlink:netdevsim/netdevsim10\",\"stored\":{\"fw.mgmt\":\"10.20.30\"",
        "end=0",
        "{\"event\":\"note\",\"message\":\"Preparing to flash\"}",
    ])?;
    vm.expect_within(SLOW, "\"phase\":\"driver\",\"done\":250000,\"total\":500000}")?;
    vm.expect_within(SLOW, "{\"event\":\"note\",\"message\":\"Flashing done\"}")?;
    vm.expect_in_order(&[
        "\"outcome\":\"handed-over\"",
        r#"{"name":"fw.mgmt","before":"10.20.30","after":"10.20.30"}"#,
        "end=0",
        "\"outcome\":\"refused\",\"why\":\"the kernel refuses: Invalid argument",
        "end=3",
        "the kernel refuses: No such device",
        "end=1",
        "expected sha256 0000",
        "end=3",
        "its driver takes whole packages only",
        "0",
        DONE,
    ])?;
    Ok(())
}
