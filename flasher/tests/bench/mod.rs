//! A simulated chip in a directory of its own, and the program that works on it.

use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use agent_types::flash_report::{FlashEvent, FlashReport};
use flasher::chip::Region;
use serde_json::Value;
use tempfile::TempDir;

pub const ROM: &str = "/usr/lib/ipxe/qemu/pxe-e1000e.rom";
pub const W25Q128: &str = "bus=spi,emulate=W25Q128FV";
pub const REGION: Region = Region { start: 0x10_0000, end: 0x12_0000 };
const CARD: &str = "8086:10d3";

/// Exit code of a simulated loss of power.
const CRASHED: i32 = 88;

pub struct Bench {
    directory: TempDir,
    parameters: String,
    region: Region,
    /// What the chip held at first.
    pub old: Vec<u8>,
}

pub fn rom() -> Vec<u8> {
    std::fs::read(ROM).expect("Debian's ipxe-qemu is installed")
}

/// The ROM with other bytes in some of its blocks, and a right checksum.
pub fn modified_rom(blocks: &[usize]) -> Vec<u8> {
    let mut rom = rom();
    for block in blocks {
        rom[block * 4096 + 0x900] ^= 0x5a;
    }
    let sum = rom.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    rom[6] = rom[6].wrapping_sub(sum);
    rom
}

impl Bench {
    pub fn new(parameters: &str) -> Self {
        Self::of_size(parameters, 16 << 20)
    }

    pub fn of_size(parameters: &str, size_bytes: usize) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        // Nothing repeats, so that a byte in the wrong place shows.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let old = (0..size_bytes)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        let bench = Self { directory, parameters: parameters.to_owned(), region: REGION, old };
        bench.set(&bench.old);
        bench
    }

    pub fn region(mut self, region: &str) -> Self {
        self.region = region.parse().unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn set(&self, content: &[u8]) {
        std::fs::write(self.path("chip.bin"), content).unwrap();
    }

    pub fn content(&self) -> Vec<u8> {
        std::fs::read(self.path("chip.bin")).unwrap()
    }

    pub fn is_unchanged(&self) {
        assert!(self.content() == self.old, "the chip was changed");
    }

    /// What the chip holds when `rom` was written to it.
    pub fn programmed(&self, rom: &[u8]) -> Vec<u8> {
        let mut content = self.old.clone();
        let block = if self.old.len() > 1 << 20 { 4096 } else { 32 * 1024 };
        let block = if self.parameters.contains("VARIABLE") { self.old.len() } else { block };
        let (start, end) =
            (self.region.start, self.region.start + rom.len().next_multiple_of(block));
        content[start..end].fill(0xff);
        content[start..start + rom.len()].copy_from_slice(rom);
        content
    }

    pub fn card(&self) -> String {
        self.card_with(&self.parameters)
    }

    fn card_with(&self, parameters: &str) -> String {
        if !parameters.contains("emulate") {
            return format!("dummy:{parameters}");
        }
        format!("dummy:{parameters},image={}", self.path("chip.bin").display())
    }

    pub fn flasher(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_flasher"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .args(arguments)
            .output()
            .unwrap()
    }

    fn write_output(&self, rom: &[u8], extra: &[&str]) -> Output {
        let file = self.path("new.rom");
        std::fs::write(&file, rom).unwrap();
        let (card, region) = (self.card(), self.region.to_string());
        let arguments = [
            &["write", "--json", "--pci-id", CARD, "--card", &card, "--region", &region, "--rom"],
            &[file.to_str().unwrap()][..],
            extra,
        ]
        .concat();
        self.flasher(&arguments)
    }

    pub fn write_lines(&self, rom: &[u8], extra: &[&str]) -> Vec<Value> {
        lines(&self.write_output(rom, extra))
    }

    pub fn write(&self, rom: &[u8], extra: &[&str]) -> FlashReport {
        report(&self.write_output(rom, extra))
    }

    /// Did the run end in a simulated loss of power?
    pub fn write_crashes(&self, rom: &[u8], extra: &[&str]) -> bool {
        self.write_output(rom, extra).status.code() == Some(CRASHED)
    }

    /// Restores what the journal names, through a programmer that works.
    pub fn restore(&self, parameters: &str) -> FlashReport {
        let backup = self.backups().remove(0);
        self.restore_file(parameters, &backup)
    }

    /// Restores the backup of the run before the last: the second that was made.
    pub fn restore_earliest(&self, parameters: &str) -> FlashReport {
        let backup = self.backups().remove(1);
        self.restore_file(parameters, &backup)
    }

    fn restore_file(&self, parameters: &str, backup: &str) -> FlashReport {
        let card = self.card_with(parameters);
        report(&self.flasher(&["restore", "--json", "--card", &card, "--backup", backup]))
    }

    /// Backups, the oldest first.
    fn backups(&self) -> Vec<String> {
        let mut files: Vec<_> = std::fs::read_dir(self.path("state"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "bin"))
            .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| path.display().to_string()).collect()
    }

    /// What Debian's flashrom reads from the chip.
    pub fn flashrom_reads(&self) -> Vec<u8> {
        let file = self.path("read.bin");
        let programmer = self.card();
        let output = Command::new("flashrom")
            .args(["-p", &programmer, "-r", file.to_str().unwrap()])
            .output()
            .expect("Debian's flashrom is installed");
        assert!(output.status.success(), "{output:?}");
        std::fs::read(file).unwrap()
    }
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn report(output: &Output) -> FlashReport {
    let text = String::from_utf8_lossy(&output.stdout);
    let event = text.lines().last().map(serde_json::from_str);
    let Some(Ok(FlashEvent::Report(report))) = event else {
        panic!("{:?} {:?}", text.lines().last(), String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!(output.status.code(), Some(report.outcome.exit_code().into()));
    *report
}

/// Runs `work` on each number, some at a time, until it says that there is no more. Returns how
/// often it said that there was.
pub fn in_parallel(
    threads: usize,
    numbers: Range<u32>,
    work: impl Fn(u32) -> bool + Sync,
) -> usize {
    let next = AtomicUsize::new(numbers.start as usize);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Ok(n) = u32::try_from(next.fetch_add(1, Ordering::SeqCst)) {
                    if !numbers.contains(&n) || !work(n) {
                        return;
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    done.into_inner()
}
