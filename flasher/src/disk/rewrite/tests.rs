use super::*;
use crate::disk::fake::{FakeDisk, Fault, LEFT, Left, SECTOR_BYTES, stick};
use std::fs;
use tempfile::TempDir;

const MIB: usize = 1 << 20;
const DISK_BYTES: usize = 2 * MIB + (64 << 10);
const SECTOR: usize = SECTOR_BYTES as usize;
/// What firmware looks for: a boot sector, a GPT, a CD that can be started, and the GPT's second header.
const SIGNS: [(usize, &[u8]); 4] = [
    (510, &[0x55, 0xaa]),
    (512, b"EFI PART"),
    (32 << 10, b"\x01CD001"),
    (DISK_BYTES - SECTOR, b"EFI PART"),
];

/// Something everywhere that no other place has, and all signs that fit.
fn bootable(length: usize, seed: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|at| ((at / 3 + seed * 7) % 251) as u8).collect();
    for (at, sign) in SIGNS {
        if at + sign.len() <= length {
            bytes[at..at + sign.len()].copy_from_slice(sign);
        }
    }
    bytes
}

/// A change in one byte of each of these.
fn changed(image: &[u8], places: &[usize]) -> Vec<u8> {
    let mut image = image.to_vec();
    places.iter().for_each(|&at| image[at] ^= 0xff);
    image
}

/// What the disk holds when all went well.
fn programmed(old: &[u8], image: &[u8]) -> Vec<u8> {
    let mut content = old.to_vec();
    content[..image.len().next_multiple_of(SECTOR)].fill(0);
    content[..image.len()].copy_from_slice(image);
    if image.len() < old.len() {
        content[DISK_BYTES - SECTOR..].fill(0);
    }
    content
}

/// A machine's files: the image, and the backup's place.
struct Bench(TempDir);

impl Bench {
    fn new(image: &[u8]) -> Self {
        let bench = Self(tempfile::tempdir_in("/dev/shm").unwrap());
        fs::write(bench.0.path().join("image"), image).unwrap();
        fs::write(bench.0.path().join("meminfo"), "MemAvailable: 99999999 kB\n").unwrap();
        bench
    }

    /// One run, on the disk as it finds it.
    fn write(&self, device: &mut FakeDisk) -> FlashReport {
        self.write_expecting(device, None)
    }

    fn write_expecting(&self, device: &mut FakeDisk, sha256: Option<Sha256Digest>) -> FlashReport {
        let image = Image::open(&self.0.path().join("image")).unwrap();
        let unfinished = marker::read(&device.medium[..SECTOR]);
        let size_bytes = device.medium.len() as u64;
        let disk = Disk { unfinished, size_bytes, ..stick() };
        let wish = Wish {
            disk: &disk,
            image: &image,
            sha256,
            backup: None,
            state_dir: self.0.path(),
            meminfo: &self.0.path().join("meminfo"),
        };
        rewrite(device, &wish, &mut |_| ())
    }

    fn restore(&self, device: &mut FakeDisk, backup: &str) -> FlashReport {
        let disk = Disk { size_bytes: device.medium.len() as u64, ..stick() };
        restore(device, &disk, Path::new(backup), &mut |_| ())
    }
}

/// What a machine would make of the disk.
fn check_never_torn(content: &[u8], old: &[u8], new: &[u8], what: &str) {
    let is_there = |(at, sign): &(usize, &[u8])| content[*at..].starts_with(sign);
    if is_there(&SIGNS[0]) {
        let complete = content == old || content == new;
        assert!(complete, "{what}: a boot sector on a disk that is neither old nor new");
    } else if SIGNS.iter().any(is_there) {
        // Without its boot sector, and perhaps without some of the signs, all else is there.
        let body = |disk: &[u8]| {
            let last = disk.len() - SECTOR;
            [&disk[8192..32 << 10], &disk[40 << 10..last]].concat()
        };
        let complete = body(content) == body(old) || body(content) == body(new);
        assert!(complete, "{what}: a sign on a disk whose content is neither old nor new");
    }
}

/// Disks and images: few changes, all, only the head, a whole disk, a smaller image with a GPT's second
/// header left behind, nothing on the disk before.
fn moves() -> Vec<(Vec<u8>, Vec<u8>)> {
    let old = bootable(DISK_BYTES, 0);
    let other = bootable(DISK_BYTES, 1);
    vec![
        (old.clone(), changed(&old, &[MIB + 5, DISK_BYTES - SECTOR - 1])),
        (old.clone(), changed(&old, &[9000])),
        (old.clone(), changed(&old, &[MIB])),
        (old.clone(), other.clone()),
        (old.clone(), other[..MIB + 5000].to_vec()),
        (vec![0; DISK_BYTES], other[..MIB + 512].to_vec()),
        (vec![0xff; DISK_BYTES], other),
    ]
}

