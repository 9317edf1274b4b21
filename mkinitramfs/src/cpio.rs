//! Writes cpio archives in the `newc` form that the kernel unpacks.
//!
//! The same tree and time give the same bytes: entries are sorted, owned by root, numbered in
//! sequence and carry one time. Reading is in [`read`].
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.

pub mod read;

use crate::tree::{DeviceKind, Node, Tree};

/// Begins every header.
pub const MAGIC: &[u8; 6] = b"070701";
/// Ends every archive.
pub const TRAILER: &str = "TRAILER!!!";
/// Magic and thirteen numbers of eight hexadecimal digits.
pub const HEADER_BYTES: usize = 6 + 13 * 8;

const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// Why an archive cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Sizes have eight hexadecimal digits.
    #[error("cannot archive {path}: {bytes} bytes are more than the format's 4 GiB")]
    TooLarge {
        /// The file's path.
        path: String,
        /// Its size.
        bytes: usize,
    },
}

/// Appends entries to an archive in memory.
#[derive(Debug, Default)]
pub struct Writer {
    archive: Vec<u8>,
    mtime: u32,
    last_inode: u32,
}

/// The numbers of a header that differ from entry to entry.
#[derive(Default)]
struct Header {
    inode: u32,
    mode: u32,
    links: u32,
    mtime: u32,
    device: (u32, u32),
}

impl Writer {
    /// An empty archive whose entries carry one modification time, in seconds since 1970.
    #[must_use]
    pub fn new(mtime: u32) -> Self {
        Self { mtime, ..Self::default() }
    }

    /// Appends one entry.
    ///
    /// # Errors
    /// A file of 4 GiB or more.
    pub fn add(&mut self, path: &str, node: &Node) -> Result<(), Error> {
        self.last_inode += 1;
        let (mode, links, device, data): (u32, u32, (u32, u32), &[u8]) = match node {
            Node::Directory { mode } => (S_IFDIR | mode, 2, (0, 0), &[]),
            Node::File { mode, contents } => (S_IFREG | mode, 1, (0, 0), contents),
            Node::Symlink { target } => (S_IFLNK | 0o777, 1, (0, 0), target.as_bytes()),
            Node::Device { kind, mode, number } => (device_type(*kind) | mode, 1, *number, &[]),
        };
        let header = Header { inode: self.last_inode, mode, links, mtime: self.mtime, device };
        self.entry(&header, path.trim_start_matches('/'), data)
    }

    /// Ends the archive and hands out its bytes.
    ///
    /// # Errors
    /// None that can happen: the trailer is small.
    pub fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.entry(&Header { links: 1, ..Header::default() }, TRAILER, &[])?;
        Ok(self.archive)
    }

    fn entry(&mut self, header: &Header, name: &str, data: &[u8]) -> Result<(), Error> {
        let too_large = || Error::TooLarge { path: name.to_owned(), bytes: data.len() };
        let data_bytes = u32::try_from(data.len()).map_err(|_| too_large())?;
        let name_bytes = u32::try_from(name.len() + 1).map_err(|_| too_large())?;
        self.archive.extend_from_slice(MAGIC);
        // uid, gid, and the device that holds the file are root's and nobody's: zero.
        let (major, minor) = header.device;
        let fields = [
            header.inode,
            header.mode,
            0,
            0,
            header.links,
            header.mtime,
            data_bytes,
            0,
            0,
            major,
            minor,
            name_bytes,
            0,
        ];
        for field in fields {
            self.archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.archive.extend_from_slice(name.as_bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend_from_slice(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}

fn device_type(kind: DeviceKind) -> u32 {
    match kind {
        DeviceKind::Character => S_IFCHR,
        DeviceKind::Block => S_IFBLK,
    }
}

/// Writes a whole tree.
///
/// # Errors
/// A file of 4 GiB or more.
pub fn archive(tree: &Tree, mtime: u32) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::new(mtime);
    tree.iter().try_for_each(|(path, node)| writer.add(path, node))?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_the_kernel_documents_it() {
        let mut tree = Tree::default();
        tree.file("/a", 0o644, "xyz").unwrap();
        let archive = archive(&tree, 0x10).unwrap();
        let expected = "070701\
            00000001000081a4000000000000000000000001000000100000000300000000000000000000000000000000\
            0000000200000000a\0xyz\0";
        assert_eq!(&archive[..expected.len()], expected.as_bytes());
        assert_eq!(archive.len() % 4, 0);
    }

    #[test]
    fn everything_belongs_to_root_and_is_numbered_in_sequence() {
        let mut tree = Tree::default();
        tree.file("/b/c", 0o600, "x").unwrap();
        tree.symlink("/a", "b/c").unwrap();
        let archive = archive(&tree, 7).unwrap();
        let entries: Vec<_> = read::entries(&archive).map(Result::unwrap).collect();
        let summary: Vec<_> =
            entries.iter().map(|e| (e.name, e.inode, e.uid, e.gid, e.mtime)).collect();
        assert_eq!(summary, [("a", 1, 0, 0, 7), ("b", 2, 0, 0, 7), ("b/c", 3, 0, 0, 7)]);
    }
}
