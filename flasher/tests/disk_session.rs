//! The process that has a disk open, on files in place of disks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod program;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flasher::disk::device::{BlockDevice as _, DiskError, Extent, Geometry};
use flasher::disk::operation::Access;
use flasher::disk::session::Session;

const SIZE_BYTES: u64 = 4 << 20;

/// Not in memory: tmpfs has a cache that nothing goes past.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let file = OpenOptions::new().create_new(true).write(true).open(bench.disk()).unwrap();
        file.set_len(SIZE_BYTES).unwrap();
        bench
    }

    fn disk(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn session(&self, access: Access) -> Session {
        Session::new(env!("CARGO_BIN_EXE_flasher").into(), self.disk(), access, 512)
    }

    /// In place of the flasher.
    fn program(&self, script: &str) -> PathBuf {
        let path = self.0.path().join("program");
        program::write(&path, &format!("#!/bin/sh\n{script}\n"));
        path
    }
}

const fn extent(at: u64, length: u64) -> Extent {
    Extent { at, length }
}

#[test]
fn what_is_written_is_read_by_the_next_process() {
    let bench = Bench::new();
    let mut session = bench.session(Access::Write);
    assert_eq!(session.reopen(), Ok(Geometry { size_bytes: SIZE_BYTES, sector_bytes: 512 }));
    session.write(1 << 20, vec![7; 1 << 20]).unwrap();
    session.write(512, vec![8; 512]).unwrap();
    session.flush().unwrap();
    session.reopen().unwrap();
    assert!(session.read(extent(1 << 20, 1 << 20)).unwrap() == vec![7; 1 << 20]);
    assert!(session.read(extent(0, 1536)).unwrap()[512..1024] == [8; 512]);
}

#[test]
fn what_fails_is_told_and_the_process_goes_on() {
    let bench = Bench::new();
    let mut session = bench.session(Access::ReadOnly);
    session.reopen().unwrap();
    let failed = |operation: &str, why: &str| DiskError::Failed {
        operation: operation.to_owned(),
        why: why.to_owned(),
    };
    let beyond = session.read(extent(SIZE_BYTES, 512));
    assert_eq!(beyond, Err(failed("read 512 bytes at 4194304", "failed to fill whole buffer")));
    let read_only = session.write(0, vec![0; 512]);
    let expected = failed("write 512 bytes at 0", "Bad file descriptor (os error 9)");
    assert_eq!(read_only, Err(expected));
    assert_eq!(session.read(extent(0, 512)).unwrap(), [0; 512]);
}

#[test]
fn a_disk_that_is_gone_is_an_error() {
    let bench = Bench::new();
    let mut session = bench.session(Access::Write);
    session.reopen().unwrap();
    fs::remove_file(bench.disk()).unwrap();
    let expected = format!("cannot open {}: No such file", bench.disk().display());
    let error = session.reopen().unwrap_err().to_string();
    assert!(error.starts_with(&expected), "{error}");
    let after = session.read(extent(0, 512)).unwrap_err().to_string();
    assert_eq!(after, "the process that works on the disk is gone: it was stopped");
}

#[test]
fn a_process_that_hangs_or_dies_or_babbles_is_an_error_within_the_time_limit() {
    let hello = r"printf '+\000\000\020\000\000\000\000\000\000\000\000\000\000\000\000\000'";
    for (script, opened, expected) in [
        ("sleep 1000", false, "no end of open /disk within 1 s"),
        (
            "exit 0",
            false,
            "the process that works on the disk is gone: failed to fill whole buffer",
        ),
        (
            "head -c 100 /dev/zero",
            false,
            "the process that works on the disk is gone: invalid data",
        ),
        (&format!("{hello}; sleep 1000"), true, "no end of read 512 bytes at 0 within 1 s"),
        (&format!("{hello}; exit 1"), true, "the process that works on the disk is gone: "),
    ] {
        let bench = Bench::new();
        let disk = Path::new("/disk").to_owned();
        let session = Session::new(bench.program(script), disk, Access::Write, 512);
        let mut session = session.limit(Some(Duration::from_secs(1)));
        let result = session.reopen();
        assert_eq!(result.is_ok(), opened, "{script}: {result:?}");
        let mut read = || session.read(extent(0, 512)).map(drop);
        let error = result.map(drop).and_then(|()| read()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{script}: {error}");
    }
}
