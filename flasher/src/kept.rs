//! Files that are whole or absent: written beside their name, flushed, read back, and renamed.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use agent_types::flash_report::BackupSummary;
use sha2::{Digest as _, Sha256};

/// Why a file is not kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It was cut off, or stored wrong.
    #[error("{} does not hold what was written to it", .0.display())]
    NotStored(PathBuf),
}

/// Makes the error of doing `action` to `path`.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// A file that is being written; nothing has its name before it is whole.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    part: PathBuf,
    file: File,
    hasher: Sha256,
}

impl Writer {
    /// Begins the file, with these permissions.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path, mode: u32) -> Result<Self, Error> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // An interrupted run has left it, with whatever permissions.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &part)(error));
            }
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(mode);
        let file = options.open(&part).map_err(io_error("create", &part))?;
        Ok(Self { path: path.to_owned(), part, file, hasher: Sha256::new() })
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(io_error("write", &self.part))
    }

    /// Ends it, and tells where it is and what it holds.
    ///
    /// # Errors
    /// It does not hold what was written.
    pub fn finish(mut self) -> Result<BackupSummary, Error> {
        self.file.sync_all().map_err(io_error("flush", &self.part))?;
        let expected: [u8; 32] = self.hasher.finalize().into();
        let found = digest_of(&mut self.file).map_err(io_error("read", &self.part))?;
        if found != expected {
            return Err(Error::NotStored(self.part));
        }
        fs::rename(&self.part, &self.path).map_err(io_error("rename", &self.part))?;
        let path = fs::canonicalize(&self.path).map_err(io_error("find", &self.path))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        let flushed = File::open(directory).and_then(|file| file.sync_all());
        flushed.map_err(io_error("flush", directory))?;
        Ok(BackupSummary { path: path.display().to_string(), sha256: expected.into() })
    }
}

/// Keeps `content` at `path`, for all to read.
///
/// # Errors
/// It cannot be written, or is not what was written.
pub fn keep(path: &Path, content: &[u8]) -> Result<BackupSummary, Error> {
    let mut writer = Writer::create(path, 0o644)?;
    writer.append(content)?;
    writer.finish()
}

fn digest_of(file: &mut File) -> io::Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    file.rewind()?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_replaces_what_had_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        for content in ["first", "second and longer", ""] {
            let before = fs::read(&path).ok();
            fs::write(directory.path().join("kept.part"), "of an interrupted run").unwrap();
            let mut writer = Writer::create(&path, 0o600).unwrap();
            writer.append(content.as_bytes()).unwrap();
            assert_eq!(fs::read(&path).ok(), before);
            let kept = writer.finish().unwrap();
            assert_eq!(fs::read_to_string(&kept.path).unwrap(), content);
            assert_eq!(kept.sha256, agent_types::rom::sha256(content.as_bytes()));
            assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn what_somebody_changes_while_it_is_written_gets_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept");
        let mut writer = Writer::create(&path, 0o600).unwrap();
        writer.append(b"old").unwrap();
        fs::write(directory.path().join("kept.part"), b"OLD").unwrap();
        let error = writer.finish().unwrap_err().to_string();
        assert!(error.ends_with("kept.part does not hold what was written to it"), "{error}");
        assert!(!path.exists());
    }
}
