//! The procedure for ConnectX-3 cards, with a program in place of `mstflint` that keeps a ROM in a
//! file and fails on demand. No card, and nothing of `mstflint` itself, was tried.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use agent_types::flash_report::{BackupSummary, FlashOutcome, FlashReport};
use agent_types::rom::{Card, sha256};
use flasher::mstflint::Mstflint;
use flasher::mstflint::procedure::{Run, Wish, rewrite};
use tempfile::TempDir;

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
}

fn rom() -> Vec<u8> {
    fs::read("/usr/lib/ipxe/qemu/pxe-e1000e.rom").expect("Debian's ipxe-qemu is installed")
}

impl Bench {
    fn new(fault: &str) -> Self {
        let bench =
            Self { directory: tempfile::tempdir().unwrap(), old: b"some other ROM".to_vec() };
        let program = bench.path("mstflint");
        fs::write(&program, SCRIPT).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
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

    fn write(&self, card: &str) -> FlashReport {
        let program = self.path("mstflint");
        let card = Card { id: card.parse().unwrap(), rom_bar_bytes: None, memory_bar_bytes: None };
        let address = "0000:03:00.0".parse().unwrap();
        let mut section = Mstflint::new(address, self.directory.path())
            .programs(&program, &program)
            .limit(Some(Duration::from_secs(2)));
        let rom = rom();
        let wish = Wish {
            rom: &rom,
            card: &card,
            allow_downgrade: false,
            minimum_version: None,
            sha256: None,
        };
        let mut keep = |content: &[u8]| {
            fs::write(self.path("backup"), content).map_err(|error| error.to_string())?;
            let path = self.path("backup").display().to_string();
            Ok(BackupSummary { path, sha256: sha256(content) })
        };
        let name = "mst:0000:03:00.0".to_owned();
        let run = Run { wish, card: name, keep: &mut keep, events: &mut |_| () };
        rewrite(&mut section, run)
    }
}

#[test]
fn a_rom_is_written_read_back_and_enabled() {
    let bench = Bench::new("none");
    assert_eq!(bench.write("8086:10d3").outcome, FlashOutcome::Programmed);
    assert_eq!(bench.content(), rom());
    assert_eq!(fs::read(bench.path("backup")).unwrap(), bench.old);
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
