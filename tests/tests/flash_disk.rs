//! A USB stick is rewritten as a part of booting: `epoxy.usbiso=`, with real drivers, on sticks that
//! work, fail, or go away.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::time::Duration;

use serde_json::Value;
use vmtest::certificate::Presented;
use vmtest::document::sha256;
use vmtest::image::Image;
use vmtest::machine::Machine;
use vmtest::scenario::{HOST, Scenario};
use vmtest::shell::answer;
use vmtest::stick::{self, SECTOR_BYTES, Stick, Temper};
use vmtest::vm::Vm;

const MEMORY_MIB: u32 = 512;
const RESTART: Duration = Duration::from_secs(60);
const IMAGE: &str = "/usb.img";
/// What is absent while the rest is written.
const HEAD_BYTES: usize = 1 << 20;
const PROGRAMMED: &str = "programmed: the disk holds the new image";

/// A server with an image for sticks.
struct Bench {
    scenario: Scenario,
    image: Vec<u8>,
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let scenario = Scenario::with_image(Image::with_flasher_and_disks()?, Presented::Good)?;
        let image = stick::image()?;
        scenario.server.serve(IMAGE, image.clone());
        Ok(Self { scenario, image })
    }

    /// A machine that shall write the image to a stick.
    fn machine(&self, more: &str) -> Machine {
        let (url, digest) = (self.scenario.server.https_url(IMAGE), sha256(&self.image));
        let parameters = format!("epoxy.usbiso={url} epoxy.usbiso_sha256={digest} {more}");
        let cmdline = format!("{} {parameters}", self.scenario.cmdline());
        Machine { memory_mib: MEMORY_MIB, ..self.scenario.machine_with(&cmdline) }
    }

    fn start(&self, machine: &Machine) -> anyhow::Result<Vm> {
        self.scenario.start(machine)
    }

    /// What the last report says, and what it says of the flasher.
    fn report(&self) -> (String, Value) {
        let report = self.scenario.server.reports().pop().unwrap();
        let (_, flash) = report.debug_config.rsplit_once("\n{\n  \"flash\"").unwrap();
        let flash: Value = serde_json::from_str(&format!("{{\"flash\"{flash}")).unwrap();
        (report.message, flash["flash"][0].clone())
    }
}

#[test]
fn the_only_stick_gets_the_image_and_other_disks_stay_as_they_are() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (stick, disk) = (Stick::new("S1", "OLD")?, Stick::new("D1", "OLD")?);
    let machine = disk.built_into(stick.plugged_into(bench.machine(""), Temper::Good));
    let mut vm = bench.start(&machine)?;
    vm.expect_in_order(&[
        "the image is for sda bus=usb size=16777216 model=QEMU_HARDDISK serial=S1 fs=vfat label=OLD",
        PROGRAMMED,
        "reported to",
        "the update is done: restarting the machine",
    ])?;
    vm.wait_exit(RESTART)?;
    assert!(stick.content()? == stick.with(&bench.image), "{}", vm.evidence());
    assert!(disk.content()? == disk.old, "{}", vm.evidence());
    let (message, flash) = bench.report();
    assert_eq!(message, "success");
    assert_eq!(flash["outcome"], "programmed", "{flash:#}");
    assert_eq!(flash["previous"]["sha256"], sha256(&stick.old[..bench.image.len()]), "{flash:#}");
    assert_eq!(flash["rom"]["sha256"], sha256(&bench.image), "{flash:#}");
    let phases = flash["phases"].as_array().unwrap();
    assert!(phases.iter().any(|phase| phase["phase"] == "commit-header"), "{flash:#}");
    assert!(phases.iter().all(|phase| phase["millis"].is_u64()), "{flash:#}");

    let mut vm = bench.start(&machine)?;
    vm.expect_in_order(&["label=NEW", "already programmed: nothing was written"])?;
    Ok(())
}

