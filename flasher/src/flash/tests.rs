use super::*;
use crate::chip::WriteProtection;
use crate::fake::{BLOCK_BYTES, FakeChip, Fault};
use agent_types::rom::Card;
use agent_types::rom::sha256;
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use tempfile::TempDir;

const CHIP_BYTES: usize = 128 * 1024;
/// Where the ROM is: not at the beginning, so that there is something on either side of it.
const REGION: Region = Region { start: 0x8000, end: 0x8000 + 0x14000 };

fn card() -> Card {
    Card {
        id: "8086:10d3".parse().unwrap(),
        rom_bar_bytes: Some(128 * 1024),
        memory_bar_bytes: Some(128 * 1024),
    }
}

fn rom_bytes() -> Vec<u8> {
    fs::read("/usr/lib/ipxe/qemu/pxe-e1000e.rom").expect("Debian's ipxe-qemu is installed")
}

/// The ROM with other bytes in some of its blocks, and a right checksum.
fn other_rom(blocks: &[usize]) -> Vec<u8> {
    let mut rom = rom_bytes();
    for block in blocks {
        let at = block * BLOCK_BYTES + 0x900;
        for byte in &mut rom[at..at + 600] {
            *byte = byte.wrapping_add(77);
        }
    }
    let sum = rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    rom[6] = rom[6].wrapping_sub(sum);
    rom
}

/// Something everywhere, and a ROM in the region.
fn chip_with(rom: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = (0..CHIP_BYTES).map(|at| (at / 3 % 251) as u8).collect();
    content[REGION.start..REGION.start + rom.len()].copy_from_slice(rom);
    content
}

/// The chip after a successful write: the ROM, padded to its last block's end.
fn programmed(before: &[u8], rom: &[u8]) -> Vec<u8> {
    let mut content = before.to_vec();
    let end = rom.len().next_multiple_of(BLOCK_BYTES);
    content[REGION.start..REGION.start + end].fill(0xff);
    content[REGION.start..REGION.start + rom.len()].copy_from_slice(rom);
    content
}

fn wish<'a>(image: Image<'a>, card: &'a Card) -> Wish<'a> {
    Wish {
        image,
        region: Some(REGION),
        card,
        sha256: None,
        version: None,
        allow_downgrade: false,
        minimum_version: None,
    }
}

fn write(chip: &mut FakeChip, directory: &Path, image: Image<'_>) -> FlashReport {
    let card = card();
    write_wish(chip, directory, wish(image, &card))
}

fn write_wish(chip: &mut FakeChip, directory: &Path, wish: Wish<'_>) -> FlashReport {
    let store = Store::open(directory, "fake").unwrap();
    let run = Run {
        wish,
        card: "fake".to_owned(),
        programmer: "fake".to_owned(),
        store: &store,
        backup: None,
        allow_unprotect: false,
        events: &mut |_| (),
        after_backup: &mut |_| Ok(()),
    };
    reflash(chip, run)
}

/// In memory: every file that the store keeps is flushed.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// What firmware would make of the chip.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Absent,
    Complete,
    Torn(String),
}

fn seen(content: &[u8]) -> Seen {
    if content[REGION.start..REGION.start + 2] != [0x55, 0xaa] {
        return Seen::Absent;
    }
    match OptionRom::parse_start(&content[REGION.range()]) {
        Ok(_) => Seen::Complete,
        Err(error) => Seen::Torn(error.to_string()),
    }
}

#[test]
fn a_rom_is_written_with_its_neighbours_kept_and_the_old_chip_in_the_backup() {
    let (old, new) = (chip_with(&rom_bytes()), other_rom(&[0, 3, 9]));
    let directory = directory();
    let mut chip = FakeChip::holding(old.clone());
    let report = write(&mut chip, directory.path(), Image::Rom(&new));
    assert_eq!(report.outcome, FlashOutcome::Programmed);
    assert_eq!(report.blocks_changed, 4, "three blocks, and the padding of the last");
    assert!(chip.content == programmed(&old, &new));
    assert!(fs::read(report.backup.unwrap().path).unwrap() == old);
}

