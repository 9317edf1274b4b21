//! The directory of the boot role's downloads.
//!
//! A file goes when its owner drops it ([`crate::verify`]); the files of a boot role that was killed
//! have no owner any more, and would fill the memory that the next one needs. So the directory is
//! the boot role's alone, and is empty when the role begins. Nobody else's file is ever in it: kexec
//! empties what it finds there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where the boot role's downloads are.
pub(crate) const DOWNLOADS: &str = "/tmp/boot";

/// Why downloads will fail, or find less room than they could.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What an earlier boot role left is still there.
    #[error("cannot empty {}", path.display())]
    Empty { path: PathBuf, source: io::Error },
    /// There is no directory.
    #[error("cannot create {}", path.display())]
    Create { path: PathBuf, source: io::Error },
}

/// Makes `path` an empty directory, for its owner only.
pub(crate) fn empty(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(|source| Error::Empty { path: path.to_owned(), source })?,
    }
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::Create { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn what_was_there_goes_and_what_it_points_to_stays() {
        let lab = tempfile::tempdir().unwrap();
        let [downloads, precious] = ["downloads", "precious"].map(|name| lab.path().join(name));
        fs::create_dir_all(downloads.join("below")).unwrap();
        fs::write(downloads.join("below/payload"), "left").unwrap();
        fs::write(&precious, "keep").unwrap();
        symlink(&precious, downloads.join("link")).unwrap();
        empty(&downloads).unwrap();
        assert_eq!(fs::read_dir(&downloads).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(&precious).unwrap(), "keep");
    }

    #[test]
    fn a_directory_that_was_not_there_is_its_owners_only() {
        let lab = tempfile::tempdir().unwrap();
        let downloads = lab.path().join("downloads");
        empty(&downloads).unwrap();
        assert_eq!(fs::metadata(&downloads).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
