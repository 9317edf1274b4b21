//! The whole program on flashrom's simulated chip; Debian's `flashrom` judges what the chip holds.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so"
)]
#![cfg(feature = "dummy")]
#![expect(unreachable_pub, reason = "a test has no users")]

mod bench;

use agent_types::flash_report::FlashOutcome;
use bench::{Bench, REGION, ROM, W25Q128, modified_rom, rom};

fn refused(outcome: &FlashOutcome, why: &str) {
    let FlashOutcome::Refused { why: got } = outcome else { panic!("{outcome:?}") };
    assert!(got.contains(why), "expected {why:?} in {got:?}");
}

fn rolled_back(outcome: &FlashOutcome, why: &str) {
    let FlashOutcome::RolledBack { why: got } = outcome else { panic!("{outcome:?}") };
    assert!(got.contains(why), "expected {why:?} in {got:?}");
}

fn degraded(outcome: &FlashOutcome, why: &str) {
    let FlashOutcome::Degraded { why: got, restore_from: Some(_) } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(got.contains(why), "expected {why:?} in {got:?}");
}

#[test]
fn a_rom_is_written_and_flashrom_reads_the_same_bytes() {
    let bench = Bench::new(W25Q128);
    let report = bench.write(&rom(), &[]);
    assert_eq!(report.outcome, FlashOutcome::Programmed);
    assert!(bench.flashrom_reads() == bench.programmed(&rom()));
    assert!(std::fs::read(report.backup.unwrap().path).unwrap() == bench.old);
}

#[test]
fn the_same_rom_again_is_neither_erased_nor_programmed() {
    let bench = Bench::new(W25Q128);
    assert_eq!(bench.write(&rom(), &[]).outcome, FlashOutcome::Programmed);
    // The first erase or program would be a crash.
    let again = bench.write(&rom(), &["--crash-at", "1"]);
    assert_eq!(again.outcome, FlashOutcome::AlreadyProgrammed);
}

#[test]
fn what_is_no_known_single_chip_is_refused() {
    for (parameters, why) in [
        ("bus=spi,emulate=W25Q128FV,spi_blacklist=9f", "unknown chip"),
        ("bus=spi", "no flash chip answers"),
        ("bus=spi,emulate=MX25L6436", "several chips match: "),
        ("bus=prog", "no flash chip answers"),
        ("bus=spi,emulate=W25Q128FV,bogus=1", "cannot open programmer dummy"),
        ("bus=spi,emulate=NOSUCHCHIP", "cannot open programmer dummy"),
        ("bus=spi,emulate=W25Q128FV,spi_blacklist=03", "cannot read the chip"),
    ] {
        let bench = Bench::new(parameters);
        let report = bench.write(&rom(), &[]);
        refused(&report.outcome, why);
        bench.is_unchanged();
    }
}

#[test]
fn a_chip_that_several_descriptions_fit_is_named_by_the_operator() {
    let bench = Bench::of_size("bus=spi,emulate=MX25L6436", 8 << 20);
    let report = bench.write(&rom(), &["--chip", "MX25L6405D"]);
    assert_eq!(report.outcome, FlashOutcome::Programmed);
    assert!(bench.content() == bench.programmed(&rom()));
}

#[test]
fn a_protected_chip_is_refused_and_a_hardware_protection_is_not_argued_with() {
    // The upper half is locked, and the pin says so.
    let locked = "bus=spi,emulate=W25Q128FV,hwwp=yes,spi_status=0x98";
    let bench = Bench::new(locked).region("0x7f8000:0x80bfff");
    refused(&bench.write(&rom(), &[]).outcome, "write-protected");
    bench.is_unchanged();
    let forced = bench.write(&rom(), &["--allow-unprotect"]);
    refused(&forced.outcome, "block protection cannot be removed");
    bench.is_unchanged();
}

#[test]
fn without_its_guard_a_write_stops_where_the_protection_begins_and_is_rolled_back() {
    let locked = "bus=spi,emulate=W25Q128FV,hwwp=yes,spi_status=0x98";
    let bench = Bench::new(locked).region("0x7f8000:0x80bfff");
    let report = bench.write(&rom(), &["--allow-unprotect", "--without-guards"]);
    rolled_back(&report.outcome, "write body");
    bench.is_unchanged();
}

#[test]
fn a_region_beside_the_protected_range_is_written() {
    let bench = Bench::new("bus=spi,emulate=W25Q128FV,hwwp=no,spi_status=0x98");
    assert_eq!(bench.write(&rom(), &[]).outcome, FlashOutcome::Programmed);
    assert!(bench.content() == bench.programmed(&rom()));
}