#[test]
fn an_identical_image_costs_one_read_and_nothing_else() {
    let content = programmed(&chip_with(&[]), &rom_bytes());
    let mut chip = FakeChip::holding(content);
    let report = write(&mut chip, directory().path(), Image::Rom(&rom_bytes()));
    assert_eq!(report.outcome, FlashOutcome::AlreadyProgrammed);
    assert_eq!((chip.bytes_read, chip.steps), (CHIP_BYTES, 0));
}

#[test]
fn what_is_refused_changes_nothing() {
    let rom = rom_bytes();
    let (card, other) = (card(), Card { id: "8086:1533".parse().unwrap(), ..card() });
    let good = wish(Image::Rom(&rom), &card);
    let unaligned = Region { start: REGION.start, end: REGION.start + 0x12600 };
    let beyond = Region { start: 0, end: CHIP_BYTES + BLOCK_BYTES };
    let small = Region { start: 0, end: 0x12000 };
    let backup = Image::Backup { content: &rom, header: 0 };
    let protected = WriteProtection::On {
        region: Region { start: REGION.end - 1, end: CHIP_BYTES },
        mode: "hardware".to_owned(),
    };
    let off = WriteProtection::Off;
    let cases = [
        ("ROM is for 8086:10d3", Wish { card: &other, ..good }, &off, None),
        ("does not begin and end", Wish { region: Some(unaligned), ..good }, &off, None),
        ("is not within the chip", Wish { region: Some(beyond), ..good }, &off, None),
        ("the region has room", Wish { region: Some(small), ..good }, &off, None),
        ("the backup has", Wish { image: backup, ..good }, &off, None),
        ("breaks rule 11", Wish { sha256: Some(sha256(b"")), ..good }, &off, None),
        ("write-protected (hardware)", good, &protected, None),
        ("two reads differ", good, &off, Some(Fault::FlakyRead(REGION.start + 5))),
    ];
    for (why, wish, protection, fault) in cases {
        let old = chip_with(&other_rom(&[2]));
        let mut chip = FakeChip::holding(old.clone());
        chip.protection = protection.clone();
        chip.faults.extend(fault);
        let report = write_wish(&mut chip, directory().path(), wish);
        assert!(report.outcome.to_string().starts_with("refused: "), "{:?}", report.outcome);
        assert!(report.outcome.to_string().contains(why), "{why}: {:?}", report.outcome);
        assert!(chip.content == old && chip.steps == 0, "{why}");
    }
}

/// An image of one block, of an EFI driver with a version, for the version guard.
fn versioned(version: &str) -> Vec<u8> {
    let mut rom = rom_bytes();
    let record = format!("iPXE\0\0{version}\0");
    rom[0x6000..0x6000 + record.len()].copy_from_slice(record.as_bytes());
    let sum = rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    rom[6] = rom[6].wrapping_sub(sum);
    rom
}

#[test]
fn an_older_rom_replaces_a_newer_one_only_when_asked_to() {
    let card = card();
    let (old, new) = (versioned("3.9.0"), versioned("3.10.0"));
    let mut chip = FakeChip::holding(chip_with(&new));
    let asked = wish(Image::Rom(&old), &card);
    let directory = directory();
    let refused = write_wish(&mut chip, directory.path(), asked);
    assert_eq!(
        refused.outcome.to_string(),
        "refused: the card has version 3.10.0, the ROM is 3.9.0 (--allow-downgrade); \
         nothing was written"
    );
    let wish = Wish { allow_downgrade: true, ..asked };
    assert_eq!(write_wish(&mut chip, directory.path(), wish).outcome, FlashOutcome::Programmed);
    let up = write(&mut chip, directory.path(), Image::Rom(&new));
    assert_eq!(up.outcome, FlashOutcome::Programmed);
}

#[test]
fn a_rom_that_says_no_version_has_the_one_that_is_said_of_it() {
    let (card, silent) = (card(), rom_bytes());
    let mut chip = FakeChip::holding(chip_with(&versioned("3.10.0")));
    for (version, exit_code) in [("3.9.0", 3), ("3.10.1", 0)] {
        let version = version.into();
        let wish = Wish { version: Some(&version), ..wish(Image::Rom(&silent), &card) };
        let report = write_wish(&mut chip, directory().path(), wish);
        assert_eq!(report.outcome.exit_code(), exit_code, "{}", report.outcome);
        assert_eq!(report.rom.and_then(|rom| rom.version), Some(version));
    }
}

