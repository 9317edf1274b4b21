//! Processes that do not do what they should: the parent gets over each of them.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so"
)]
mod program;

use std::time::{Duration, Instant};

use flasher::chip::{ChipError, FlashChip as _};
use flasher::helper::Helper;
use flasher::programmer::Programmer;
use tempfile::TempDir;

/// A helper that is a shell script.
fn scripted(script: &str) -> (Helper, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("helper");
    program::write(&program, &format!("#!/bin/sh\n{script}\n"));
    (Helper::new(program, Programmer::LinuxMtd(0)), directory)
}

fn probe(script: &str, limit: Option<Duration>) -> ChipError {
    let (helper, _directory) = scripted(script);
    helper.limit(limit).probe().expect_err(script)
}

#[test]
fn a_process_without_a_result_is_an_error_that_tells_its_end() {
    for (script, end) in [
        ("kill -9 $$", "signal 9"),
        ("kill -11 $$", "signal 11"),
        ("exit 1", "exit code 1"),
        ("exit 0", "exit code 0"),
        ("echo nonsense", "it said \"nonsense\\n\""),
        ("printf '{\"Answer\":{\"Pro'", "it said \"{\\\"Answer\\\":{\\\"Pro\""),
        ("echo '{\"Answer\":\"Read\"}'", "it answered Read"),
        ("echo '{\"Answer\":\"Read\"}'; exit 3", "exit code 3"),
    ] {
        let error = probe(script, None);
        let ChipError::Died { how, .. } = &error else { panic!("{script}: {error:?}") };
        assert_eq!(how, end, "{script}");
    }
}

#[test]
fn a_process_that_says_nothing_is_killed_with_all_its_children() {
    let start = Instant::now();
    let error = probe("sleep 60 & sleep 60", Some(Duration::from_secs(1)));
    assert!(matches!(error, ChipError::TimedOut { .. }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_process_that_talks_without_end_has_the_same_limit() {
    let script = "while :; do echo '{\"Said\":\"x\"}'; done";
    let error = probe(script, Some(Duration::from_secs(1)));
    assert!(matches!(error, ChipError::TimedOut { .. }), "{error:?}");
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let mut helper = Helper::new("/nonexistent".into(), Programmer::LinuxMtd(0));
    assert!(matches!(helper.probe(), Err(ChipError::Process { .. })));
}

#[test]
fn an_mtd_device_that_is_not_there_is_an_error_of_the_programmer() {
    let program = env!("CARGO_BIN_EXE_flasher").into();
    let error = Helper::new(program, Programmer::LinuxMtd(99)).probe().unwrap_err();
    let ChipError::Programmer { programmer, said } = &error else { panic!("{error:?}") };
    assert_eq!(programmer, "linux_mtd");
    assert!(said.contains("mtd99 does not exist"), "{said}");
}
