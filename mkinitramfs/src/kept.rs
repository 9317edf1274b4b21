//! Files of the cache that were expensive to compress.
//!
//! A kept file begins with a digest of its key and its contents: one that is damaged, or was made of
//! something else or by another compressor, is not found.

use std::fs;
use std::io;
use std::path::Path;

use agent_types::digest::Sha256Digest;
use sha2::{Digest, Sha256};

use crate::kernel::cache;
use crate::output;

/// Names every library with its version: another compressor writes other bytes for the same input.
const LIBRARIES: &str = include_str!("../../Cargo.lock");

/// Stands for all that decides what comes out when something is compressed by a recipe.
#[must_use]
pub fn key(recipe: &str, input: &[u8]) -> String {
    let digest = Sha256Digest::from(<[u8; 32]>::from(Sha256::digest(input)));
    cache::key(&[&digest.to_string(), recipe, LIBRARIES])
}

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
    fn a_key_stands_for_input_and_recipe() {
        assert_eq!(key("recipe", b"input"), key("recipe", b"input"));
        assert_ne!(key("recipe", b"input"), key("another", b"input"));
        assert_ne!(key("recipe", b"input"), key("recipe", b"another"));
    }

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
