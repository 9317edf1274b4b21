//! Files that are hashed while they are written, and the type that proves what was checked.
//!
//! A [`Download`] is a file of unknown worth. Only [`Download::finish`] makes a [`Verified`] of it,
//! and what runs, loads or flashes bytes takes only that. Either removes its file when it is
//! dropped: on every error, and when the commands that use it have ended.

mod writer;

pub(crate) use writer::{Flow, Writer};

use crate::fetch::OverTls;
use agent_types::digest::Sha256Digest;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// So many random names in a row are never taken by chance.
const MOST_NAMES_TRIED: usize = 16;

/// Why a file could not be written or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A name that would lead out of the directory.
    #[error("expected a file name without a slash, got {name:?}")]
    Name {
        /// The name.
        name: String,
    },
    /// No file.
    #[error("cannot create {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that cannot be written on.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Other bytes than the boot document speaks of.
    #[error("expected sha256 {expected}, got {got}")]
    Digest {
        /// What the boot document says.
        expected: Sha256Digest,
        /// What has arrived.
        got: Sha256Digest,
    },
    /// The thread that hashes is gone.
    #[error("cannot hash")]
    Hasher(#[source] io::Error),
}

/// What makes a file trustworthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Its digest is the one that the boot document names.
    Sha256(Sha256Digest),
    /// No digest is named, and the server has proved its name for every byte.
    Server(OverTls),
}

/// A file whose bytes were verified as the policy demands; removed when dropped.
#[derive(Debug)]
pub(crate) struct Verified {
    file: TemporaryFile,
    length_bytes: u64,
    sha256: Sha256Digest,
    trust: Trust,
}

impl Verified {
    /// Where the file is, as long as this value lives.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Its length.
    pub(crate) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Its digest, whether one was demanded or not.
    pub(crate) fn sha256(&self) -> Sha256Digest {
        self.sha256
    }

    /// Gives it a lasting name on the same file system, in place of what had that name.
    pub(crate) fn keep_as(self, path: &Path) -> Result<(), Error> {
        let Self { file, .. } = self;
        std::fs::rename(&file.path, path)
            .map_err(|source| Error::Create { path: path.to_owned(), source })?;
        // There is nothing left to be removed.
        std::mem::forget(file);
        Ok(())
    }

    /// What makes it trustworthy.
    pub(crate) fn trust(&self) -> Trust {
        self.trust
    }
}

/// A file that is being written, with the digest of what is there already.
#[derive(Debug)]
pub(crate) struct Download {
    temporary: TemporaryFile,
    file: File,
    hasher: Sha256,
    length_bytes: u64,
}

impl Download {
    /// Creates `<name>-<random>` in `dir`, readable for its owner only.
    pub(crate) fn create(dir: &Path, name: &str) -> Result<Self, Error> {
        if name.contains('/') {
            return Err(Error::Name { name: name.to_owned() });
        }
        let (temporary, file) = create_new(dir, name)?;
        Ok(Self { temporary, file, hasher: Sha256::new(), length_bytes: 0 })
    }

    /// Makes the file as long as the server says; [`Self::finish`] makes it as long as it is. A file system
    /// in memory then takes large pages for it.
    pub(crate) fn expect(&self, total_bytes: Option<u64>) {
        let length_bytes = total_bytes.unwrap_or_default().max(self.length_bytes);
        if let Err(error) = self.file.set_len(length_bytes) {
            log::debug!("cannot prepare {}: {error}", self.temporary.path.display());
        }
    }

    /// How much is there.
    pub(crate) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Writes and hashes `chunk`.
    pub(crate) fn append(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.file.write_all(chunk).map_err(|source| self.write_error(source))?;
        self.hasher.update(chunk);
        self.length_bytes += chunk.len() as u64;
        Ok(())
    }

    /// Forgets all that was written.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        self.file.set_len(0).map_err(|source| self.write_error(source))?;
        self.file.rewind().map_err(|source| self.write_error(source))?;
        self.hasher = Sha256::new();
        self.length_bytes = 0;
        Ok(())
    }

    /// The file with its proof, or its end.
    pub(crate) fn finish(self, trust: Trust) -> Result<Verified, Error> {
        self.file.set_len(self.length_bytes).map_err(|source| self.write_error(source))?;
        let got = Sha256Digest::from(<[u8; 32]>::from(self.hasher.finalize()));
        match trust {
            Trust::Sha256(expected) if expected != got => Err(Error::Digest { expected, got }),
            Trust::Sha256(_) | Trust::Server(_) => Ok(Verified {
                file: self.temporary,
                length_bytes: self.length_bytes,
                sha256: got,
                trust,
            }),
        }
    }

    /// A download onto an open file, for tests of files that cannot be written.
    #[cfg(test)]
    fn onto(file: File, path: &str) -> Self {
        let temporary = TemporaryFile { path: path.into() };
        Self { temporary, file, hasher: Sha256::new(), length_bytes: 0 }
    }

    fn write_error(&self, source: io::Error) -> Error {
        Error::Write { path: self.temporary.path.clone(), source }
    }
}

