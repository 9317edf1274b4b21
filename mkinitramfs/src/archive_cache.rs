//! Keeps what compressing the large files of a ramdisk gave.
//!
//! The agent and busybox change seldom, the authorized keys often; compressing the former takes
//! seconds. The kernel unpacks archives that follow one another, so the large files are one archive
//! of their own, kept under the digest of its contents.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::compress::{self, Compression};
use crate::kernel::cache::Cache;
use crate::output;

/// From this size on, a file is worth keeping compressed.
pub const LARGE_FILE_BYTES: usize = 64 << 10;
/// How many archives are kept.
const KEPT: usize = 8;

/// Compresses an archive, or finds it compressed.
///
/// A cache that cannot be read or written only costs time.
///
/// # Errors
/// The compressor has no memory.
pub fn compressed(
    compression: Compression,
    archive: &[u8],
    cache: &Cache,
) -> Result<Vec<u8>, compress::Error> {
    let digest: String = Sha256::digest(archive).iter().map(|byte| format!("{byte:02x}")).collect();
    let path = cache.archives().join(format!("{digest}.cpio{}", compression.suffix()));
    if let Some(known) = known(&path, compression, archive.len()) {
        return Ok(known);
    }
    let compressed = compression.compress(archive)?;
    if let Err(error) = keep(&path, &compressed, cache.archives()) {
        eprintln!("warning: cannot keep {}: {error}", path.display());
    }
    Ok(compressed)
}

/// A kept archive that is whole: it unpacks to as many bytes as it must.
fn known(path: &Path, compression: Compression, bytes: usize) -> Option<Vec<u8>> {
    let known = fs::read(path).ok()?;
    let (archive, _) = compression.unpack_first(&known).ok()?;
    (archive.len() == bytes).then_some(known)
}

fn keep(path: &Path, compressed: &[u8], directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    output::replace(path, compressed)?;
    forget_oldest(directory)
}

fn forget_oldest(directory: &Path) -> io::Result<()> {
    let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        kept.push((entry.metadata()?.modified()?, entry.path()));
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT);
    kept.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_in(cache: &Cache) -> usize {
        fs::read_dir(cache.archives()).unwrap().count()
    }

    #[test]
    fn an_archive_is_found_again_and_a_damaged_one_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let archive = vec![7; 100_000];
        let first = compressed(Compression::Zstd, &archive, &cache).unwrap();
        assert_eq!(kept_in(&cache), 1);
        let entry = fs::read_dir(cache.archives()).unwrap().next().unwrap().unwrap();
        fs::write(entry.path(), &first[..first.len() / 2]).unwrap();
        assert_eq!(compressed(Compression::Zstd, &archive, &cache).unwrap(), first);
        assert_eq!(fs::read(entry.path()).unwrap(), first);
    }

    #[test]
    fn only_the_newest_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        for byte in 0..KEPT as u8 + 3 {
            compressed(Compression::Gzip, &[byte; 1000], &cache).unwrap();
        }
        assert_eq!(kept_in(&cache), KEPT);
    }

    /// What the kernel would unpack of what is found in the cache after `damage` was done to it.
    fn found_after(damage: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        // Programs have parts that do not compress, and go into a frame as they are.
        let noise = |n: u32| Sha256::digest(n.to_le_bytes()).to_vec();
        let archive: Vec<u8> = (0..10_000_u32).flat_map(noise).collect();
        let fresh = compressed(Compression::Zstd, &archive, &cache).unwrap();
        let entry = fs::read_dir(cache.archives()).unwrap().next().unwrap().unwrap();
        fs::write(entry.path(), damage(fresh.clone())).unwrap();
        (fresh, compressed(Compression::Zstd, &archive, &cache).unwrap())
    }

    #[test]
    fn a_kept_archive_with_one_wrong_bit_is_made_anew() {
        let (fresh, found) = found_after(|mut kept| {
            let middle = kept.len() / 2;
            kept[middle] ^= 1;
            kept
        });
        assert!(found == fresh, "a damaged archive goes into the image");
    }

    #[test]
    fn a_kept_archive_with_something_behind_it_is_made_anew() {
        let (fresh, found) = found_after(|kept| [kept.as_slice(), b"noise"].concat());
        assert!(found == fresh, "noise behind the archive goes into the image");
    }

    #[test]
    fn an_archive_that_another_compressor_made_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        let archive: Vec<u8> = (0..50_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let fresh = compressed(Compression::Zstd, &archive, &cache).unwrap();
        let entry = fs::read_dir(cache.archives()).unwrap().next().unwrap().unwrap();
        // As an earlier version of this program, with another level or library, has left it.
        fs::write(entry.path(), zstd::bulk::compress(&archive, 1).unwrap()).unwrap();
        let found = compressed(Compression::Zstd, &archive, &cache).unwrap();
        assert!(found == fresh, "the image depends on who has built here before");
    }
}