#[test]
fn a_disk_is_rewritten_and_what_it_held_is_in_the_backup() {
    for (old, image) in moves() {
        let (bench, mut device) = (Bench::new(&image), FakeDisk::holding(old.clone()));
        let report = bench.write(&mut device);
        assert_eq!(report.outcome, FlashOutcome::Programmed);
        assert!(device.medium == programmed(&old, &image));
        let digests = (report.previous.unwrap().sha256, report.rom.unwrap().sha256);
        assert_eq!(digests, (sha256(&old[..image.len()]), sha256(&image)));
        let back = bench.restore(&mut device, &report.backup.unwrap().path);
        assert_eq!(back.outcome, FlashOutcome::Programmed);
        assert!(device.medium == old);
    }
}

#[test]
fn an_identical_image_writes_nothing() {
    let disk = bootable(DISK_BYTES, 0);
    let mut device = FakeDisk::holding(disk.clone());
    let report = Bench::new(&disk[..2 * MIB]).write(&mut device);
    assert_eq!((report.outcome, device.steps), (FlashOutcome::AlreadyProgrammed, 0));
    assert_eq!(report.backup, None);
}

#[test]
fn only_what_changes_is_written_and_kept() {
    let (old, image) = moves().remove(2);
    let (bench, mut device) = (Bench::new(&image), FakeDisk::holding(old));
    let report = bench.write(&mut device);
    // The head twice, the changed MiB, and the second header of the GPT twice.
    assert_eq!(device.bytes_written, 3 * MIB + 2 * SECTOR);
    let backup = Backup::open(Path::new(&report.backup.unwrap().path)).unwrap();
    assert_eq!(backup.header.need_bytes(), (2 * MIB + SECTOR) as u64);
}

#[test]
fn what_is_refused_changes_nothing() {
    let image = bootable(DISK_BYTES, 1);
    let large = vec![0; DISK_BYTES + 1];
    let flaky = Some(Fault::FlakyRead(2 * MIB as u64));
    let digest = sha256(b"another");
    for (why, image, fault, sha256) in [
        ("the image has 2162689 bytes, and the disk 2162688", &large[..], None, None),
        ("expected an image of at least 1048576 bytes, got 1000", &image[..1000], None, None),
        ("two reads differ in the 65536 bytes from byte 2097152", &image[..], flaky, None),
        ("expected an image with sha256 ", &image[..], None, Some(digest)),
    ] {
        let old = bootable(DISK_BYTES, 0);
        let mut device = FakeDisk::holding(old.clone());
        device.faults.extend(fault);
        let report = Bench::new(image).write_expecting(&mut device, sha256);
        let FlashOutcome::Refused { why: got } = &report.outcome else { panic!("{report:?}") };
        assert!(got.contains(why), "{got}");
        assert!(device.medium == old && device.steps == 0, "{why}");
    }
}

#[test]
fn without_room_for_the_backup_nothing_is_written() {
    let (old, image) = moves().remove(3);
    let (bench, mut device) = (Bench::new(&image), FakeDisk::holding(old.clone()));
    fs::write(bench.0.path().join("meminfo"), "MemAvailable: 18000 kB\n").unwrap();
    let report = bench.write(&mut device);
    let expected = "refused: the backup needs 2162688 bytes, and ";
    assert!(report.outcome.to_string().starts_with(expected), "{:?}", report.outcome);
    assert!(report.outcome.to_string().contains(" has 1654784 "), "{:?}", report.outcome);
    assert!(device.medium == old && device.steps == 0);
}

/// Loses power at every write and flush of a run with `faults`, with every kind of rest, and shows
/// that the next run finishes. Returns how often power was lost.
fn power_is_lost_at_every_step(old: &[u8], image: &[u8], faults: &[Fault]) -> usize {
    let new = programmed(old, image);
    let mut losses = 0;
    for step in 1..1000 {
        for left in LEFT {
            let (bench, mut device) = (Bench::new(image), FakeDisk::holding(old.to_vec()));
            device.faults = faults.to_vec();
            device.faults.push(Fault::PowerLossAt(step, left));
            let _report = bench.write(&mut device);
            if device.steps < step {
                return losses;
            }
            if !device.dead {
                continue;
            }
            losses += 1;
            let what = format!("step {step}, {left:?}");
            check_never_torn(&device.medium, old, &new, &what);
            let mut next = FakeDisk::holding(device.medium);
            let report = bench.write(&mut next);
            assert_eq!(report.outcome.exit_code(), 0, "{what}: {:?}", report.outcome);
            assert!(next.medium[..image.len()] == *image, "{what}");
        }
    }
    panic!("the run does not end");
}

