//! Whether the next kernel fits into memory, beside everything that is there while it is loaded.
//!
//! `kexec_file_load(2)` reads each file into a buffer of its own, then copies both to the pages
//! from which they are started, and frees the buffers at the end: `kernel/kexec_file.c`. Without
//! care a payload in tmpfs is there three times. Pages of files that are given up as soon as they
//! are read ([`super::release`]) are free again before the second copy is made. The kernel refuses
//! whatever takes more than half of all memory: `sanity_check_segment_list()`.

use std::fmt;

use crate::meminfo;

/// For the purgatory and page tables, and so that nobody is killed for the last page. What the
/// kernel calls available leaves its own reserves alone already.
const MARGIN_BYTES: u64 = 2 * MIB;
/// The kernel lists every page that it places: eight bytes for 4096.
const BYTES_PER_LISTED_BYTE: u64 = 512;
const MIB: u64 = 1024 * 1024;

/// One file to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Piece {
    /// Its size as a file.
    pub(crate) file_bytes: u64,
    /// Its size where it is started from.
    pub(crate) placed_bytes: u64,
    /// What becomes free as soon as it has been read.
    pub(crate) released_bytes: u64,
}

/// Memory of this machine in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All that the kernel manages.
    pub(crate) total: u64,
    /// What programs can still get.
    pub(crate) available: u64,
}

impl Memory {
    /// Reads the text of `/proc/meminfo`.
    pub(crate) fn parse(meminfo: &str) -> Option<Self> {
        let bytes = |name| meminfo::bytes(meminfo, name);
        Some(Self { total: bytes("MemTotal")?, available: bytes("MemAvailable")? })
    }
}

/// Too little memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotEnough {
    /// Loading would not come to its end.
    #[error("expected {} of free memory, got {}", Mib(*.needed), Mib(*.available))]
    Available {
        /// Free memory that loading takes at its peak.
        needed: u64,
        /// Free memory that there is.
        available: u64,
    },
    /// The running kernel would refuse it with EINVAL.
    #[error(
        "expected a kernel and initramfs that take at most half of all memory, {}, got {}",
        Mib(*.half),
        Mib(*.placed)
    )]
    Half {
        /// What the running kernel accepts.
        half: u64,
        /// Where both are started from.
        placed: u64,
    },
}

/// Checks before anything is touched that loading will not run out of memory.
pub(crate) fn check(kernel: Piece, initramfs: Piece, memory: Memory) -> Result<(), NotEnough> {
    let (half, placed) = (memory.total / 2, kernel.placed_bytes + initramfs.placed_bytes);
    let (available, needed) = (memory.available, needed(kernel, initramfs));
    if needed > available {
        Err(NotEnough::Available { needed, available })
    } else if placed > half {
        Err(NotEnough::Half { half, placed })
    } else {
        Ok(())
    }
}

/// The most that is taken at any time; the kernel is read first.
fn needed(kernel: Piece, initramfs: Piece) -> u64 {
    let kernel_read = kernel.file_bytes;
    let both_read = (kernel_read + initramfs.file_bytes).saturating_sub(kernel.released_bytes);
    let placed = kernel.placed_bytes + initramfs.placed_bytes;
    let both_placed = (both_read + placed).saturating_sub(initramfs.released_bytes);
    kernel_read.max(both_read).max(both_placed) + placed / BYTES_PER_LISTED_BYTE + MARGIN_BYTES
}

/// Shows bytes as people read them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mib(pub u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_mul(10) / MIB;
        write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Piece = Piece { file_bytes: 10 * MIB, placed_bytes: 40 * MIB, released_bytes: 0 };
    const INITRAMFS: Piece =
        Piece { file_bytes: 64 * MIB, placed_bytes: 64 * MIB, released_bytes: 0 };

    fn given_up(piece: Piece) -> Piece {
        Piece { released_bytes: piece.file_bytes, ..piece }
    }

    #[test]
    fn a_payload_that_is_given_up_after_reading_needs_one_copy_less() {
        for (kernel, initramfs, mib) in [
            (KERNEL, Piece::default(), 10 + 40),
            (KERNEL, INITRAMFS, 10 + 64 + 40 + 64),
            (KERNEL, given_up(INITRAMFS), 10 + 64 + 40),
            (given_up(KERNEL), given_up(INITRAMFS), 64 + 40),
        ] {
            let lists = (kernel.placed_bytes + initramfs.placed_bytes) / 512;
            assert_eq!(needed(kernel, initramfs), mib * MIB + lists + MARGIN_BYTES);
        }
    }

    #[test]
    fn a_load_that_does_not_fit_is_refused_with_both_figures() {
        for (total, available, expected) in [
            (1000 * MIB, 182 * MIB, Ok(())),
            (
                1000 * MIB,
                100 * MIB + 52_429,
                Err("expected 180.2 MiB of free memory, got 100.0 MiB"),
            ),
            (208 * MIB, 182 * MIB, Ok(())),
            (
                207 * MIB,
                182 * MIB,
                Err("expected a kernel and initramfs that take at most half of all memory, \
                     103.5 MiB, got 104.0 MiB"),
            ),
        ] {
            let result = check(KERNEL, INITRAMFS, Memory { total, available });
            let result = result.map_err(|error| error.to_string());
            assert_eq!(result, expected.map_err(str::to_owned), "{total} {available}");
        }
    }

    #[test]
    fn memory_is_what_the_kernel_calls_total_and_available() {
        let meminfo = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:    500 kB\n";
        let memory = Memory { total: 1_024_000, available: 512_000 };
        assert_eq!(Memory::parse(meminfo), Some(memory));
        assert_eq!(Memory::parse("MemTotal: 1 kB\n"), None);
    }
}
