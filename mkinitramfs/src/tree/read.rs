//! Reads a directory of the build host into a [`Tree`].
//!
//! Owners and times are left behind; the kinds of nodes, permission bits and device numbers are
//! kept. Sockets and pipes are refused.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{DeviceKind, Node, Tree};

/// Why a directory cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that is not UTF-8, or a socket or pipe.
    #[error("cannot pack {}: {reason}", path.display())]
    Unfit {
        /// What.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The tree refuses it.
    #[error(transparent)]
    Tree(#[from] super::Error),
}

impl Tree {
    /// Reads all that is in a directory.
    ///
    /// # Errors
    /// Something cannot be read or packed; it is named.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        add_below(&mut tree, directory, "")?;
        Ok(tree)
    }
}

fn add_below(tree: &mut Tree, directory: &Path, prefix: &str) -> Result<(), Error> {
    let read_error = |source| Error::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        let path = entry.path();
        let unfit = |reason| Error::Unfit { path: path.clone(), reason };
        let name = entry.file_name().into_string().map_err(|_| unfit("its name is not UTF-8"))?;
        let target = format!("{prefix}/{name}");
        let metadata = entry.metadata().map_err(read_error)?;
        tree.add(&target, node(&path, &metadata)?)?;
        if metadata.is_dir() {
            add_below(tree, &path, &target)?;
        }
    }
    Ok(())
}

fn node(path: &Path, metadata: &Metadata) -> Result<Node, Error> {
    let read_error = |source| Error::Read { path: path.to_owned(), source };
    let unfit = |reason| Error::Unfit { path: path.to_owned(), reason };
    let mode = metadata.mode() & 0o7777;
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        return Ok(Node::Directory { mode });
    }
    if file_type.is_symlink() {
        let target = fs::read_link(path).map_err(read_error)?.into_os_string().into_string();
        return Ok(Node::Symlink { target: target.map_err(|_| unfit("its target is not UTF-8"))? });
    }
    if file_type.is_file() {
        return Ok(Node::File { mode, contents: fs::read(path).map_err(read_error)? });
    }
    let kind = device_kind(file_type).ok_or_else(|| unfit("it is a socket or a pipe"))?;
    let number = metadata.rdev();
    let number = (rustix::fs::major(number), rustix::fs::minor(number));
    Ok(Node::Device { kind, mode, number })
}

fn device_kind(file_type: FileType) -> Option<DeviceKind> {
    match (file_type.is_char_device(), file_type.is_block_device()) {
        (true, _) => Some(DeviceKind::Character),
        (_, true) => Some(DeviceKind::Block),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_directory_is_read_with_its_modes_and_links() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::set_permissions(&bin, fs::Permissions::from_mode(0o750)).unwrap();
        fs::write(bin.join("sh"), "x").unwrap();
        fs::set_permissions(bin.join("sh"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("sh", bin.join("ash")).unwrap();
        let mut expected = Tree::default();
        expected.directory("/bin", 0o750).unwrap();
        expected.file("/bin/sh", 0o4755, "x").unwrap();
        expected.symlink("/bin/ash", "sh").unwrap();
        assert_eq!(Tree::read(directory.path()).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_packed_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = Tree::read(directory.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot pack {}: it is a socket or a pipe", socket.display())
        );
        let error = Tree::read(Path::new("/none")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /none");
    }
}
