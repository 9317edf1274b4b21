//! One zstd frame out of parts that were compressed apart, so that a new ramdisk costs no new
//! compression of the kernel around it.
//!
//! The kernel's image is *head*, *slot*, *tail*. The head is most of it and takes seconds to
//! compress, so its blocks are kept. The slot's content is compressed already and goes in as raw
//! blocks, its slack as runs of zeros. Blocks of a frame depend on what came before in three ways
//! (RFC 8878, section 3.1.1): matches reach back into the window, tables may be repeated, and
//! three recent offsets are remembered. The tail is compressed as a frame of its own, so its matches
//! stay inside it and its first blocks repeat no table; the remembered offsets are set back to what
//! they are at the start of a frame by three tiny blocks, see [`restore_offsets`].

use std::io::{self, Write};

const LEVEL: i32 = 19;
/// No block may hold more.
const BLOCK_BYTES: usize = 128 << 10;
/// The last zeros of the slot are written by [`restore_offsets`], which copies zeros before them.
pub(super) const SLACK_BYTES: usize = 64;
/// Magic number, frame header descriptor and window descriptor.
const FRAME_HEADER_BYTES: usize = 6;
/// No content size, no checksum, no dictionary, a window descriptor: what `blocks` asks for.
const FRAME_HEADER_DESCRIPTOR: u8 = 0;

/// Bits 1 and 2 of a block header.
#[derive(Clone, Copy)]
enum BlockType {
    Raw = 0,
    Run = 1,
    Compressed = 2,
}

/// Why parts make no frame.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compressor has no memory.
    #[error("cannot compress the kernel")]
    Compress(#[source] io::Error),
    /// The compressor wrote another frame header than it was asked for.
    #[error("expected a zstd frame with a plain header, got descriptor {0:#04x}")]
    Header(u8),
    /// The frame unpacks to something else; never seen.
    #[error("cannot join the compressed parts of the kernel: they unpack to something else")]
    Differs,
}

/// Names the settings that decide, beside the input and the library, what [`head`] gives.
pub(super) fn recipe() -> String {
    format!("head, zstd {} level {LEVEL}", zstd::zstd_safe::version_string())
}

/// Compresses the head: the frame's header and blocks, of which none is the last.
///
/// # Errors
/// The compressor has no memory.
pub(super) fn head(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut encoder = encoder().map_err(Error::Compress)?;
    encoder.write_all(bytes).and_then(|()| encoder.flush()).map_err(Error::Compress)?;
    Ok(encoder.get_ref().clone())
}

/// Joins a compressed head, the slot's content and the tail to one frame.
///
/// The content is at least [`SLACK_BYTES`] shorter than the slot.
///
/// # Errors
/// The compressor has no memory, or the parts do not fit together.
pub(super) fn frame(
    head: &[u8],
    content: &[u8],
    slot_bytes: usize,
    tail: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut frame = head.to_owned();
    for chunk in content.chunks(BLOCK_BYTES) {
        push_block(&mut frame, BlockType::Raw, chunk.len(), chunk);
    }
    let zeros = slot_bytes.checked_sub(content.len() + RESTORED_BYTES).ok_or(Error::Differs)?;
    for start in (0..zeros).step_by(BLOCK_BYTES) {
        push_block(&mut frame, BlockType::Run, BLOCK_BYTES.min(zeros - start), &[0]);
    }
    restore_offsets(&mut frame);
    frame.extend_from_slice(&last_blocks(tail)?);
    Ok(frame)
}

/// Checks that a frame unpacks to the parts it was made of.
///
/// # Errors
/// It does not.
pub(super) fn check(frame: &[u8], parts: &[&[u8]]) -> Result<(), Error> {
    let bytes = parts.iter().map(|part| part.len()).sum();
    let image = zstd::bulk::decompress(frame, bytes).map_err(Error::Compress)?;
    let mut rest = image.as_slice();
    for part in parts {
        rest = rest.strip_prefix(*part).ok_or(Error::Differs)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(Error::Differs) }
}

fn encoder() -> io::Result<zstd::stream::write::Encoder<'static, Vec<u8>>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(false)?;
    encoder.include_contentsize(false)?;
    Ok(encoder)
}