#[test]
fn of_two_sticks_neither_is_touched_until_one_is_named() -> anyhow::Result<()> {
    let bench = Bench::new()?;
    let (one, two) = (Stick::new("S1", "OLD")?, Stick::new("S2", "OLD")?);
    let with_sticks =
        |machine: Machine| two.plugged_into(one.plugged_into(machine, Temper::Good), Temper::Good);
    let mut vm = bench.start(&with_sticks(bench.machine("")))?;
    vm.expect_in_order(&[
        "cannot choose the disk for the image: expected one disk that is bus=usb,fs=vfat, got",
        "next try in 10s",
    ])?;
    drop(vm);
    assert!(bench.scenario.server.requests_for(IMAGE).is_empty());
    assert!(one.content()? == one.old && two.content()? == two.old);

    let named = bench.machine("epoxy.usbiso_target=bus=usb,size=8M..1G,serial=S2");
    let mut vm = bench.start(&with_sticks(named))?;
    vm.expect_in_order(&[PROGRAMMED, "the update is done"])?;
    vm.wait_exit(RESTART)?;
    assert!(one.content()? == one.old && two.content()? == two.with(&bench.image));
    Ok(())
}

/// The machine loses power when the flasher has said `moment`; the next boot finishes. Returns what
/// was on the stick in between.
fn survives(moment: &str) -> anyhow::Result<Vec<u8>> {
    let (bench, stick) = (Bench::new()?, Stick::new("S1", "OLD")?);
    let machine = |temper| stick.plugged_into(bench.machine(""), temper);
    let mut vm = bench.start(&machine(Temper::Slow))?;
    vm.expect(moment)?;
    drop(vm);
    let torn = stick.content()?;
    // The head goes in several writes, the sector that a BIOS starts first. As long as all behind it is
    // of one image, whatever still finds a partition there finds a whole one.
    let behind_head = |content: &[u8]| content[HEAD_BYTES..content.len() - SECTOR_BYTES].to_vec();
    let found = behind_head(&torn);
    let is_whole =
        found == behind_head(&stick.old) || found == behind_head(&stick.with(&bench.image));
    assert!(is_whole || stick::is_absent(&torn));

    let mut vm = bench.start(&machine(Temper::Good))?;
    vm.expect_in_order(&["the image is for sda", "the update is done"])?;
    vm.wait_exit(RESTART)?;
    assert!(stick.content()? == stick.with(&bench.image), "{}", vm.evidence());
    Ok(torn)
}

#[test]
fn power_is_lost_while_the_head_of_a_stick_is_erased() -> anyhow::Result<()> {
    survives("flasher: invalidate header").map(drop)
}

#[test]
fn power_is_lost_while_a_stick_is_written() -> anyhow::Result<()> {
    assert!(stick::is_absent(&survives("flasher: write body")?));
    Ok(())
}

#[test]
fn power_is_lost_while_the_head_of_a_stick_is_written() -> anyhow::Result<()> {
    survives("flasher: commit header").map(drop)
}

#[test]
fn a_stick_that_fails_is_put_back_and_waits_for_an_operator() -> anyhow::Result<()> {
    let (bench, stick) = (Bench::new()?, Stick::new("S1", "OLD")?);
    let machine = stick.plugged_into(bench.machine(""), Temper::FailsOnce);
    let mut vm = bench.start(&machine)?;
    vm.expect_in_order(&[
        "rolling back: write body: cannot write 1048576 bytes at 1048576: Input/output error",
        "rolled back: write body: ",
        "the disk holds what it held before",
        "a network card or a disk needs an operator, and the machine must not restart",
        "reported to",
    ])?;
    drop(vm);
    assert!(stick.content()? == stick.old);
    let (message, flash) = bench.report();
    assert!(message.starts_with("error: disk:sda bus=usb "), "{message}");
    assert_eq!(flash["outcome"], "rolled-back", "{flash:#}");
    assert_eq!(flash["backup"]["sha256"].as_str().map(str::len), Some(64), "{flash:#}");
    Ok(())
}

#[test]
fn a_stick_that_takes_no_writes_holds_what_it_held() -> anyhow::Result<()> {
    let (bench, stick) = (Bench::new()?, Stick::new("S1", "OLD")?);
    let machine = stick.plugged_into(bench.machine(""), Temper::TakesNothing);
    let mut vm = bench.start(&machine)?;
    vm.expect_in_order(&["rolled back: invalidate header: cannot ", "needs an operator"])?;
    drop(vm);
    assert!(stick.content()? == stick.old);
    Ok(())
}

