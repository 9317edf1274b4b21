//! Files of the cache that were expensive to make.
//!
//! A kept file begins with a digest of its key and its contents: one that is damaged, or was made of
//! something else or by something else, is not found. The key names all that the contents depend on.

use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::output;

/// The contents of a kept file, if it is there, whole, and of this key.
#[must_use]
pub fn find(path: &Path, key: &str) -> Option<Vec<u8>> {
    let kept = fs::read(path).ok()?;
    let (digest, contents) = kept.split_first_chunk()?;
    (*digest == seal(key, contents)).then(|| contents.to_owned())
}

/// Keeps contents.
///
/// # Errors
/// They cannot be written.
pub fn keep(path: &Path, key: &str, contents: &[u8]) -> io::Result<()> {
    output::replace(path, &[seal(key, contents).as_slice(), contents].concat())
}

fn seal(key: &str, contents: &[u8]) -> [u8; 32] {
    let hasher = Sha256::new().chain_update((key.len() as u64).to_le_bytes());
    hasher.chain_update(key).chain_update(contents).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_by_its_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        assert_eq!(find(&path, "key"), None);
        keep(&path, "key", b"contents").unwrap();
        assert_eq!(find(&path, "key").unwrap(), b"contents");
        assert_eq!(find(&path, "another key"), None);
    }

    #[test]
    fn a_file_with_any_damage_is_not_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        keep(&path, "key", b"contents").unwrap();
        let whole = fs::read(&path).unwrap();
        let flipped = (0..whole.len() * 8).map(|bit| {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            damaged
        });
        let cut = (0..whole.len()).map(|len| whole[..len].to_owned());
        let longer = std::iter::once([whole.as_slice(), b"noise"].concat());
        for damaged in flipped.chain(cut).chain(longer) {
            fs::write(&path, &damaged).unwrap();
            assert_eq!(find(&path, "key"), None, "{damaged:x?}");
        }
    }
}
