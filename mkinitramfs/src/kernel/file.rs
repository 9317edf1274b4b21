//! Files of the kernel's source and build, and what is wrong with them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}", path.display())]
pub struct FileError {
    /// What was tried.
    verb: &'static str,
    /// On what.
    path: PathBuf,
    /// Why not.
    source: io::Error,
}

/// Makes the error of doing `verb` to `path`.
pub(super) fn cannot(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { verb, path, source }
}

/// Removes a file. One that is not there is no error.
pub(super) fn remove_file(path: &Path) -> Result<(), FileError> {
    or_gone(fs::remove_file(path)).map_err(cannot("remove", path))
}

/// Removes a directory with all that is in it. One that is not there is no error.
pub(super) fn remove_tree(path: &Path) -> Result<(), FileError> {
    or_gone(fs::remove_dir_all(path)).map_err(cannot("remove", path))
}

fn or_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Every file below a directory that is not itself one.
pub(super) fn files_below(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    collect_files(directory, &mut files).map_err(cannot("read", directory))?;
    Ok(files)
}

fn collect_files(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_files(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
