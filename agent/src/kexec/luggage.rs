//! Adds one file to the next kernel's initramfs: an archive of its own, behind the others.
//!
//! On entry the initramfs is complete and verified, and the caller's to change. On return it ends
//! with an uncompressed cpio archive that has one more file, or it is as it was: an initramfs may be
//! any number of archives, each beginning at a multiple of four bytes.
//!
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>

mod archives;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_600;
const TRAILER: &str = "TRAILER!!!";

/// An initramfs that has grown.
#[derive(Debug)]
pub(super) struct Appended {
    path: PathBuf,
    length_before: u64,
}

/// Why the initramfs stays as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot append to {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("expected an initramfs that another archive may follow, got something else: {path}")]
    Unknown { path: PathBuf },
}

/// Appends the archive to the initramfs.
pub(super) fn append(path: &Path, archive: &[u8]) -> Result<Appended, Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    if !archives::may_be_followed(&file).map_err(failed)? {
        return Err(Error::Unknown { path: path.to_owned() });
    }
    let length_before = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let appended = Appended { path: path.to_owned(), length_before };
    match write_aligned(&mut file, length_before, archive) {
        Ok(()) => Ok(appended),
        Err(source) => {
            drop(file);
            appended.take_back();
            Err(failed(source))
        }
    }
}

impl Appended {
    /// Makes the initramfs what it was.
    pub(super) fn take_back(self) {
        let file = OpenOptions::new().write(true).open(&self.path);
        if let Err(error) = file.and_then(|file| file.set_len(self.length_before)) {
            log::warn!("cannot shorten {}: {error}", self.path.display());
        }
    }
}

fn write_aligned(file: &mut File, length: u64, archive: &[u8]) -> io::Result<()> {
    let padding = length.next_multiple_of(4) - length;
    file.write_all(&[0; 4][..usize::try_from(padding).unwrap_or_default()])?;
    file.write_all(archive)
}

/// The archive as a file, for a kernel that is given no initramfs; it goes when dropped.
#[derive(Debug)]
pub(super) struct Alone(PathBuf);

/// Where it is until it is loaded: nobody may have it open for writing then.
const ALONE: &str = "/run/stage2/luggage.cpio";

/// Writes the archive to a file of its own.
pub(super) fn alone(archive: &[u8]) -> Option<Alone> {
    let alone = Alone(ALONE.into());
    match fs::write(alone.path(), archive) {
        Ok(()) => Some(alone),
        Err(error) => {
            log::debug!("leaving the log behind: cannot write {ALONE}: {error}");
            None
        }
    }
}

impl Alone {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::debug!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// An archive with this file and the directory above it; `path` is absolute, of two parts.
pub(super) fn archive(path: &str, contents: &[u8]) -> Vec<u8> {
    let path = path.trim_start_matches('/');
    let mut archive = Vec::new();
    if let Some((directory, _)) = path.rsplit_once('/') {
        entry(&mut archive, directory, DIRECTORY, &[]);
    }
    entry(&mut archive, path, FILE, contents);
    entry(&mut archive, TRAILER, 0, &[]);
    archive
}

/// Inode, mode, owner, group, links, time, length, devices, length of the name, checksum.
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) {
    let inode = archive.len();
    let numbers = [inode, mode as usize, 0, 0, 1, 0, contents.len(), 0, 0, 0, 0, name.len() + 1, 0];
    archive.extend_from_slice(b"070701");
    for number in numbers {
        archive.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(contents);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What the cpio of the host makes of an archive: names with their modes, and the file.
    fn unpacked(archive: &[u8]) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let mut cpio = Command::new("busybox")
            .args(["cpio", "-id"])
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(archive).unwrap();
        assert!(cpio.wait().unwrap().success());
        let file = directory.path().join("stage2/log");
        let mode = fs::metadata(&file).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        (format!("{mode:o}"), fs::read_to_string(file).unwrap())
    }

    #[test]
    fn others_can_unpack_the_archive() {
        for contents in ["", "x", "four", "the log\n"] {
            let archive = archive("/stage2/log", contents.as_bytes());
            assert_eq!(unpacked(&archive), ("100600".to_owned(), contents.to_owned()));
        }
    }

    #[test]
    fn an_archive_goes_behind_what_the_kernel_can_tell_from_it() {
        for (before, expected) in [
            (&b"\x1f\x8bgz"[..], Some(&b"\x1f\x8bgznew"[..])),
            (b"\x28\xb5\x2f\xfdz", Some(b"\x28\xb5\x2f\xfdz\0\0\0new")),
            (b"\x02\x21\x4c\x18lz4", None),
            (b"", None),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(&file, before).unwrap();
            let appended = append(file.path(), b"new");
            assert_eq!(fs::read(&file).unwrap(), expected.unwrap_or(before));
            assert_eq!(appended.is_ok(), expected.is_some());
            if let Ok(appended) = appended {
                appended.take_back();
            }
            assert_eq!(fs::read(&file).unwrap(), before);
        }
    }
}
