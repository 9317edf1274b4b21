//! How long a write takes, beside Debian's `flashrom -w`, on a chip with a simulated clock.
//!
//! Run with `--ignored`, on an idle machine and in a release build: it takes minutes.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so"
)]
#![cfg(feature = "dummy")]
#![expect(unreachable_pub, dead_code, reason = "a test has no users, and shares its bench")]

mod bench;

use std::process::Command;
use std::time::{Duration, Instant};

use agent_types::flash_report::FlashOutcome;
use bench::{Bench, rom};

const CHIP_BYTES: usize = 16 << 20;
const BLOCK_BYTES: usize = 4096;
/// 1 MB in a second, the fastest that it simulates: a whole read takes 17 s.
const CLOCK: &str = "bus=spi,emulate=W25Q128FV,freq=8MHz";

/// A ROM that fills the chip: a BIOS image, and a payload that nobody looks into.
fn whole_chip_rom(filling: &[u8]) -> Vec<u8> {
    let mut rom = rom();
    let (bios_bytes, pcir) = (rom.len(), 0x1c);
    rom[pcir + 21] = 0;
    let sum = rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    rom[6] = rom[6].wrapping_sub(sum);
    rom.extend_from_slice(&filling[bios_bytes..]);
    let payload = &mut rom[bios_bytes..];
    let blocks = u16::try_from(payload.len() / 512).unwrap();
    payload[..2].copy_from_slice(&[0x55, 0xaa]);
    payload[0x18..0x1a].copy_from_slice(&[0x1c, 0]);
    let mut structure = *b"PCIR\x86\x80\xd3\x10\0\0\x18\0\0\0\0\x02\0\0\0\0\xff\x80\0\0";
    structure[16..18].copy_from_slice(&blocks.to_le_bytes());
    payload[0x1c..0x1c + structure.len()].copy_from_slice(&structure);
    rom
}

/// One block in twenty gets other bytes.
fn with_changes(rom: &[u8]) -> Vec<u8> {
    let mut changed = rom.to_vec();
    for block in (40..CHIP_BYTES / BLOCK_BYTES).step_by(20) {
        for byte in &mut changed[block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES] {
            *byte = byte.wrapping_add(1);
        }
    }
    changed
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "takes minutes, and wants an idle machine"]
fn a_write_of_few_changes_is_no_slower_than_flashrom_although_it_is_read_back_twice() {
    let bench = Bench::new(CLOCK).region("0:ffffff");
    let old = whole_chip_rom(&bench.old);
    let new = with_changes(&old);
    let file = bench.path("flashrom.rom");
    std::fs::write(&file, &new).unwrap();
    let (mut ours, mut theirs, mut identical, mut reads) = (vec![], vec![], vec![], vec![]);
    for _ in 0..3 {
        bench.set(&old);
        let (report, time) = timed(|| bench.write(&new, &[]));
        assert_eq!(report.outcome, FlashOutcome::Programmed);
        ours.push(time);
        assert!(bench.content() == new);

        let (report, time) = timed(|| bench.write(&new, &[]));
        assert_eq!(report.outcome, FlashOutcome::AlreadyProgrammed);
        identical.push(time);
        reads.push(timed(|| bench.flashrom_reads()).1);

        bench.set(&old);
        let flashrom = || {
            Command::new("flashrom")
                .args(["-p", &bench.card(), "-w", file.to_str().unwrap()])
                .output()
                .unwrap()
        };
        let (output, time) = timed(flashrom);
        assert!(output.status.success(), "{output:?}");
        theirs.push(time);
        assert!(bench.content() == new);
    }
    let [ours, theirs, identical, read] = [ours, theirs, identical, reads].map(median);
    println!("5 % changed: ours {ours:?}, flashrom -w {theirs:?}");
    println!("identical: ours {identical:?}, flashrom -r {read:?}");
    assert!(ours.as_secs_f64() <= 1.05 * theirs.as_secs_f64());
    assert!(identical.as_secs_f64() <= 1.2 * read.as_secs_f64());
}