/// A path whose file goes when this value goes.
#[derive(Debug)]
struct TemporaryFile {
    path: PathBuf,
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn create_new(dir: &Path, name: &str) -> Result<(TemporaryFile, File), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut tries = (0..MOST_NAMES_TRIED).peekable();
    loop {
        tries.next();
        let path = dir.join(format!("{name}-{:016x}", random()));
        match options.open(&path) {
            Ok(file) => return Ok((TemporaryFile { path }, file)),
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && tries.peek().is_some() => {}
            Err(source) => return Err(Error::Create { path, source }),
        }
    }
}

/// From the standard library's random hash keys: these never wait for entropy.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// `printf abc | sha256sum`
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    /// `printf '' | sha256sum`
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn trust(digest: &str) -> Trust {
        Trust::Sha256(digest.parse().unwrap())
    }

    fn files_in(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_verified_file_holds_what_was_written_and_goes_with_its_proof() {
        let dir = tempfile::tempdir().unwrap();
        let mut download = Download::create(dir.path(), "kernel").unwrap();
        download.append(b"a").unwrap();
        download.append(b"bc").unwrap();
        let verified = download.finish(trust(ABC)).unwrap();
        assert_eq!(std::fs::read(verified.path()).unwrap(), b"abc");
        assert_eq!(verified.length_bytes(), 3);
        assert_eq!(verified.sha256().to_string(), ABC);
        drop(verified);
        assert_eq!(files_in(dir.path()), 0);
    }

    #[test]
    fn other_bytes_leave_no_file_and_no_proof() {
        let dir = tempfile::tempdir().unwrap();
        let mut download = Download::create(dir.path(), "kernel").unwrap();
        download.append(b"abd").unwrap();
        let error = download.finish(trust(ABC)).unwrap_err();
        let got = "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9";
        assert_eq!(error.to_string(), format!("expected sha256 {ABC}, got {got}"));
        assert_eq!(files_in(dir.path()), 0);
    }

    #[test]
    fn a_file_is_as_long_as_what_was_written_whatever_was_expected() {
        for expected in [None, Some(0), Some(2), Some(1 << 20), Some(u64::MAX)] {
            let dir = tempfile::tempdir().unwrap();
            let mut download = Download::create(dir.path(), "kernel").unwrap();
            download.append(b"a").unwrap();
            download.expect(expected);
            download.append(b"bc").unwrap();
            let verified = download.finish(trust(ABC)).unwrap();
            assert_eq!(std::fs::read(verified.path()).unwrap(), b"abc", "{expected:?}");
        }
    }

    #[test]
    fn an_empty_file_can_be_verified() {
        let dir = tempfile::tempdir().unwrap();
        let verified = Download::create(dir.path(), "x").unwrap().finish(trust(EMPTY)).unwrap();
        assert_eq!(verified.length_bytes(), 0);
    }

    #[test]
    fn a_restart_forgets_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut download = Download::create(dir.path(), "kernel").unwrap();
        download.append(b"something else").unwrap();
        download.restart().unwrap();
        download.append(b"abc").unwrap();
        let verified = download.finish(trust(ABC)).unwrap();
        assert_eq!(std::fs::read(verified.path()).unwrap(), b"abc");
    }

    #[test]
    fn only_the_owner_can_read_a_file_and_names_are_never_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let one = Download::create(dir.path(), "kernel").unwrap();
        let other = Download::create(dir.path(), "kernel").unwrap();
        assert_eq!(one.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(one.temporary.path, other.temporary.path);
        let name = one.temporary.path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("kernel-"), "{name}");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = |name: &str| Download::create(dir.path(), name).unwrap_err().to_string();
        assert_eq!(error("../x"), "expected a file name without a slash, got \"../x\"");
        assert!(error("a\0b").starts_with("cannot create "));
    }
}
