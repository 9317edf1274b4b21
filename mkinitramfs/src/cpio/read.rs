//! Reads cpio archives of the `newc` form, as the kernel does: several may follow one another,
//! with zeros between them.

use super::{HEADER_BYTES, MAGIC, TRAILER};

/// Why bytes are not a cpio archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something else than a header where one must be.
    #[error("expected a cpio header at byte {0}")]
    Header(usize),
    /// The archive ends within an entry.
    #[error("cannot read past the end of the cpio archive: the entry at byte {0} is cut short")]
    CutShort(usize),
    /// The archive ends without its trailer.
    #[error("expected the cpio trailer at byte {0}, got the end of the archive")]
    NoTrailer(usize),
}

/// One entry; the numbers are those of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The path, without a slash in front.
    pub name: &'a str,
    /// Inode number.
    pub inode: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: u32,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// Contents, or the target of a symbolic link.
    pub data: &'a [u8],
}

impl Entry<'_> {
    /// The ten letters of `ls -l`.
    #[must_use]
    pub fn mode_letters(&self) -> String {
        let kind = match self.mode >> 12 {
            0o02 => 'c',
            0o04 => 'd',
            0o06 => 'b',
            0o10 => '-',
            0o12 => 'l',
            _ => '?',
        };
        let is_set = |bit: usize| self.mode >> bit & 1 == 1;
        let letter = |bit: usize| if is_set(bit) { ['x', 'w', 'r'][bit % 3] } else { '-' };
        let mut letters: Vec<char> = (0..9).rev().map(letter).collect();
        // set-user-ID, set-group-ID and sticky are shown in place of an x.
        for (bit, index, letter) in [(11, 2, 's'), (10, 5, 's'), (9, 8, 't')] {
            if is_set(bit) {
                let is_executable = letters[index] == 'x';
                letters[index] = if is_executable { letter } else { letter.to_ascii_uppercase() };
            }
        }
        std::iter::once(kind).chain(letters).collect()
    }

    /// Whether this is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode >> 12 == 0o12
    }
}

/// Iterates over the entries of one archive or of several, without their trailers.
pub fn entries(bytes: &[u8]) -> Entries<'_> {
    Entries { bytes, position: 0, ended: true }
}

/// The bytes of the first archive, up to its trailer; anything may follow.
///
/// # Errors
/// The bytes do not begin with a whole archive.
pub fn first(bytes: &[u8]) -> Result<&[u8], Error> {
    let mut entries = Entries { bytes, position: 0, ended: false };
    while entries.entry()?.name != TRAILER {}
    Ok(&bytes[..entries.position])
}

/// See [`entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    position: usize,
    /// The last entry was a trailer, or nothing was read yet.
    ended: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.ended {
                let rest = self.bytes.get(self.position..)?;
                self.position += rest.iter().position(|&byte| byte != 0)?;
            }
            match self.entry() {
                Ok(entry) if entry.name == TRAILER => self.ended = true,
                Ok(entry) => {
                    self.ended = false;
                    return Some(Ok(entry));
                }
                Err(error) => {
                    self.bytes = &[];
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl<'a> Entries<'a> {
    fn entry(&mut self) -> Result<Entry<'a>, Error> {
        let start = self.position;
        if start >= self.bytes.len() {
            return Err(Error::NoTrailer(start));
        }
        let header = self.take(HEADER_BYTES, start)?;
        let fields = header_fields(header).ok_or(Error::Header(start))?;
        let [inode, mode, uid, gid, _links, mtime, data_bytes, _, _, major, minor, name_bytes, _] =
            fields;
        let name = self.take(name_bytes as usize, start)?;
        self.align();
        let data = self.take(data_bytes as usize, start)?;
        self.align();
        let name = name.strip_suffix(b"\0").and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or(Error::Header(start))?;
        Ok(Entry { name, inode, mode, uid, gid, mtime, device: (major, minor), data })
    }

    fn take(&mut self, count: usize, entry_start: usize) -> Result<&'a [u8], Error> {
        let end = self.position.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.position..end));
        self.position += count;
        taken.ok_or(Error::CutShort(entry_start))
    }

    fn align(&mut self) {
        self.position = self.position.next_multiple_of(4);
    }
}

fn header_fields(header: &[u8]) -> Option<[u32; 13]> {
    let digits = header.strip_prefix(MAGIC)?;
    let mut fields = [0; 13];
    for (field, text) in fields.iter_mut().zip(digits.chunks_exact(8)) {
        *field = u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()?;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpio, tree::Tree};

    fn archive_of(path: &str) -> Vec<u8> {
        let mut tree = Tree::default();
        tree.file(path, 0o640, "data").unwrap();
        cpio::archive(&tree, 0).unwrap()
    }

    #[test]
    fn archives_that_follow_one_another_are_read_as_one() {
        let mut both = archive_of("/first");
        both.extend([0; 512]);
        both.extend(archive_of("/second"));
        let names: Vec<_> = entries(&both).map(|entry| entry.unwrap().name).collect();
        assert_eq!(names, ["first", "second"]);
    }

    #[test]
    fn an_archive_that_is_cut_short_is_an_error_at_every_length() {
        let archive = archive_of("/file");
        for length in 1..archive.len() - 4 {
            let last = entries(&archive[..length]).last().unwrap();
            assert!(last.is_err(), "{length} of {} bytes: {last:?}", archive.len());
        }
        assert_eq!(entries(b"#!/bin/sh\n").next(), Some(Err(Error::CutShort(0))));
        assert_eq!(entries(&[b'x'; 200]).next(), Some(Err(Error::Header(0))));
    }

    #[test]
    fn modes_are_shown_as_ls_shows_them() {
        for (mode, letters) in [
            (0o640, "-rw-r-----"),
            (0o4755, "-rwsr-xr-x"),
            (0o2644, "-rw-r-Sr--"),
            (0o1777, "-rwxrwxrwt"),
        ] {
            let mut tree = Tree::default();
            tree.file("/file", mode, "").unwrap();
            let archive = cpio::archive(&tree, 0).unwrap();
            let entry = entries(&archive).next().unwrap().unwrap();
            assert_eq!(entry.mode_letters(), letters);
        }
    }
}