/// Compresses bytes apart and takes the frame's header off; the last block is marked as such.
fn last_blocks(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut encoder = encoder().map_err(Error::Compress)?;
    encoder.write_all(bytes).map_err(Error::Compress)?;
    let mut frame = encoder.finish().map_err(Error::Compress)?;
    match frame.get(4) {
        Some(&FRAME_HEADER_DESCRIPTOR) => Ok(frame.split_off(FRAME_HEADER_BYTES)),
        descriptor => Err(Error::Header(descriptor.copied().unwrap_or_default())),
    }
}

/// A block header is three bytes: the block's size, its type and whether it is the last.
fn push_block(frame: &mut Vec<u8>, block_type: BlockType, size: usize, content: &[u8]) {
    let header = (size as u32) << 3 | (block_type as u32) << 1;
    frame.extend_from_slice(&header.to_le_bytes()[..3]);
    frame.extend_from_slice(content);
}

/// A match has at least three bytes.
const RESTORED_BYTES: usize = 9;

/// Writes nine zeros as three matches with the offsets 8, 4 and 1, all within zeros: after them the
/// remembered offsets are 1, 4 and 8, as at the start of a frame.
///
/// Each block has no literals and one sequence, whose three codes come as tables of one symbol
/// (`RLE_Mode`). Literals length code 0 and match length code 0 stand for 0 and 3 bytes. An offset
/// is stored with 3 added; its code is the number of bits below the highest, and those bits follow
/// in the bitstream, ended by a 1: both together are the stored number itself.
fn restore_offsets(frame: &mut Vec<u8>) {
    const NO_LITERALS: u8 = 0;
    const ONE_SEQUENCE: u8 = 1;
    const THREE_RLE_TABLES: u8 = 0b01_01_01_00;
    for offset in [8_u8, 4, 1] {
        let stored = offset + 3;
        let code = stored.ilog2() as u8;
        let block = [NO_LITERALS, ONE_SEQUENCE, THREE_RLE_TABLES, 0, code, 0, stored];
        push_block(frame, BlockType::Compressed, block.len(), &block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that compress, with offsets of their own.
    fn text(seed: u32, bytes: usize) -> Vec<u8> {
        let word = |n: u32| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20).to_le_bytes();
        (0..).flat_map(|n: u32| word(n % 977)).take(bytes).collect()
    }

    fn joined(
        head_bytes: &[u8],
        content: &[u8],
        slot_bytes: usize,
        tail: &[u8],
    ) -> Result<(), Error> {
        let frame = frame(&head(head_bytes)?, content, slot_bytes, tail)?;
        let slack = vec![0; slot_bytes - content.len()];
        check(&frame, &[head_bytes, content, &slack, tail])
    }

    #[test]
    fn parts_of_every_size_unpack_to_what_they_were() {
        let content: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        for head_bytes in [1, 300_000] {
            for content_bytes in [0, 1, BLOCK_BYTES, 300_000] {
                for tail_bytes in [0, 9, 200_000] {
                    let slot_bytes = content_bytes + SLACK_BYTES + 200_000;
                    let (head, tail) = (text(1, head_bytes), text(2, tail_bytes));
                    joined(&head, &content[..content_bytes], slot_bytes, &tail).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_tail_that_begins_with_remembered_offsets_unpacks_right() {
        // Runs of periods 1, 4 and 8 make the compressor use the offsets that a frame starts with.
        for period in [1_usize, 4, 8] {
            let tail: Vec<u8> = (0..5000).map(|n| (n % period) as u8 * 7).collect();
            let head: Vec<u8> = (0..50_000).map(|n| (n % 123) as u8).collect();
            joined(&head, b"content", SLACK_BYTES + 7, &tail).unwrap();
        }
    }

    #[test]
    fn a_frame_of_other_parts_is_noticed() {
        let frame = frame(&head(b"head").unwrap(), b"content", 100, b"tail").unwrap();
        let slack = [0; 93];
        check(&frame, &[b"head", b"content", &slack, b"tail"]).unwrap();
        assert!(matches!(
            check(&frame, &[b"head", b"CONTENT", &slack, b"tail"]),
            Err(Error::Differs)
        ));
    }
}