#[test]
fn a_rom_that_is_recent_enough_stays() {
    let card = card();
    let (present, new) = (versioned("3.9.0"), versioned("3.10.0"));
    for (minimum, expected) in [
        ("3.8", FlashOutcome::RecentEnough { present: "3.9.0".into() }),
        ("3.9.0", FlashOutcome::RecentEnough { present: "3.9.0".into() }),
        ("3.9.1", FlashOutcome::Programmed),
    ] {
        let mut chip = FakeChip::holding(chip_with(&present));
        let minimum_version = minimum.into();
        let wish =
            Wish { minimum_version: Some(&minimum_version), ..wish(Image::Rom(&new), &card) };
        let report = write_wish(&mut chip, directory().path(), wish);
        assert_eq!(report.outcome, expected, "{minimum}");
    }
}

#[test]
fn nothing_is_erased_when_the_backup_cannot_be_passed_on() {
    let old = chip_with(&rom_bytes());
    let mut chip = FakeChip::holding(old.clone());
    let (directory, card, rom) = (directory(), card(), other_rom(&[1]));
    let store = Store::open(directory.path(), "fake").unwrap();
    let run = Run {
        wish: wish(Image::Rom(&rom), &card),
        card: "fake".to_owned(),
        programmer: "fake".to_owned(),
        store: &store,
        backup: None,
        allow_unprotect: false,
        events: &mut |_| (),
        after_backup: &mut |_| Err("no answer".to_owned()),
    };
    let report = reflash(&mut chip, run);
    assert!(matches!(report.outcome, FlashOutcome::Refused { .. }), "{report:?}");
    assert!(chip.content == old && chip.steps == 0);
}

/// Copies the journal and the backups, as they are when power is lost.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).ok();
        let target = to.join(path.file_name().unwrap());
        match text.filter(|_| path.extension().is_some_and(|extension| extension == "json")) {
            // The backup's path is absolute.
            Some(json) => {
                let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
                fs::write(target, json.replace(from, to)).unwrap();
            }
            None => drop(fs::copy(&path, target).unwrap()),
        }
    }
}

/// One run of the machine that ends with a loss of power; what it leaves.
fn run_until_power_loss(old: &[u8], new: &[u8], faults: &[Fault]) -> (Vec<u8>, TempDir, bool) {
    let (alive, left) = (directory(), directory());
    let mut chip = FakeChip::holding(old.to_vec());
    chip.faults = faults.to_vec();
    let lost = Rc::new(RefCell::new(false));
    let (from, to) = (alive.path().to_owned(), left.path().to_owned());
    let noticed = Rc::clone(&lost);
    chip.on_power_loss = Some(Box::new(move || {
        copy(&from, &to);
        *noticed.borrow_mut() = true;
    }));
    let _report = write(&mut chip, alive.path(), Image::Rom(new));
    let lost = *lost.borrow();
    (chip.content, left, lost)
}

/// Loses power before every step of a run with `faults`, and shows that the next run gets the
/// machine out of it, forwards and backwards. Returns how often power was lost.
fn power_is_lost_at_every_step(old: &[u8], new: &[u8], faults: &[Fault]) -> usize {
    let goal = programmed(old, new);
    for step in 0..10_000 {
        let all: Vec<Fault> = faults.iter().copied().chain([Fault::PowerLossAfter(step)]).collect();
        let (torn, left, lost) = run_until_power_loss(old, new, &all);
        if !lost {
            return step as usize;
        }
        assert!(!matches!(seen(&torn), Seen::Torn(_)), "step {step}: {:?}", seen(&torn));

        let mut chip = FakeChip::holding(torn.clone());
        let forwards = write(&mut chip, left.path(), Image::Rom(new));
        assert_eq!(forwards.outcome.exit_code(), 0, "step {step}: {:?}", forwards.outcome);
        assert!(chip.content == goal, "step {step}");

        let journal = store::journals(left.path()).remove(0);
        let backup = store::read_backup(&journal.backup).expect("a journal names its backup");
        assert!(backup == old, "step {step}: the first backup is kept");
        let mut chip = FakeChip::holding(torn);
        let image = Image::Backup { content: &backup, header: REGION.start };
        let backwards = write(&mut chip, left.path(), image);
        assert_eq!(backwards.outcome.exit_code(), 0, "step {step}: {:?}", backwards.outcome);
        assert!(chip.content == old, "step {step}");
    }
    panic!("the run does not end");
}

