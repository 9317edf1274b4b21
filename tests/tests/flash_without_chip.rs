//! Cards of QEMU for which flashrom has a programmer, and behind which there is no chip: nothing that
//! happens there may cost more than the card its time.

use vmtest::flash::{CARD, Chip, DONE};
use vmtest::image::Image;
use vmtest::machine::Card;
use vmtest::vm::Vm;

#[test]
fn a_programmer_without_end_and_cards_without_a_chip_cost_an_error_each() -> anyhow::Result<()> {
    let (image, chip) = (Image::with_flasher_under_test()?, Chip::new()?);
    let driver = "basename $(readlink /sys/bus/pci/devices/0000:00:01.0/driver)\n";
    let commands = format!(
        "flasher list\n{driver}\
         flasher probe --card pci:0000:00:01.0 --time-limit 5; echo endless=$?\n{driver}\
         flasher write --card auto --rom /new.rom --time-limit 5; echo write=$?\n{driver}\
         ls /sys/bus/pci/devices/0000:00:01.0/net; pidof flasher || echo none left\n\
         flasher probe --card pci:0000:00:02.0; echo i82557b=$?\n\
         flasher probe --card pci:0000:00:03.0; echo rtl8139=$?\n"
    );
    let mut machine = chip.machine(&image.vmlinuz, &commands)?;
    for model in ["e1000e", "i82557b", "rtl8139"] {
        machine = machine.with_card(Card::new(model));
    }
    let mut vm = Vm::start(&machine)?;
    vm.expect_in_order(&[
        &format!("pci:0000:00:01.0  {CARD}  e1000e"),
        "e1000e\n",
        "flasher: no end of probing within 5 s",
        "endless=3",
        "e1000e\n",
        "refused: no end of probing within 5 s",
        "write=3",
        "e1000e\n",
        "eth",
        "none left",
        "flasher: no flash chip answers",
        "i82557b=3",
        "flasher: no flash chip answers",
        "rtl8139=3",
        DONE,
    ])?;
    Ok(())
}