#[test]
fn a_stick_that_is_pulled_out_is_degraded_and_restored_when_it_is_back() -> anyhow::Result<()> {
    let (bench, stick) = (Bench::new()?, Stick::new("S1", "OLD")?);
    let machine = stick.plugged_into(bench.machine(""), Temper::Slow);
    let mut vm = bench.start(&machine)?;
    vm.expect("flasher: write body")?;
    let mut control = vm.control()?;
    stick.pull_out(&mut control)?;
    vm.expect_in_order(&["DEGRADED: write body: ", "restore from /"])?;
    vm.expect_in_order(&["needs an operator", "reported to"])?;
    let (_, flash) = bench.report();
    assert_eq!(flash["outcome"], "degraded", "{flash:#}");
    assert!(stick::is_absent(&stick.content()?));

    vm.expect("`stage2 --help` tells what you can do")?;
    stick.plug_in(&mut control)?;
    vm.expect("Attached SCSI disk")?;
    let (listed, _) = answer(&mut vm, "flasher disk list")?;
    assert!(listed.contains("NOT FINISHED"), "{listed}");
    let backup = flash["restore_from"].as_str().unwrap();
    let restore = format!("flasher disk restore --target serial=S1 --backup {backup}");
    let (said, status) = answer(&mut vm, &restore)?;
    assert!(status == 0 && said.contains(PROGRAMMED), "{said}");
    drop(vm);
    assert!(stick.content()? == stick.old);
    Ok(())
}

#[test]
fn a_disk_in_use_is_refused_and_says_by_whom() -> anyhow::Result<()> {
    let scenario = Scenario::with_image(Image::with_flasher_and_disks()?, Presented::Good)?;
    let [stick, mounted, array] =
        [Stick::new("S1", "A")?, Stick::new("S2", "B")?, Stick::new("D1", "C")?];
    let cmdline =
        format!("net.ifnames=0 epoxy.ip=192.168.0.2::192.168.0.1:255.255.255.0:{HOST}:eth0:off::");
    let machine = Machine { memory_mib: MEMORY_MIB, ..scenario.machine_with(&cmdline) };
    let machine = stick.plugged_into(machine, Temper::Good);
    let machine = array.built_into(mounted.plugged_into(machine, Temper::Good));
    let mut vm = scenario.start(&machine)?;
    vm.expect("`stage2 --help` tells what you can do")?;
    let prepared = "mkdir /tmp/m && dd if=/dev/zero of=/tmp/i bs=1M count=2 && \
        dd if=/dev/zero of=/dev/vda bs=1M count=1 && pvcreate -q /dev/vda && \
        vgcreate -q vg /dev/vda && lvcreate -q -y -L 8M -n root vg && \
        disk=$(flasher disk list --target serial=S2) && mount -t vfat /dev/${disk%% *}1 /tmp/m";
    let write = |target: &str| format!("flasher disk write --image /tmp/i --target {target}");
    for (command, expected, status) in [
        (prepared, "created", 0),
        ("flasher disk list", "1 is mounted on /tmp/m", 0),
        (&write("serial=S2"), "1 is mounted on /tmp/m", 3),
        (&write("serial=D1"), "cannot be written: vda is part of dm-0", 3),
        (&write("label=B"), "1 is mounted on /tmp/m", 3),
        (&write("bus=usb,fs=vfat"), "expected one disk that is bus=usb,fs=vfat, got sd", 3),
        (&write("bus=usb"), "expected a model, a serial or a label, or bus=usb with fs=vfat", 2),
        (&format!("{} --dry-run", write("label=A")), "commit header: write 512 bytes: 512 at 0", 0),
        (
            &format!("{} --backup /proc/b", write("label=A")),
            "refused: cannot create /proc/b.part",
            3,
        ),
    ] {
        let (said, ended) = answer(&mut vm, command)?;
        assert!(said.contains(expected) && ended == status, "{command}: {ended}: {said}");
    }
    vm.type_line("stage2 poweroff")?;
    assert!(vm.wait_exit(RESTART)?.success());
    assert!(stick.content()? == stick.old);
    Ok(())
}
