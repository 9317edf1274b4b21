//! Writes the results: each under a temporary name first, then renamed, with its digest beside it.
//!
//! Whoever looks sees the old file or the new one, never half of one.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent_types::digest::Sha256Digest;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Why a result is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// Results that appear together.
#[derive(Debug)]
pub struct Output {
    directory: PathBuf,
    written: Vec<(NamedTempFile, PathBuf)>,
}

impl Output {
    /// Results in a directory, which is made if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn in_directory(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory)
            .map_err(|source| Error { path: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned(), written: Vec::new() })
    }

    /// Writes one result and its `.sha256` under temporary names.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, name: &str, contents: &[u8], mode: u32) -> Result<(), Error> {
        self.write(name, contents, mode)?;
        let digest = Sha256Digest::from(<[u8; 32]>::from(Sha256::digest(contents)));
        self.write(&format!("{name}.sha256"), format!("{digest}  {name}\n").as_bytes(), 0o644)
    }

    /// Gives all results their names.
    ///
    /// # Errors
    /// One of them cannot be renamed.
    pub fn finish(self) -> Result<(), Error> {
        for (file, path) in self.written {
            file.persist(&path).map_err(|error| Error { path, source: error.error })?;
        }
        Ok(())
    }

    fn write(&mut self, name: &str, contents: &[u8], mode: u32) -> Result<(), Error> {
        let path = self.directory.join(name);
        match temporary(&self.directory, contents, mode) {
            Ok(file) => {
                self.written.push((file, path));
                Ok(())
            }
            Err(source) => Err(Error { path, source }),
        }
    }
}

/// Replaces one file, or makes it.
///
/// # Errors
/// It cannot be written.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let file = temporary(directory.unwrap_or(Path::new(".")), contents, 0o644)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn temporary(directory: &Path, contents: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(directory)?;
    file.write_all(contents)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let check = std::process::Command::new("sha256sum")
            .args(["-c", "agent.sha256"])
            .current_dir(&target)
            .output()
            .unwrap();
        assert!(check.status.success());
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
