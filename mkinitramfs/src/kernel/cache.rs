//! Where sources, built kernels and compressed archives are kept, outside the checkout.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

/// The cache's directory. All in it can be deleted; it is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    sources: PathBuf,
    kernels: PathBuf,
    archives: PathBuf,
    packages: PathBuf,
}

/// Held while a directory of the cache is worked on; released when dropped, and by the kernel when
/// the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock is not held.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock {}", path.display())]
pub struct LockError {
    path: PathBuf,
    source: io::Error,
}

impl Cache {
    /// The cache in [`directory_from_environment`].
    #[must_use]
    pub fn from_environment() -> Self {
        Self::at(directory_from_environment())
    }

    /// A cache in a directory, which need not exist yet.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let [sources, kernels, archives, packages] =
            ["sources", "kernels", "archives", "packages"].map(|name| root.join(name));
        Self { sources, kernels, archives, packages }
    }

    /// The same, but for the compressed archives, which are kept in another directory.
    #[must_use]
    pub fn with_archives(self, archives: impl Into<PathBuf>) -> Self {
        Self { archives: archives.into(), ..self }
    }

    /// Unpacked kernel sources.
    #[must_use]
    pub fn sources(&self) -> &Path {
        &self.sources
    }

    /// Built kernels, one directory per key.
    #[must_use]
    pub fn kernels(&self) -> &Path {
        &self.kernels
    }

    /// Unpacked packages of Debian.
    #[must_use]
    pub fn packages(&self) -> &Path {
        &self.packages
    }

    /// Compressed archives by their keys.
    #[must_use]
    pub fn archives(&self) -> &Path {
        &self.archives
    }
}

/// `$STAGE2_CACHE`, else `$XDG_CACHE_HOME/stage2`, else `~/.cache/stage2`; never a directory where
/// anybody could put a kernel for us. Whoever has no home has `.cache/stage2` here.
#[must_use]
pub fn directory_from_environment() -> PathBuf {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let below_home = || env::home_dir().unwrap_or_default().join(".cache");
    let directory = named("STAGE2_CACHE")
        .unwrap_or_else(|| named("XDG_CACHE_HOME").unwrap_or_else(below_home).join("stage2"));
    // The kernel's build changes directory.
    std::path::absolute(&directory).unwrap_or(directory)
}

impl Lock {
    /// Waits until nobody else holds the lock file, saying so.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn wait(path: &Path) -> Result<Self, LockError> {
        let locked = open_or_make(path).and_then(|file| Self::acquire(file, path));
        locked.map_err(|source| LockError { path: path.to_owned(), source })
    }

    /// The same with a directory itself, in which no file appears for it.
    ///
    /// # Errors
    /// It cannot be opened or locked.
    pub fn wait_for_directory(path: &Path) -> Result<Self, LockError> {
        let locked = File::open(path).and_then(|directory| Self::acquire(directory, path));
        locked.map_err(|source| LockError { path: path.to_owned(), source })
    }

    fn acquire(file: File, path: &Path) -> io::Result<Self> {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("waiting for another build that holds {}", path.display());
            flock(&file, FlockOperation::LockExclusive)?;
        }
        Ok(Self { _file: file })
    }
}

fn open_or_make(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::options().create(true).append(true).open(path)
}

/// Sixteen hexadecimal digits that stand for all parts together.
#[must_use]
pub fn key(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_differs_when_parts_are_split_otherwise() {
        assert_eq!(key(&["ab", "c"]).len(), 16);
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    }

    #[test]
    fn a_lock_is_free_again_when_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/lock");
        let held = Lock::wait(&path).unwrap();
        let other = File::open(&path).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(held);
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
}
