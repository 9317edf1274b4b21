//! What a review found, on a real machine.

use vmtest::document;
use vmtest::scenario::Scenario;

/// Two thirds of what the machine has free.
const PAYLOAD_BYTES: u32 = 120 << 20;

#[test]
fn what_a_killed_boot_role_had_fetched_is_not_in_the_way_of_the_next() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let payload: Vec<u8> = (0..PAYLOAD_BYTES).map(|number| (number >> 3) as u8).collect();
    let artifact = scenario.artifact("/payload", &payload);
    let files = [("payload", &artifact)];
    let kill = "kill -9 $PPID";
    scenario.document(document::commands(&files, &[&["/bin/sh", "-c", kill]]));
    let mut vm = scenario.boot()?;
    vm.expect("boot role ended with signal 9 (SIGKILL): starting it again in 1 s")?;
    scenario.document(document::commands(&files, &[&["/bin/busybox", "echo", "all there"]]));
    vm.expect("all there")?;
    Ok(())
}
