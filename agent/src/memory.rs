//! Whether a file fits, asked before its bytes arrive.
//!
//! A ramdisk keeps files in memory: one that does not fit would get processes killed, or be cut off
//! by the file system. On hosts only the free space of the directory counts.

use crate::meminfo;
use crate::size::Size;
use rustix::fs::FsWord;
use std::io;
use std::path::Path;

/// What the agent itself may still need while it fetches, below its promised 12 MiB.
const RESERVE_BYTES: u64 = 4 << 20;

/// `f_type` of the file systems that live in memory, from `linux/magic.h`.
const MEMORY_FILE_SYSTEMS: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];

/// The room for files in one directory; `None` where nothing sets a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Memory that the kernel can give, if the directory is in memory.
    pub(crate) memory_bytes: Option<u64>,
    /// Free space of the file system.
    pub(crate) free_bytes: Option<u64>,
}

/// Why a file does not fit, or why that is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// More than the machine's memory holds.
    #[error(
        "cannot hold {need} in {available} of available memory: add memory to the machine, or make the file smaller"
    )]
    Memory {
        /// What the file needs.
        need: Size,
        /// What the kernel can give.
        available: Size,
    },
    /// More than the file system holds.
    #[error(
        "cannot store {need} in {free} of free space in {dir}: make room there, or name another directory in TMPDIR"
    )]
    Space {
        /// What the file needs.
        need: Size,
        /// What the file system has left.
        free: Size,
        /// Where the file shall go.
        dir: String,
    },
    /// The kernel's account cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// File or directory.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel's account has another form than we know.
    #[error("expected a line `MemAvailable: … kB` in {path}, got none")]
    Meminfo {
        /// The file.
        path: String,
    },
}

impl Room {
    /// Asks the kernel how much room there is in `dir`.
    pub(crate) fn read(meminfo: &Path, dir: &Path) -> Result<Self, Error> {
        let stat = rustix::fs::statfs(dir).map_err(|errno| Error::Read {
            path: dir.display().to_string(),
            source: errno.into(),
        })?;
        let in_memory = MEMORY_FILE_SYSTEMS.contains(&stat.f_type);
        // ramfs, and a tmpfs mounted with size=0, count no blocks and set no limit.
        let free_bytes = (stat.f_blocks > 0)
            .then(|| stat.f_bavail.saturating_mul(u64::try_from(stat.f_bsize).unwrap_or(0)));
        let memory_bytes = in_memory.then(|| available_bytes(meminfo)).transpose()?;
        Ok(Self { memory_bytes, free_bytes })
    }

    /// Whether `need_bytes` more fit into `dir`, of which this is the room.
    pub(crate) fn check(&self, need_bytes: u64, dir: &Path) -> Result<(), Error> {
        if let Some(available) = self.memory_bytes
            && need_bytes > available.saturating_sub(RESERVE_BYTES)
        {
            return Err(Error::Memory { need: Size(need_bytes), available: Size(available) });
        }
        if let Some(free) = self.free_bytes
            && need_bytes > free
        {
            let dir = dir.display().to_string();
            return Err(Error::Space { need: Size(need_bytes), free: Size(free), dir });
        }
        Ok(())
    }
}

fn available_bytes(meminfo: &Path) -> Result<u64, Error> {
    let path = || meminfo.display().to_string();
    let text =
        std::fs::read_to_string(meminfo).map_err(|source| Error::Read { path: path(), source })?;
    meminfo::bytes(&text, "MemAvailable").ok_or_else(|| Error::Meminfo { path: path() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use crate::meminfo::MEMINFO;

    const MIB: u64 = 1 << 20;

    fn check(memory: Option<u64>, free: Option<u64>, need: u64) -> Result<(), String> {
        Room { memory_bytes: memory, free_bytes: free }
            .check(need, Path::new("/tmp"))
            .map_err(|error| Chain(&error).to_string())
    }

    #[test]
    fn a_file_that_fits_is_taken() {
        for (memory, free) in [
            (None, None),
            (Some(68 * MIB), None),
            (None, Some(64 * MIB)),
            (Some(68 * MIB), Some(64 * MIB)),
        ] {
            assert_eq!(check(memory, free, 64 * MIB), Ok(()));
        }
    }

    #[test]
    fn a_file_larger_than_memory_is_refused_with_both_figures() {
        let expected = "cannot hold 64.0 MiB in 60.5 MiB of available memory: \
                        add memory to the machine, or make the file smaller";
        assert_eq!(check(Some(60 * MIB + MIB / 2), None, 64 * MIB), Err(expected.into()));
        assert!(check(Some(u64::MAX), None, u64::MAX).is_err());
    }

    #[test]
    fn a_file_larger_than_the_file_system_is_refused_with_both_figures() {
        let expected = "cannot store 64.0 MiB in 1.0 MiB of free space in /tmp: \
                        make room there, or name another directory in TMPDIR";
        assert_eq!(check(Some(128 * MIB), Some(MIB), 64 * MIB), Err(expected.into()));
    }

    #[test]
    fn memory_counts_only_for_directories_in_memory() {
        let of = |dir: &str| Room::read(Path::new(MEMINFO), Path::new(dir)).unwrap();
        assert!(of("/dev/shm").memory_bytes.is_some());
        assert!(of(env!("CARGO_MANIFEST_DIR")).free_bytes.is_some());
        assert_eq!(of("/proc").memory_bytes, None);
    }
}
