//! Writes the results: each under a temporary name first, then renamed, with its digest beside it.
//!
//! Whoever looks sees the old file or the new one, never half of one; and a digest only beside the
//! file that it is of, also when this program is interrupted.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent_types::digest::Sha256Digest;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::kernel::cache::{Lock, LockError};

/// Why a result is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// Why results do not have their names.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Another build could not be waited for.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// One of them.
    #[error(transparent)]
    Write(#[from] Error),
}

/// Results that appear together.
#[derive(Debug)]
pub struct Output {
    directory: PathBuf,
    results: Vec<Written>,
    digests: Vec<Written>,
    old: Vec<PathBuf>,
}

/// A file under a temporary name, and the name that it gets.
#[derive(Debug)]
struct Written {
    file: NamedTempFile,
    path: PathBuf,
}

/// A part of giving the results their names.
#[derive(Debug)]
enum Step {
    /// Removes what an earlier run has left.
    Remove(PathBuf),
    /// Gives a file its name.
    Name(Written),
}

impl Output {
    /// Results in a directory, which is made if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn in_directory(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory)
            .map_err(|source| Error { path: directory.to_owned(), source })?;
        let (results, digests, old) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { directory: directory.to_owned(), results, digests, old })
    }

    /// Writes one result and its `.sha256` under temporary names.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, name: &str, contents: &[u8], mode: u32) -> Result<(), Error> {
        let digest = Sha256Digest::from(<[u8; 32]>::from(Sha256::digest(contents)));
        let line = format!("{digest}  {name}\n");
        self.results.push(self.write(name, contents, mode)?);
        self.digests.push(self.write(&format!("{name}.sha256"), line.as_bytes(), 0o644)?);
        Ok(())
    }

    /// A result of an earlier build that this one does not have goes, with its digest.
    pub fn without(&mut self, name: &str) {
        self.old.push(self.directory.join(name));
        self.old.push(self.directory.join(format!("{name}.sha256")));
    }

    /// Gives all results their names. Another build's are not mixed with them.
    ///
    /// # Errors
    /// The directory cannot be locked, or one of them cannot be renamed.
    pub fn finish(self) -> Result<(), FinishError> {
        let _lock = Lock::wait_for_directory(&self.directory)?;
        Ok(self.steps().into_iter().try_for_each(Step::take)?)
    }

    /// While results are renamed there is no digest of any.
    fn steps(self) -> Vec<Step> {
        let digests: Vec<_> = self.digests.iter().map(|digest| digest.path.clone()).collect();
        let old = digests.into_iter().chain(self.old);
        let new = self.results.into_iter().chain(self.digests);
        old.map(Step::Remove).chain(new.map(Step::Name)).collect()
    }

    fn write(&self, name: &str, contents: &[u8], mode: u32) -> Result<Written, Error> {
        let path = self.directory.join(name);
        match temporary(&self.directory, contents, mode) {
            Ok(file) => Ok(Written { file, path }),
            Err(source) => Err(Error { path, source }),
        }
    }
}

impl Step {
    fn take(self) -> Result<(), Error> {
        match self {
            Self::Remove(path) => match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(Error { path, source })
                }
                _ => Ok(()),
            },
            Self::Name(Written { file, path }) => match file.persist(&path) {
                Ok(_) => Ok(()),
                Err(error) => Err(Error { path, source: error.error }),
            },
        }
    }
}

/// Replaces one file, or makes it. What is no file, such as a FIFO, is written to as it is.
///
/// # Errors
/// It cannot be written.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return File::options().write(true).open(path)?.write_all(contents);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let file = temporary(directory.unwrap_or(Path::new(".")), contents, 0o644)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn temporary(directory: &Path, contents: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(directory)?;
    file.write_all(contents)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    // A name may reach the disk before what it names.
    file.as_file().sync_data()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;

    fn names_in(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn results_appear_together_and_sha256sum_agrees() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("output");
        let mut output = Output::in_directory(&target).unwrap();
        output.add("agent", b"program", 0o755).unwrap();
        assert!(!target.join("agent").exists());
        output.finish().unwrap();
        assert_eq!(names_in(&target), ["agent", "agent.sha256"]);
        assert_eq!(fs::metadata(target.join("agent")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(agrees(&target, "agent.sha256"));
    }

    fn agrees(directory: &Path, digest: &str) -> bool {
        let mut sha256sum = std::process::Command::new("sha256sum");
        let output = sha256sum.args(["-c", digest]).current_dir(directory).output().unwrap();
        output.status.success()
    }

    fn two_results(directory: &Path, contents: &[u8]) -> Output {
        let mut output = Output::in_directory(directory).unwrap();
        output.add("kernel", contents, 0o644).unwrap();
        output.add("agent", contents, 0o755).unwrap();
        output
    }

    #[test]
    fn a_digest_agrees_with_its_result_wherever_the_program_is_interrupted() {
        for taken in 0..=6 {
            let directory = tempfile::tempdir().unwrap();
            two_results(directory.path(), b"old").finish().unwrap();
            let steps = two_results(directory.path(), b"new").steps();
            assert_eq!(steps.len(), 6);
            steps.into_iter().take(taken).try_for_each(Step::take).unwrap();
            let names = names_in(directory.path());
            for digest in names.iter().filter(|name| name.ends_with(".sha256")) {
                assert!(agrees(directory.path(), digest), "{digest} after {taken} steps");
            }
        }
    }

    #[test]
    fn what_this_build_does_not_have_goes_with_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        two_results(directory.path(), b"old").finish().unwrap();
        let mut output = Output::in_directory(directory.path()).unwrap();
        output.add("kernel", b"new", 0o644).unwrap();
        output.without("agent");
        output.finish().unwrap();
        assert_eq!(names_in(directory.path()), ["kernel", "kernel.sha256"]);
    }

    #[test]
    fn what_is_no_file_is_written_to_and_a_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [link, file, fifo] = ["link", "file", "fifo"].map(|name| directory.path().join(name));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader = File::options().read(true).custom_flags(nonblocking).open(&fifo).unwrap();
        replace(&fifo, b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(link.is_symlink());
        let error = replace(directory.path(), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn results_that_are_given_up_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let mut output = Output::in_directory(directory.path()).unwrap();
        output.add("agent", b"program", 0o755).unwrap();
        drop(output);
        assert_eq!(names_in(directory.path()), [""; 0]);
    }
}