#[test]
fn an_erase_is_never_escalated_and_the_backup_restores_the_block_that_was_lost() {
    let bench = Bench::new("bus=spi,emulate=W25Q128FV,spi_blacklist=02");
    let report = bench.write(&rom(), &[]);
    degraded(&report.outcome, "stopped before it erased more");
    let content = bench.content();
    let lost = (0..content.len())
        .step_by(4096)
        .filter(|&at| content[at..at + 4096] != bench.old[at..at + 4096]);
    assert_eq!(lost.collect::<Vec<_>>(), [REGION.start], "the header's block, which is erased");
    let restored = bench.restore(W25Q128);
    assert_eq!(restored.outcome, FlashOutcome::Programmed);
    bench.is_unchanged();
}

/// A chip that erases nothing smaller than itself, and programs nothing: libflashrom erases more and more to
/// repair what it broke.
const ESCALATION: &str = "bus=spi,emulate=W25Q128FV,spi_blacklist=2052d802";

#[test]
fn a_failed_erase_is_not_repaired_by_a_larger_one() {
    let bench = Bench::new(ESCALATION);
    rolled_back(&bench.write(&rom(), &[]).outcome, "stopped before it erased more");
    bench.is_unchanged();
}

/// What the guard is for: the control of the test above.
#[test]
fn without_its_guard_libflashrom_erases_the_whole_chip() {
    let bench = Bench::new(ESCALATION);
    let report = bench.write(&rom(), &["--without-guards"]);
    degraded(&report.outcome, "erasing or programming failed");
    assert!(bench.content().iter().all(|&byte| byte == 0xff));
    assert_eq!(bench.restore(W25Q128).outcome, FlashOutcome::Programmed);
    bench.is_unchanged();
}

#[test]
fn a_program_that_the_chip_ignores_is_noticed() {
    let bench = Bench::new("bus=spi,emulate=W25Q128FV,spi_ignorelist=02");
    let report = bench.write(&rom(), &[]);
    degraded(&report.outcome, "the chip does not hold what was written");
    assert_eq!(bench.content()[REGION.start..REGION.start + 2], [0xff, 0xff], "no header");
    assert_eq!(bench.restore(W25Q128).outcome, FlashOutcome::Programmed);
    bench.is_unchanged();
}

#[test]
fn an_erase_that_the_chip_ignores_or_refuses_leaves_the_chip_as_it_was() {
    for fault in ["spi_ignorelist=20", "spi_ignorelist=2052d860c7", "spi_blacklist=20"] {
        let bench = Bench::new(&format!("bus=spi,emulate=W25Q128FV,{fault}"));
        rolled_back(&bench.write(&rom(), &[]).outcome, "stopped before it erased more");
        bench.is_unchanged();
    }
}

#[test]
fn a_chip_that_stays_busy_costs_the_time_limit_and_no_more() {
    let bench = Bench::new("bus=spi,emulate=W25Q128FV,spi_status=0x01");
    let start = std::time::Instant::now();
    let report = bench.write(&rom(), &["--time-limit", "3"]);
    let why = format!("{:?}", report.outcome);
    assert!(why.contains("no end of writing within 3 s"), "{why}");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    bench.is_unchanged();
}

#[test]
fn a_read_that_takes_too_long_is_a_refusal() {
    let bench = Bench::new("bus=spi,emulate=W25Q128FV,freq=1MHz");
    refused(&bench.write(&rom(), &["--time-limit", "2"]).outcome, "no end of reading within 2 s");
    bench.is_unchanged();
}

#[test]
fn a_chip_with_one_erase_block_is_written_whole() {
    let size = 128 * 1024;
    for parameters in [
        "bus=prog,emulate=VARIABLE_SIZE,size=131072",
        "bus=prog,emulate=VARIABLE_SIZE,size=131072,erase_to_zero=yes",
    ] {
        let bench = Bench::of_size(parameters, size).region("0:1ffff");
        let report = bench.write(&rom(), &[]);
        assert_eq!(report.outcome, FlashOutcome::Programmed, "{parameters}");
        assert!(bench.content() == bench.programmed(&rom()), "{parameters}");
    }
}

#[test]
fn a_chip_with_large_erase_blocks_is_written() {
    let bench = Bench::of_size("bus=spi,emulate=M25P10.RES", 128 * 1024).region("0:1ffff");
    let report = bench.write(&rom(), &["--chip", "M25P10"]);
    assert_eq!(report.outcome, FlashOutcome::Programmed);
    assert!(bench.content() == bench.programmed(&rom()));
}

#[test]
fn a_region_that_shares_an_erase_block_is_refused() {
    let bench = Bench::new(W25Q128).region("0x100000:0x1125ff");
    refused(&bench.write(&rom(), &[]).outcome, "does not begin and end with an erase block");
    bench.is_unchanged();
}

