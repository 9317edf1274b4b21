//! The process that has a disk open: it reads, writes and flushes as it is told on standard input.
//!
//! Requests and answers are a byte, two numbers of eight bytes, and the bytes of what is written, read
//! or said. The disk is opened for us alone, which the kernel refuses as long as anything uses it, and
//! past the kernel's cache: what is read comes from the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use nix::libc::{O_DIRECT, O_EXCL};

/// The argument that starts this process.
pub const ARGUMENT: &str = "disk-operation";

/// What memory must be aligned to for any disk.
const ALIGNMENT: usize = 4096;
/// No request reads or writes more.
const MOST_BYTES: u64 = 16 << 20;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
}

const KINDS: [(Kind, u8); 3] = [(Kind::Read, b'r'), (Kind::Write, b'w'), (Kind::Flush, b'f')];

/// Answer: done; what was read follows.
pub(super) const DONE: u8 = b'+';
/// Answer: not done; why follows.
pub(super) const FAILED: u8 = b'-';

/// The head of a request or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) at: u64,
    pub(super) length: u64,
}

impl Head {
    pub(super) fn request(kind: Kind, at: u64, length: u64) -> Self {
        let letter = KINDS.iter().find(|(known, _)| *known == kind).map_or(0, |(_, byte)| *byte);
        Self { kind: letter, at, length }
    }

    pub(super) fn write(self, to: &mut impl Write) -> io::Result<()> {
        let mut bytes = vec![self.kind];
        bytes.extend(self.at.to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        to.write_all(&bytes)
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let (mut kind, mut at, mut length) = ([0; 1], [0; 8], [0; 8]);
        from.read_exact(&mut kind)?;
        from.read_exact(&mut at)?;
        from.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MOST_BYTES {
            return Err(io::Error::other(format!("{length} bytes at once")));
        }
        Ok(Self { kind: kind[0], at: u64::from_le_bytes(at), length })
    }
}

/// Whether the disk may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may not.
    ReadOnly,
    /// It may.
    Write,
}

/// Opens the disk, tells its size, and works until standard input ends.
#[must_use]
pub fn run(path: &Path, access: Access) -> ExitCode {
    match serve(path, access, &mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody listens any more, or speaks another language.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(
    path: &Path,
    access: Access,
    requests: &mut impl Read,
    answers: &mut impl Write,
) -> io::Result<()> {
    let mut disk = match open(path, access) {
        Ok((disk, size_bytes)) => {
            Head { kind: DONE, at: size_bytes, length: 0 }.write(answers)?;
            answers.flush()?;
            disk
        }
        Err(error) => return answer(answers, Err(error)),
    };
    let mut buffer = Aligned::default();
    loop {
        let head = match Head::read(requests) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            head => head?,
        };
        let bytes = buffer.get(head.length)?;
        let kind = KINDS.iter().find(|(_, byte)| *byte == head.kind).map(|(kind, _)| *kind);
        let done = match kind {
            Some(Kind::Read) => disk.read_exact_at(bytes, head.at).map(|()| &*bytes),
            Some(Kind::Write) => {
                requests.read_exact(bytes)?;
                disk.write_all_at(bytes, head.at).map(|()| &[][..])
            }
            Some(Kind::Flush) => disk.flush().and_then(|()| disk.sync_all()).map(|()| &[][..]),
            None => return Err(io::ErrorKind::InvalidData.into()),
        };
        answer(answers, done)?;
    }
}

fn answer(to: &mut impl Write, done: io::Result<&[u8]>) -> io::Result<()> {
    let text = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let (kind, bytes) = match &done {
        Ok(bytes) => (DONE, *bytes),
        Err(_) => (FAILED, text.as_bytes()),
    };
    Head { kind, at: 0, length: bytes.len() as u64 }.write(to)?;
    to.write_all(bytes)?;
    to.flush()
}

/// The disk and its size.
fn open(path: &Path, access: Access) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(O_EXCL | O_DIRECT)
        .open(path)?;
    let size_bytes = file.seek(SeekFrom::End(0))?;
    Ok((file, size_bytes))
}

/// Memory that a disk can be read into past the cache.
#[derive(Debug, Default)]
struct Aligned(Vec<u8>);

impl Aligned {
    fn get(&mut self, length: u64) -> io::Result<&mut [u8]> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if self.0.len() < length + ALIGNMENT {
            self.0 = vec![0; length + ALIGNMENT];
        }
        let start = self.0.as_ptr().align_offset(ALIGNMENT);
        self.0.get_mut(start..start + length).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head::request(Kind::Write, u64::MAX, 7);
        let mut bytes = Vec::new();
        head.write(&mut bytes).unwrap();
        assert_eq!(Head::read(&mut bytes.as_slice()).unwrap(), head);
        Head { length: MOST_BYTES + 1, ..head }.write(&mut bytes).unwrap();
        assert!(Head::read(&mut &bytes[17..]).is_err());
    }

    #[test]
    fn memory_for_a_disk_is_aligned() {
        let mut buffer = Aligned::default();
        for length in [512, 1 << 20, 4096] {
            let bytes = buffer.get(length).unwrap();
            assert_eq!((bytes.len() as u64, bytes.as_ptr() as usize % ALIGNMENT), (length, 0));
        }
    }
}
