//! Whether a backup fits, asked before anything is written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};

/// What the rest of the machine may still need.
const RESERVE_BYTES: u64 = 16 << 20;

/// `f_type` of the file systems that live in memory, from `linux/magic.h`: tmpfs and ramfs.
const MEMORY_FILE_SYSTEMS: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Why a backup has no place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is too little.
    #[error(
        "the backup needs {need_bytes} bytes, and {} has {free_bytes} (--backup names another file)",
        directory.display()
    )]
    TooLittle {
        /// What it needs.
        need_bytes: u64,
        /// What there is.
        free_bytes: u64,
        /// Where.
        directory: PathBuf,
    },
    /// It is not known how much there is.
    #[error("cannot tell how much room {} has", path.display())]
    Unknown {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Does `directory` have room for `need_bytes`? One in memory has no more than the machine can give.
///
/// # Errors
/// It has not, or that is unknown.
pub fn check(directory: &Path, meminfo: &Path, need_bytes: u64) -> Result<(), Error> {
    let free_bytes = free_bytes(directory, meminfo)?;
    if need_bytes > free_bytes {
        let directory = directory.to_owned();
        return Err(Error::TooLittle { need_bytes, free_bytes, directory });
    }
    Ok(())
}

fn free_bytes(directory: &Path, meminfo: &Path) -> Result<u64, Error> {
    let unknown = |path: &Path, source| Error::Unknown { path: path.to_owned(), source };
    let stat = statfs(directory).map_err(|errno| unknown(directory, errno.into()))?;
    // ramfs counts no blocks and sets no limit.
    let of_system = match stat.blocks() {
        0 => u64::MAX,
        _ => stat.blocks_available().saturating_mul(u64::try_from(stat.block_size()).unwrap_or(0)),
    };
    if !MEMORY_FILE_SYSTEMS.map(FsType).contains(&stat.filesystem_type()) {
        return Ok(of_system);
    }
    let text = fs::read_to_string(meminfo).map_err(|source| unknown(meminfo, source))?;
    let available = mem_available_bytes(&text)
        .ok_or_else(|| unknown(meminfo, io::ErrorKind::InvalidData.into()))?;
    Ok(of_system.min(available.saturating_sub(RESERVE_BYTES)))
}

/// `MemAvailable:    1234 kB`, see proc_meminfo(5).
fn mem_available_bytes(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_in_memory_must_fit_into_what_is_available() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let meminfo = directory.path().join("meminfo");
        fs::write(&meminfo, "MemTotal: 1 kB\nMemAvailable:   20480 kB\n").unwrap();
        let check = |need_bytes| check(directory.path(), &meminfo, need_bytes);
        assert!(check(4 << 20).is_ok());
        let error = check((4 << 20) + 1).unwrap_err().to_string();
        let start = "the backup needs 4194305 bytes, and /dev/shm/";
        assert!(error.starts_with(start) && error.contains(" has 4194304 (--backup "), "{error}");
    }
}
