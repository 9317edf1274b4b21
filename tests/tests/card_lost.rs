//! A card that is taken from its driver and given back is brought up again: for the report of the
//! attempt that lost it, and for the next one.

use vmtest::document;
use vmtest::scenario::Scenario;

#[test]
fn a_card_that_was_lost_and_came_back_is_brought_up_for_the_report_and_the_next_attempt()
-> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let rebind = "cd /sys/bus/virtio/drivers/virtio_net; \
                  for device in virtio*; do echo $device >unbind; echo $device >bind; done; false";
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", rebind]]));
    let mut vm = scenario.boot()?;
    vm.expect_in_order(&[
        "stage2: Result: error",
        "stage2: eth0: 192.168.0.2/24 through 192.168.0.1",
        "stage2: reported to",
        "boot attempt: ",
    ])?;
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", "echo hello again"]]));
    vm.expect_in_order(&["Command: ", "hello again", "Result: success"])?;
    Ok(())
}
