//! Keeps what compressing the large files of a ramdisk gave.
//!
//! The agent and busybox change seldom, the authorized keys often; compressing the former takes
//! seconds. The kernel unpacks archives that follow one another, so the large files are one archive
//! of their own. What is found is what would be made: its key is the archive and the compressor.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::compress::{self, Compression};
use crate::kept;
use crate::kernel::cache::Cache;

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
    let key = kept::key(&compression.recipe(), archive);
    let path = cache.archives().join(format!("{key}.cpio{}", compression.suffix()));
    if let Some(known) = kept::find(&path, &key) {
        return Ok(known);
    }
    compression.announce(archive);
    let compressed = compression.compress(archive)?;
    if let Err(error) = keep(&path, &key, &compressed, cache.archives()) {
        eprintln!("warning: cannot keep {}: {error}", path.display());
    }
    Ok(compressed)
}

fn keep(path: &Path, key: &str, compressed: &[u8], directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    kept::keep(path, key, compressed)?;
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
    use sha2::{Digest, Sha256};

    use super::*;

    fn kept_in(cache: &Cache) -> usize {
        fs::read_dir(cache.archives()).unwrap().count()
    }

    #[test]
    fn what_is_kept_is_not_compressed_again() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        compressed(Compression::Zstd, b"archive", &cache).unwrap();
        assert_eq!(kept_in(&cache), 1);
        let entry = fs::read_dir(cache.archives()).unwrap().next().unwrap().unwrap();
        let key = kept::key(&Compression::Zstd.recipe(), b"archive");
        kept::keep(&entry.path(), &key, b"what is kept").unwrap();
        assert_eq!(compressed(Compression::Zstd, b"archive", &cache).unwrap(), b"what is kept");
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

    /// What is made at first, and what is found after `damage` was done to what was kept.
    fn found_after(damage: impl FnOnce(&Path, &[u8])) -> (Vec<u8>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        // Programs have parts that do not compress, and go into a frame as they are.
        let noise = |n: u32| Sha256::digest(n.to_le_bytes()).to_vec();
        let archive: Vec<u8> = (0..10_000_u32).flat_map(noise).collect();
        let fresh = compressed(Compression::Zstd, &archive, &cache).unwrap();
        let entry = fs::read_dir(cache.archives()).unwrap().next().unwrap().unwrap();
        damage(&entry.path(), &archive);
        (fresh, compressed(Compression::Zstd, &archive, &cache).unwrap())
    }

    #[test]
    fn a_kept_archive_with_one_wrong_bit_is_made_anew() {
        let (fresh, found) = found_after(|path, _| {
            let mut kept = fs::read(path).unwrap();
            let middle = kept.len() / 2;
            kept[middle] ^= 1;
            fs::write(path, kept).unwrap();
        });
        assert!(found == fresh, "a damaged archive goes into the image");
    }

    #[test]
    fn a_kept_archive_with_something_behind_it_is_made_anew() {
        let (fresh, found) = found_after(|path, _| {
            let kept = fs::read(path).unwrap();
            fs::write(path, [kept.as_slice(), b"noise"].concat()).unwrap();
        });
        assert!(found == fresh, "noise behind the archive goes into the image");
    }

    #[test]
    fn an_archive_that_another_compressor_made_is_made_anew() {
        // As another version of this program, with another level or library, keeps it.
        let (fresh, found) = found_after(|path, archive| {
            let other = zstd::bulk::compress(archive, 1).unwrap();
            kept::keep(path, "another recipe", &other).unwrap();
        });
        assert!(found == fresh, "the image depends on who has built here before");
    }
}
