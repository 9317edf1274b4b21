//! The procedure for ConnectX-3 cards, with a program in place of `mstflint` that keeps a ROM in a
//! file and fails on demand. No card, and nothing of `mstflint` itself, was tried.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so"
)]

mod program;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use agent_types::flash_report::{FlashOutcome, FlashReport};
use agent_types::rom::{Card, sha256};
use flasher::decide::{Image, Wish};
use flasher::flash::Run;
use flasher::mstflint::procedure::{Intent, preview, rewrite};
use flasher::mstflint::{MSTFLINT, Mstflint, NAME, RomSection as _};
use flasher::store::{Journal, Store, read_backup};
use tempfile::TempDir;

const CARD: &str = "mst:0000:03:00.0";

/// Speaks as mstflint 4.21 does. `$1` to `$3` are `-d`, the address and `-y`.
const SCRIPT: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >> calls
shift 3
case "$*" in
"rrom "*) cp rom "$2" ;;
"--allow_rom_change brom "*)
    echo x >> burns
    case "$(cat fault)" in
    refuse) echo "-E- Burn ROM failed: it is broken"; exit 1 ;;
    once) if [ "$(wc -l < burns)" = 1 ]; then head -c 100 "$3" > rom; echo "-E- it broke"; exit 1; fi ;;
    always) head -c 100 "$3" > rom; echo "-E- it broke"; exit 1 ;;
    silent) if [ "$(wc -l < burns)" = 1 ]; then head -c 100 "$3" > rom; exit 0; fi ;;
    hang) sleep 60 ;;
    esac
    cp "$3" rom ;;
verify | "set "*) ;;
*) echo "-E- Invalid command"; exit 1 ;;
esac
"#;

struct Bench {
    directory: TempDir,
    old: Vec<u8>,
    /// How it ends that the backup is passed on.
    backup_end: Result<(), &'static str>,
}

fn rom() -> Vec<u8> {
    fs::read("/usr/lib/ipxe/qemu/pxe-e1000e.rom").expect("Debian's ipxe-qemu is installed")
}

impl Bench {
    fn new(fault: &str) -> Self {
        let bench = Self {
            directory: tempfile::tempdir().unwrap(),
            old: b"some other ROM".repeat(20),
            backup_end: Ok(()),
        };
        let program = bench.path("mstflint");
        program::write(&program, SCRIPT);
        fs::write(bench.path("fault"), fault).unwrap();
        fs::write(bench.path("rom"), &bench.old).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.path("rom")).unwrap()
    }

    fn section(&self) -> Mstflint {
        let program = self.path("mstflint");
        Mstflint::new("0000:03:00.0".parse().unwrap(), self.directory.path())
            .programs(&program, &program)
            .limit(Some(Duration::from_secs(2)))
    }

    /// What is done with `image` for a card of this kind.
    fn with_run<T>(&self, id: &str, image: Image<'_>, work: impl FnOnce(Run<'_>) -> T) -> T {
        let card = Card { id: id.parse().unwrap(), rom_bar_bytes: None, memory_bar_bytes: None };
        let wish = Wish {
            image,
            region: None,
            card: &card,
            sha256: None,
            version: None,
            allow_downgrade: false,
            minimum_version: None,
        };
        work(Run {
            wish,
            card: CARD.to_owned(),
            programmer: NAME.to_owned(),
            store: &self.store(),
            backup: None,
            allow_unprotect: false,
            events: &mut |_| (),
            after_backup: &mut |_| self.backup_end.map_err(str::to_owned),
        })
    }

    fn store(&self) -> Store {
        Store::open(self.directory.path(), CARD).unwrap()
    }

    fn write(&self, id: &str) -> FlashReport {
        self.with_run(id, Image::Rom(&rom()), |run| rewrite(&mut self.section(), run))
    }

    /// What `restore` does without being told a backup.
    fn restore(&self) -> FlashReport {
        let content = read_backup(&self.journal().backup).unwrap();
        let image = Image::Backup { content: &content, header: 0 };
        self.with_run("8086:10d3", image, |run| rewrite(&mut self.section(), run))
    }

    fn journal(&self) -> Journal {
        self.store().journal().unwrap()
    }

    fn fault(&self, fault: &str) {
        fs::write(self.path("fault"), fault).unwrap();
        fs::write(self.path("burns"), "").unwrap();
    }
}

#[test]
fn a_rom_is_written_read_back_and_enabled() {
    let bench = Bench::new("none");
    assert_eq!(bench.write("8086:10d3").outcome, FlashOutcome::Programmed);
    assert_eq!(bench.content(), rom());
    let journal = bench.journal();
    assert_eq!(read_backup(&journal.backup), Some(bench.old.clone()));
    assert_eq!(journal.outcome, Some(FlashOutcome::Programmed));
    assert_eq!(journal.target_sha256, sha256(&rom()));
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    let settings = "-d 0000:03:00.0 -y set BOOT_OPTION_ROM_EN_P1=True LEGACY_BOOT_PROTOCOL_P1=PXE";
    assert!(calls.lines().any(|call| call == settings), "{calls}");
    assert_eq!(bench.write("8086:10d3").outcome, FlashOutcome::AlreadyProgrammed);
}

