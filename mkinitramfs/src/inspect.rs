//! Tells what is in an archive, plain or compressed, or in a kernel with a ramdisk inside.

use std::fmt::Write as _;

use crate::bzimage::{self, SetupHeader};
use crate::compress::{self, Compression};
use crate::cpio::read::{Entry, entries};
use crate::cpio::{self};

/// Why a file cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither an archive nor a kernel.
    #[error("expected a cpio archive (plain, zstd, xz or gzip) or a bzImage")]
    Unknown,
    /// A damaged frame.
    #[error(transparent)]
    Compress(#[from] compress::Error),
    /// A damaged archive.
    #[error(transparent)]
    Cpio(#[from] cpio::read::Error),
    /// A damaged kernel.
    #[error(transparent)]
    BzImage(#[from] bzimage::Error),
    /// Compressed in a way that we do not unpack.
    #[error("cannot unpack this kernel: its payload begins with {0:02x?}")]
    Payload(Vec<u8>),
}

/// One archive of a ramdisk; several may follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// How it was compressed.
    pub compression: Compression,
    /// Its size as it lies in the file.
    pub packed_bytes: usize,
    /// The cpio archive.
    pub cpio: Vec<u8>,
}

/// The archives of a ramdisk, as the kernel finds them: one after another, zeros between them.
///
/// # Errors
/// Something that is no archive, or a damaged one.
pub fn archives(ramdisk: &[u8]) -> Result<Vec<Archive>, Error> {
    let mut archives = Vec::new();
    let mut rest = ramdisk;
    while let Some(start) = rest.iter().position(|&byte| byte != 0) {
        let archive = first_archive(&rest[start..])?;
        rest = &rest[start + archive.packed_bytes..];
        archives.push(archive);
    }
    if archives.is_empty() { Err(Error::Unknown) } else { Ok(archives) }
}

/// The archive at the start of some bytes, whatever comes after it.
fn first_archive(bytes: &[u8]) -> Result<Archive, Error> {
    let compression = Compression::of(bytes);
    let (cpio, packed_bytes) = match compression {
        Compression::None if !bytes.starts_with(cpio::MAGIC) => return Err(Error::Unknown),
        Compression::None => {
            let cpio = cpio::read::first(bytes)?;
            (cpio.to_owned(), cpio.len())
        }
        _ => compression.unpack_first(bytes)?,
    };
    if cpio.starts_with(cpio::MAGIC) {
        Ok(Archive { compression, packed_bytes, cpio })
    } else {
        Err(Error::Unknown)
    }
}

/// Describes a file for a person.
///
/// # Errors
/// The file is of no kind that we know, or damaged.
pub fn describe(file: &[u8]) -> Result<String, Error> {
    match SetupHeader::read(file) {
        Ok(header) => describe_kernel(file, &header),
        Err(bzimage::Error::NotBzImage) => describe_archives(&archives(file)?),
        Err(error) => Err(error.into()),
    }
}

fn describe_kernel(file: &[u8], header: &SetupHeader) -> Result<String, Error> {
    let payload = &file[header.payload.clone()];
    let compression = Compression::of(payload);
    if compression == Compression::None {
        return Err(Error::Payload(payload.iter().take(6).copied().collect()));
    }
    let (image, _) = compression.unpack_first(payload)?;
    let efi = if header.is_efi { "an EFI program" } else { "no EFI program" };
    let mut text = format!(
        "kernel {}\nboot protocol {}.{:02}, {efi}, command line up to {} bytes, {} MiB to unpack\n\
         {:>10}  the file\n{:>10}  the kernel and all in it, {compression}\n{:>10}  the same unpacked\n",
        shown(&header.version),
        header.protocol >> 8,
        header.protocol & 0xff,
        header.cmdline_bytes,
        header.init_bytes.div_ceil(1 << 20),
        file.len(),
        payload.len(),
        image.len(),
    );
    match embedded(&image) {
        Some(archives) => text.push_str(&describe_archives(&archives)?),
        None => text.push_str("no ramdisk inside\n"),
    }
    Ok(text)
}

fn describe_archives(archives: &[Archive]) -> Result<String, Error> {
    let mut text = String::new();
    for archive in archives {
        let Archive { compression, packed_bytes, cpio } = archive;
        let bytes = cpio.len();
        text.push_str(&format!(
            "\nramdisk: {packed_bytes} bytes, {compression}; {bytes} unpacked\n"
        ));
        for entry in entries(cpio) {
            push_entry(&mut text, &entry?);
        }
    }
    Ok(text.trim_start().to_owned())
}

fn push_entry(text: &mut String, entry: &Entry<'_>) {
    let size = match entry.mode >> 12 {
        0o02 | 0o06 => format!("{}, {}", entry.device.0, entry.device.1),
        _ => entry.data.len().to_string(),
    };
    let (mode, uid, gid) = (entry.mode_letters(), entry.uid, entry.gid);
    // `find . | cpio` writes the dot into every name.
    let name = match entry.name {
        "." => "",
        name => name.strip_prefix("./").unwrap_or(name),
    };
    let line = write!(text, "{mode} {uid}:{gid} {size:>10}  /{}", shown(name));
    debug_assert!(line.is_ok(), "a String takes everything");
    if entry.is_symlink() {
        text.push_str(" -> ");
        text.push_str(&shown(&String::from_utf8_lossy(entry.data)));
    }
    text.push('\n');
}

/// What would move a terminal's cursor, or do worse, is shown as an escape.
fn shown(name: &str) -> String {
    let mut shown = String::new();
    for character in name.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Finds a ramdisk inside a kernel by what it begins with; the kernel's linker aligns it to four.
///
/// A kernel without one of its own has the build's default: a directory and a console.
fn embedded(image: &[u8]) -> Option<Vec<Archive>> {
    (0..image.len()).step_by(4).find_map(|offset| archives_at(&image[offset..]))
}

/// The archives that follow one another at the start of some bytes, until anything else does.
fn archives_at(bytes: &[u8]) -> Option<Vec<Archive>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Ok(archive) = first_archive(rest) {
        rest = &rest[archive.packed_bytes..];
        found.push(archive);
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{DeviceKind, Node, Tree};

    fn archive() -> Vec<u8> {
        let mut tree = Tree::default();
        tree.file("/init", 0o755, "program").unwrap();
        tree.symlink("/sbin/kexec", "/init").unwrap();
        let kind = DeviceKind::Character;
        tree.add("/dev/null", Node::Device { kind, mode: 0o666, number: (1, 3) }).unwrap();
        cpio::archive(&tree, 0).unwrap()
    }

    #[test]
    fn an_archive_is_listed_with_modes_owners_and_sizes() {
        let archive = archive();
        let listing = "\
            drwxr-xr-x 0:0          0  /dev\n\
            crw-rw-rw- 0:0       1, 3  /dev/null\n\
            -rwxr-xr-x 0:0          7  /init\n\
            drwxr-xr-x 0:0          0  /sbin\n\
            lrwxrwxrwx 0:0          5  /sbin/kexec -> /init\n";
        for compression in Compression::ALL {
            let packed = compression.compress(&archive).unwrap();
            let (size, bytes) = (packed.len(), archive.len());
            let head = format!("ramdisk: {size} bytes, {compression}; {bytes} unpacked\n");
            assert_eq!(describe(&packed).unwrap(), head + listing);
        }
    }

    #[test]
    fn archives_that_follow_one_another_are_all_found() {
        let one = Compression::Zstd.compress(&archive()).unwrap();
        let both = [one.clone(), vec![0; 8], one.clone()].concat();
        assert_eq!(archives(&both).unwrap().len(), 2);
        let in_a_kernel = [vec![7; 4000], both, vec![9; 4000]].concat();
        assert_eq!(embedded(&in_a_kernel).unwrap().len(), 1, "up to the first zeros");
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        for bytes in [b"".as_slice(), b"#!/bin/sh", &[0; 100]] {
            assert!(matches!(describe(bytes), Err(Error::Unknown)));
        }
        let cut = &Compression::Xz.compress(&archive()).unwrap()[..60];
        assert!(matches!(describe(cut), Err(Error::Compress(_))));
        let text = Compression::Zstd.compress(b"text").unwrap();
        assert!(matches!(describe(&text), Err(Error::Unknown)));
    }
}