/// Contents between which the chip is moved: few blocks, the header too or not, no ROM before,
/// everything.
fn moves() -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![
        (chip_with(&rom_bytes()), other_rom(&[1, 4, 17])),
        (chip_with(&rom_bytes()), other_rom(&[0])),
        (vec![0xff; CHIP_BYTES], rom_bytes()),
        (vec![0; CHIP_BYTES], rom_bytes()),
    ]
}

#[test]
fn a_loss_of_power_at_any_erase_or_program_leaves_a_way_forwards_and_a_way_back() {
    let losses: usize =
        moves().iter().map(|(old, new)| power_is_lost_at_every_step(old, new, &[])).sum();
    println!("{losses} losses of power while writing");
    assert!(losses >= 400, "{losses}");
}

#[test]
fn a_loss_of_power_at_any_step_of_a_rollback_leaves_a_way_forwards_and_a_way_back() {
    let (old, new) = &moves()[0];
    let mut losses = 0;
    for fail_at in [1, 2, 20, 60] {
        losses += power_is_lost_at_every_step(old, new, &[Fault::FailAt(fail_at)]);
    }
    println!("{losses} losses of power around rollbacks");
    assert!(losses >= 150, "{losses}");
}

#[test]
fn a_failure_at_any_step_is_rolled_back() {
    let mut failures = 0;
    for (old, new) in moves() {
        let goal = programmed(&old, &new);
        for step in 1..10_000 {
            let mut chip = FakeChip::holding(old.clone()).with(Fault::FailAt(step));
            let report = write(&mut chip, directory().path(), Image::Rom(&new));
            if report.outcome == FlashOutcome::Programmed {
                assert!(chip.content == goal);
                break;
            }
            failures += 1;
            assert!(matches!(report.outcome, FlashOutcome::RolledBack { .. }), "{report:?}");
            assert!(chip.content == old, "step {step}");
        }
    }
    println!("{failures} failures rolled back");
    assert!(failures >= 400, "{failures}");
}

#[test]
fn a_chip_that_ignores_programs_is_degraded_without_a_header_and_the_backup_restores_it() {
    let (old, new) = (chip_with(&rom_bytes()), other_rom(&[4]));
    let directory = directory();
    let mut chip = FakeChip::holding(old.clone()).with(Fault::IgnorePrograms);
    let report = write(&mut chip, directory.path(), Image::Rom(&new));
    let FlashOutcome::Degraded { restore_from: Some(backup), .. } = &report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!(seen(&chip.content), Seen::Absent);
    let backup = fs::read(backup).unwrap();
    chip.faults.clear();
    let image = Image::Backup { content: &backup, header: REGION.start };
    assert_eq!(write(&mut chip, directory.path(), image).outcome, FlashOutcome::Programmed);
    assert!(chip.content == old);
}

#[test]
fn a_chip_that_changed_elsewhere_after_a_bad_end_wants_its_backup_first() {
    let (old, new) = (chip_with(&rom_bytes()), other_rom(&[4]));
    let directory = directory();
    let mut chip = FakeChip::holding(old).with(Fault::IgnorePrograms);
    let degraded = write(&mut chip, directory.path(), Image::Rom(&new));
    assert_eq!(degraded.outcome.exit_code(), 5);
    chip.faults.clear();
    chip.content[CHIP_BYTES - 1] ^= 1;
    let refused = write(&mut chip, directory.path(), Image::Rom(&new));
    assert!(refused.outcome.to_string().contains("restore that first"), "{refused:?}");
}

#[test]
fn the_chip_is_read_less_than_twice_when_few_blocks_change() {
    let (old, new) = (chip_with(&rom_bytes()), other_rom(&[4]));
    let mut chip = FakeChip::holding(old);
    let report = write(&mut chip, directory().path(), Image::Rom(&new));
    assert_eq!(report.outcome, FlashOutcome::Programmed);
    assert!(chip.bytes_read < CHIP_BYTES * 3 / 2, "{} of {CHIP_BYTES}", chip.bytes_read);
}