#[test]
fn a_loss_of_power_at_any_write_leaves_nothing_to_start_from_or_all_and_the_next_run_finishes() {
    let losses: usize =
        moves().iter().map(|(old, image)| power_is_lost_at_every_step(old, image, &[])).sum();
    println!("{losses} losses of power while writing");
    assert!(losses >= 400, "{losses}");
}

#[test]
fn a_loss_of_power_at_any_write_of_a_rollback_leaves_nothing_to_start_from_or_all() {
    let (old, image) = &moves()[3];
    let mut losses = 0;
    for fail_at in [2, 5, 9, 12] {
        losses += power_is_lost_at_every_step(old, image, &[Fault::FailAt(fail_at)]);
    }
    println!("{losses} losses of power around rollbacks");
    assert!(losses >= 200, "{losses}");
}

#[test]
fn a_failure_at_any_write_is_rolled_back() {
    let mut failures = 0;
    for (old, image) in moves() {
        for step in 1..1000 {
            let (bench, device) = (Bench::new(&image), FakeDisk::holding(old.clone()));
            let mut device = device.with(Fault::FailAt(step));
            let report = bench.write(&mut device);
            if report.outcome == FlashOutcome::Programmed {
                break;
            }
            failures += 1;
            assert!(matches!(report.outcome, FlashOutcome::RolledBack { .. }), "{report:?}");
            assert!(device.medium == old, "step {step}");
        }
    }
    println!("{failures} failures rolled back");
    assert!(failures >= 80, "{failures}");
}

#[test]
fn a_disk_that_stops_to_take_writes_is_degraded_and_the_backup_restores_it() {
    let (old, image) = moves().remove(3);
    let new = programmed(&old, &image);
    for (step, fault) in
        [(5, Fault::FailFrom(5)), (12, Fault::FailFrom(12)), (9, Fault::VanishAt(9))]
    {
        let (bench, device) = (Bench::new(&image), FakeDisk::holding(old.clone()));
        let mut device = device.with(fault);
        let report = bench.write(&mut device);
        let FlashOutcome::Degraded { restore_from: Some(backup), .. } = &report.outcome else {
            panic!("{report:?}")
        };
        check_never_torn(&device.medium, &old, &new, &format!("step {step}"));
        let mut device = FakeDisk::holding(device.medium);
        assert_eq!(bench.restore(&mut device, backup).outcome, FlashOutcome::Programmed);
        assert!(device.medium == old);
    }
}

#[test]
fn a_disk_that_ignores_writes_holds_what_it_held() {
    let (old, image) = moves().remove(3);
    let mut device = FakeDisk::holding(old.clone()).with(Fault::IgnoreWrites);
    let report = Bench::new(&image).write(&mut device);
    let expected = "rolled back: read back: byte 0 is not what was written";
    assert!(report.outcome.to_string().starts_with(expected), "{:?}", report.outcome);
    assert!(device.medium == old);
}

#[test]
fn an_unfinished_disk_that_fails_again_stays_unfinished_and_names_the_first_backup() {
    let (old, image) = moves().remove(3);
    let (bench, device) = (Bench::new(&image), FakeDisk::holding(old.clone()));
    let mut first = device.with(Fault::PowerLossAt(9, Left::All));
    let _report = bench.write(&mut first);
    let mut second = FakeDisk::holding(first.medium).with(Fault::FailAt(9));
    let report = bench.write(&mut second);
    let FlashOutcome::Degraded { restore_from: Some(backup), .. } = &report.outcome else {
        panic!("{report:?}")
    };
    let mut device = FakeDisk::holding(second.medium);
    assert_eq!(bench.restore(&mut device, backup).outcome, FlashOutcome::Programmed);
    assert!(device.medium == old);
}

#[test]
fn a_backup_of_another_disk_is_not_restored() {
    let (old, image) = moves().remove(3);
    let (bench, mut device) = (Bench::new(&image), FakeDisk::holding(old));
    let backup = bench.write(&mut device).backup.unwrap().path;
    let mut other = FakeDisk::holding(vec![0; 8 * MIB]);
    let report = bench.restore(&mut other, &backup);
    let expected = "refused: the backup is of sda bus=usb size=2162688";
    assert!(report.outcome.to_string().starts_with(expected), "{:?}", report.outcome);
    assert_eq!(other.steps, 0);
}
