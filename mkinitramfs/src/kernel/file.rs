//! What is wrong with a file of the kernel's source or build.

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
