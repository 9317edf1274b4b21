//! Where the keys are: those of operators, and the one by which operators know the machine.
//!
//! Each giver has files of its own, so that what one takes back leaves the others' in place. The ssh
//! server reads them anew for each connection. Paths are below a root, which is `/` but for tests.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Operators' keys in the image.
pub(crate) const OF_THE_IMAGE: &str = "root/.ssh/authorized_keys";
/// Whoever is root on this machine may put more keys there, as a command of a boot document.
pub(crate) const BY_HAND: &str = "run/stage2/authorized_keys";
/// Those that `epoxy.ssh_keys` names.
pub(crate) const OF_THE_PARAMETER: &str = "run/stage2/parameter/authorized_keys";
/// Those that a boot document brings.
pub(crate) const OF_THE_DOCUMENT: &str = "run/stage2/document/authorized_keys";

/// All files of operators' keys.
pub(crate) const AUTHORIZED_KEYS: [&str; 4] =
    [OF_THE_IMAGE, BY_HAND, OF_THE_PARAMETER, OF_THE_DOCUMENT];

/// What a boot document brings; the ssh server watches it for another host key.
pub(crate) const DOCUMENT: &str = "run/stage2/document";
/// The host key that a boot document brings.
pub(crate) const DOCUMENTS_HOST_KEY: &str = "run/stage2/document/ssh_host_ed25519_key";

/// Longer files of keys are read by nobody: a thousand keys take a fifth of this.
pub(crate) const LONGEST_BYTES: u64 = 1 << 20;

/// Whether there is a key with which somebody could log in.
pub(crate) fn has_keys(root: &Path) -> bool {
    let is_filled = |name: &&str| fs::metadata(root.join(name)).is_ok_and(|file| file.len() > 0);
    AUTHORIZED_KEYS.iter().any(is_filled)
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is another one now.
    Changed,
    /// It is what it was.
    None,
}

/// Makes these the contents of a file, whole or not at all: somebody may log in meanwhile. Nobody
/// else reads it.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<Change> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(Change::None);
    }
    fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
    let new = beside(file);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&new).and_then(|mut new| new.write_all(bytes));
    match written.and_then(|()| fs::rename(&new, file)) {
        Ok(()) => Ok(Change::Changed),
        Err(error) => {
            // The rest of it would only take room.
            remove(&new)?;
            Err(error)
        }
    }
}

/// Removes a file, if there is one.
pub(crate) fn remove(file: &Path) -> io::Result<Change> {
    match fs::remove_file(file) {
        Ok(()) => Ok(Change::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Change::None),
        Err(error) => Err(error),
    }
}

fn beside(file: &Path) -> PathBuf {
    file.with_extension("new")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_only_if_it_changes_and_is_its_owners_only() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(OF_THE_DOCUMENT);
        assert!(!has_keys(root.path()));
        assert_eq!(remove(&file).unwrap(), Change::None);
        for (bytes, change) in [("a", Change::Changed), ("a", Change::None), ("", Change::Changed)]
        {
            assert_eq!(replace(&file, bytes.as_bytes()).unwrap(), change);
            assert_eq!(fs::read_to_string(&file).unwrap(), bytes);
            assert_eq!(has_keys(root.path()), !bytes.is_empty());
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(remove(&file).unwrap(), Change::Changed);
    }
}