#[test]
fn a_chip_image_of_the_wrong_size_is_not_taken_for_the_chip() {
    let bench = Bench::of_size(W25Q128, 4096);
    // flashrom starts with an empty chip instead, and replaces the file.
    let report = bench.write(&rom(), &[]);
    assert_eq!(report.outcome, FlashOutcome::Programmed);
    assert_eq!(bench.content().len(), 16 << 20);
}

#[test]
fn the_programmer_cannot_be_chosen_freely() {
    let bench = Bench::new(W25Q128);
    let output = bench.flasher(&["probe", "--card", "internal:"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_card_that_nobody_names_gets_no_rom() {
    let bench = Bench::new(W25Q128);
    let card = bench.card();
    let output = bench.flasher(&["write", "--card", &card, "--rom", ROM]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--pci-id"));
    bench.is_unchanged();
}

#[test]
fn a_dry_run_tells_the_plan_and_changes_nothing() {
    let bench = Bench::new(W25Q128);
    let lines = bench.write_lines(&rom(), &["--dry-run", "--crash-at", "1"]);
    let plan = lines.last().unwrap();
    assert_eq!(plan["decision"], "program");
    assert_eq!(plan["blocks"].as_array().unwrap().len(), 19);
    let steps = plan["steps"].as_array().unwrap();
    assert_eq!(steps[0], "erase the header: 0x100000:0x100fff");
    assert_eq!(steps[2], "write the header's first page: 0x100000:0x1000ff");
    bench.is_unchanged();
}

#[test]
fn a_backup_is_the_chip_and_verify_tells_a_rom_from_another() {
    let bench = Bench::new(W25Q128);
    let card = bench.card();
    let file = bench.path("backup.bin");
    let output = bench.flasher(&["backup", "--card", &card, "--backup", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(std::fs::read(file).unwrap() == bench.old);

    let verify = ["verify", "--card", &card, "--rom", ROM, "--region", "100000:11ffff"];
    assert_eq!(bench.flasher(&verify).status.code(), Some(6));
    assert_eq!(bench.write(&rom(), &[]).outcome, FlashOutcome::Programmed);
    assert_eq!(bench.flasher(&verify).status.code(), Some(0));
}

#[test]
fn nothing_is_erased_unless_the_backup_was_passed_on() {
    let bench = Bench::new(W25Q128);
    let report = bench.write(&rom(), &["--after-backup", "/bin/false"]);
    refused(&report.outcome, "/bin/false ended with exit status: 1");
    bench.is_unchanged();
    let report = bench.write(&rom(), &["--after-backup", "/bin/true"]);
    assert_eq!(report.outcome, FlashOutcome::Programmed);
}

/// Every erase and program of a run: power is lost there, and the next run goes on.
fn crashes(first: &[u8], second: &[u8], extra: &[&str]) -> usize {
    let counts = bench::in_parallel(4, 1..200, |n| {
        let bench = Bench::new(W25Q128);
        assert_eq!(bench.write(first, &[]).outcome, FlashOutcome::Programmed);
        let before = bench.content();
        let n = n.to_string();
        let arguments = [extra, &["--crash-at", &n]].concat();
        if !bench.write_crashes(second, &arguments) {
            return false;
        }
        let torn = bench.content();
        let rom_is_whole = torn[REGION.start..REGION.start + 2] != [0x55, 0xaa]
            || agent_types::rom::OptionRom::parse_start(&torn[REGION.start..]).is_ok();
        assert!(rom_is_whole, "crash {n}");

        let resumed = bench.write(second, &[]).outcome;
        assert_eq!(resumed.exit_code(), 0, "crash {n}: {resumed:?}");
        assert!(bench.flashrom_reads() == bench.programmed(second), "crash {n}");

        bench.set(&torn);
        let restored = bench.restore_earliest(W25Q128);
        assert_eq!(restored.outcome.exit_code(), 0, "crash {n}: {restored:?}");
        assert!(bench.content() == before, "crash {n}");
        true
    });
    println!("{counts} losses of power, {extra:?}");
    counts
}

#[test]
fn a_loss_of_power_at_any_step_of_the_real_library_is_survived() {
    // An erase of the header; erase and program of three blocks, of which the header's is erased
    // already; the header's page.
    let count = crashes(&rom(), &modified_rom(&[2, 7]), &[]);
    assert_eq!(count, 1 + 2 * 2 + 1 + 1);
}

#[test]
fn a_loss_of_power_at_any_step_of_a_rollback_by_the_real_library_is_survived() {
    let count = crashes(&rom(), &modified_rom(&[2, 7]), &["--fail-at", "5"]);
    assert!(count > 7, "{count}");
}
