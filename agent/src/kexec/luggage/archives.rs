//! Whether another archive may follow those of an initramfs.
//!
//! The kernel looks behind each archive for another one (`unpack_to_rootfs` in `init/initramfs.c`).
//! Uncompressed ones, such as microcode, are skipped here as it does; behind a compressed one nobody
//! can look without unpacking it, and it counts as the last.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// How compressed archives begin that have an end of their own. LZ4 has none.
const COMPRESSED: &[&[u8]] = &[b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
/// How uncompressed archives begin, without and with checksums.
const UNCOMPRESSED: &[&[u8]] = &[b"070701", b"070702"];
/// Uncompressed ones, and the longest of the others.
const MAGIC_LENGTH: u64 = 6;
/// A magic and thirteen numbers of eight hexadecimal digits.
const HEADER_LENGTH: u64 = 110;
/// Where those numbers stand that matter here.
const FILE_LENGTH: std::ops::Range<usize> = 54..62;
const NAME_LENGTH: std::ops::Range<usize> = 94..102;
/// No name is longer, with its end.
const PATH_MAX: u64 = 4096;
/// The name of an archive's last entry, with its end.
const TRAILER: &[u8] = b"TRAILER!!!\0";
/// How an initramfs ends that has boot options behind its archives, but for at most three bytes. The
/// kernel looks for it there only (`get_boot_config_from_initrd` in `init/main.c`).
const BOOTCONFIG: &[u8] = b"#BOOTCONFIG\n";

/// Reads a whole initramfs. What is no archive may not be followed by one.
pub(super) fn may_be_followed(mut initramfs: impl Read + Seek) -> io::Result<bool> {
    if ends_with_bootconfig(&mut initramfs)? {
        return Ok(false);
    }
    initramfs.rewind()?;
    let mut archives = BufReader::new(initramfs);
    let mut is_first = true;
    loop {
        skip_zeros(&mut archives)?;
        let begin = archives.stream_position()?;
        let head = take(&mut archives, MAGIC_LENGTH)?;
        if head.is_empty() {
            return Ok(!is_first);
        }
        if !UNCOMPRESSED.contains(&&*head) {
            return Ok(COMPRESSED.iter().any(|magic| head.starts_with(magic)));
        }
        archives.seek_relative(-MAGIC_LENGTH.cast_signed())?;
        if padding(begin) != 0 || !skip_archive(&mut archives)? {
            return Ok(false);
        }
        is_first = false;
    }
}

fn ends_with_bootconfig(initramfs: &mut (impl Read + Seek)) -> io::Result<bool> {
    let length = initramfs.seek(SeekFrom::End(0))?;
    let end = BOOTCONFIG.len() as u64 + 3;
    initramfs.seek(SeekFrom::Start(length.saturating_sub(end)))?;
    let end = take(initramfs, end)?;
    Ok(end.windows(BOOTCONFIG.len()).any(|bytes| bytes == BOOTCONFIG))
}

fn skip_zeros(archives: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = archives.fill_buf()?;
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let is_end = zeros < buffer.len() || buffer.is_empty();
        archives.consume(zeros);
        if is_end {
            return Ok(());
        }
    }
}

/// Whether it has an end.
fn skip_archive<R: Read + Seek>(archives: &mut BufReader<R>) -> io::Result<bool> {
    loop {
        let header = take(archives, HEADER_LENGTH)?;
        let lengths = (number(&header, NAME_LENGTH), number(&header, FILE_LENGTH));
        let (Some(name_length), Some(file_length)) = lengths else { return Ok(false) };
        if name_length > PATH_MAX {
            return Ok(false);
        }
        if take(archives, name_length)? == TRAILER {
            return Ok(true);
        }
        let name_padding = padding(HEADER_LENGTH + name_length);
        let rest = name_padding + file_length + padding(file_length);
        archives.seek_relative(i64::try_from(rest).unwrap_or(i64::MAX))?;
    }
}

/// Up to so many bytes: fewer only at the end.
fn take(from: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn number(header: &[u8], place: std::ops::Range<usize>) -> Option<u64> {
    let digits = std::str::from_utf8(header.get(place)?).ok()?;
    u32::from_str_radix(digits, 16).ok().map(u64::from)
}

/// Everything begins at a multiple of four bytes.
fn padding(length: u64) -> u64 {
    length.next_multiple_of(4) - length
}

#[cfg(test)]
mod tests {
    use super::super::archive;
    use super::*;
    use std::io::Cursor;

    #[test]
    fn what_may_be_followed_ends_by_itself() {
        let plain = archive("/a/b", b"some contents");
        let cut = &plain[..plain.len() - 130];
        for (parts, expected) in [
            (&[&plain[..]][..], true),
            (&[&plain, &plain], true),
            (&[&plain, &[0; 512]], true),
            (&[&plain, &vec![0; 8188 - plain.len()], &plain], true),
            (&[&plain, &[0; 511], &plain], false),
            (&[&plain, b"\x1f\x8bgzip, options, #BOOTCONFIG\n"], false),
            (&[b"\x1f\x8bgzip, options, #BOOTCONFIG\n\0\0\0"], false),
            (&[&plain, &[0; 512], b"\x28\xb5\x2f\xfdzstd"], true),
            (&[&plain, b"\x1f\x8bgzip"], true),
            (&[b"\xfd7zXZ\0"], true),
            (&[b"\x02\x21\x4c\x18lz4"], false),
            (&[&plain, &[0; 512], b"\x02\x21\x4c\x18lz4"], false),
            (&[&plain, &plain, b"something else"], false),
            (&[cut], false),
            (&[b"070701x"], false),
            (&[&[0; 512]], false),
            (&[], false),
        ] {
            let initramfs = parts.concat();
            let begins = initramfs.get(..8).unwrap_or_default().to_owned();
            let answer = may_be_followed(Cursor::new(initramfs)).unwrap();
            assert_eq!(answer, expected, "{} parts, {begins:?}", parts.len());
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_no_end() {
        for length in [FILE_LENGTH, NAME_LENGTH] {
            let mut archive = archive("/a/b", b"some contents");
            archive[length].copy_from_slice(b"ffffffff");
            assert!(!may_be_followed(Cursor::new(archive)).unwrap());
        }
    }
}
