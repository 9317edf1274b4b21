//! Whether the next kernel fits into memory, beside everything that is there while it is loaded.
//!
//! `kexec_file_load(2)` reads each file into a buffer of its own, then copies both to the pages
//! from which they are started, and frees the buffers at the end: `kernel/kexec_file.c`. Without
//! care a payload in tmpfs is there three times. Pages of files that are given up as soon as they
//! are read ([`super::release`]) are free again before the second copy is made.

use std::fmt;

/// For the purgatory, page tables and the lists of pages, and so that nobody is killed for the last
/// page.
const MARGIN_BYTES: u64 = 4 * MIB;
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

/// Too little memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {} of free memory, got {}", Mib(*.needed), Mib(*.available))]
pub(crate) struct NotEnough {
    /// Free memory that loading takes at its peak.
    pub(crate) needed: u64,
    /// Free memory that there is.
    pub(crate) available: u64,
}

/// Checks before anything is touched that loading will not run out of memory.
pub(crate) fn check(kernel: Piece, initramfs: Piece, available: u64) -> Result<(), NotEnough> {
    let needed = needed(kernel, initramfs);
    if needed <= available { Ok(()) } else { Err(NotEnough { needed, available }) }
}

/// The most that is taken at any time; the kernel is read first.
fn needed(kernel: Piece, initramfs: Piece) -> u64 {
    let kernel_read = kernel.file_bytes;
    let both_read = (kernel_read + initramfs.file_bytes).saturating_sub(kernel.released_bytes);
    let both_placed = (both_read + kernel.placed_bytes + initramfs.placed_bytes)
        .saturating_sub(initramfs.released_bytes);
    kernel_read.max(both_read).max(both_placed) + MARGIN_BYTES
}

/// Free memory in bytes, from the text of `/proc/meminfo`.
pub(crate) fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
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
            assert_eq!(needed(kernel, initramfs), mib * MIB + MARGIN_BYTES);
        }
    }

    #[test]
    fn a_load_that_does_not_fit_is_refused_with_both_figures() {
        let error = check(KERNEL, INITRAMFS, 100 * MIB + 52_429).unwrap_err();
        assert_eq!(error.to_string(), "expected 182.0 MiB of free memory, got 100.0 MiB");
        assert_eq!(check(KERNEL, INITRAMFS, 182 * MIB), Ok(()));
    }

    #[test]
    fn free_memory_is_what_the_kernel_calls_available() {
        let meminfo = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:    500 kB\n";
        assert_eq!(available(meminfo), Some(512_000));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
    }
}