#[test]
fn a_rom_for_another_card_is_refused() {
    let bench = Bench::new("none");
    let FlashOutcome::Refused { why } = bench.write("15b3:1003").outcome else { panic!() };
    assert_eq!(why, "the ROM breaks rule 4: ROM is for 8086:10d3, the card is 15b3:1003");
    assert_eq!(bench.content(), bench.old);
}

#[test]
fn a_backup_is_restored_without_touching_the_settings() {
    let bench = Bench::new("none");
    assert_eq!(bench.write("8086:10d3").outcome, FlashOutcome::Programmed);
    fs::write(bench.path("calls"), "").unwrap();
    assert_eq!(bench.restore().outcome, FlashOutcome::Programmed);
    assert_eq!(bench.content(), bench.old);
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    assert!(!calls.contains(" set "), "{calls}");
}

#[test]
fn a_run_that_was_cut_off_keeps_its_backup_and_the_next_one_goes_on_or_back() {
    for goes_on in [true, false] {
        let bench = Bench::new("always");
        let FlashOutcome::Degraded { .. } = bench.write("8086:10d3").outcome else { panic!() };
        assert_ne!(bench.content(), bench.old);
        bench.fault("none");
        let (end, content) = if goes_on {
            (bench.write("8086:10d3").outcome, rom())
        } else {
            (bench.restore().outcome, bench.old.clone())
        };
        assert_eq!(end, FlashOutcome::Programmed);
        assert_eq!(bench.content(), content);
        // Not what the failed run had left.
        assert_eq!(read_backup(&bench.journal().backup), Some(bench.old));
    }
}

#[test]
fn without_a_backup_nothing_is_burnt() {
    let bench = Bench { backup_end: Err("nobody took it"), ..Bench::new("none") };
    let FlashOutcome::Refused { why } = bench.write("8086:10d3").outcome else { panic!() };
    assert_eq!(why, "cannot store the backup: nobody took it");
    assert!(!bench.path("burns").exists());
    assert!(bench.store().journal().is_none());
}

#[test]
fn a_dry_run_reads_and_burns_nothing() {
    let bench = Bench::new("none");
    let look =
        |id: &str| bench.with_run(id, Image::Rom(&rom()), |run| preview(&mut bench.section(), run));
    assert_eq!(look("8086:10d3"), Ok(Intent::Burn));
    assert!(look("15b3:1003").is_err());
    assert!(!bench.path("burns").exists());
    assert_eq!(bench.content(), bench.old);
    assert_eq!(bench.write("8086:10d3").outcome, FlashOutcome::Programmed);
    assert_eq!(look("8086:10d3"), Ok(Intent::UpToDate));
}

/// Debian's mstflint, in a machine without such a card.
#[test]
fn the_real_program_understands_every_command_and_its_reason_is_told() {
    let bench = Bench::new("none");
    let mut card = Mstflint::new("0000:ff:1f.7".parse().unwrap(), bench.directory.path());
    let no_card = "exit status: 1: -E- Cannot open Device: 0000:ff:1f.7. No such file or \
                   directory. MFE_CR_ERROR";
    let no_config = "exit status: 3: -E- Failed to open the device";
    for (end, expected) in [
        (card.read().map(drop), no_card),
        (card.write(&rom()), no_card),
        (card.verify(), "AN HCA DEVICE CAN NOT BOOT FROM THIS IMAGE"),
        (card.enable(), no_config),
    ] {
        let error = end.unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
    // A command that it does not know ends otherwise.
    let output = std::process::Command::new(MSTFLINT).args(["-d", "x", "-y", "burn-rom"]).output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(said.contains("Invalid command: burn-rom"), "{said}");
}

#[test]
fn what_fails_once_is_rolled_back_and_what_fails_always_names_the_backup() {
    for (fault, rolled_back) in
        [("refuse", true), ("once", true), ("silent", true), ("always", false), ("hang", true)]
    {
        let bench = Bench::new(fault);
        match bench.write("8086:10d3").outcome {
            FlashOutcome::RolledBack { .. } if rolled_back => {
                assert_eq!(bench.content(), bench.old, "{fault}");
            }
            FlashOutcome::Degraded { restore_from: Some(path), .. } if !rolled_back => {
                assert_eq!(fs::read(path).unwrap(), bench.old, "{fault}");
            }
            other => panic!("{fault}: {other:?}"),
        }
    }
}
