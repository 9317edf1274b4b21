//! Compares a disk with what it shall hold, and changes nothing.

use agent_types::digest::Sha256Digest;
use sha2::{Digest as _, Sha256};

use super::device::{BlockDevice, Extent, Geometry};
use super::image::{Content as _, Image};
use super::plan::{HEAD, Tail};
use super::rewrite::Refusal;

/// A part that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) extent: Extent,
    /// Digest of what the disk has there.
    pub(super) before: Sha256Digest,
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Survey {
    /// Parts that differ, and the first one.
    pub(super) chunks: Vec<Chunk>,
    /// Is there any difference?
    pub(super) differs: bool,
    /// Digest of the image.
    pub(super) image: Sha256Digest,
    /// Digest of as much of the disk.
    pub(super) before: Sha256Digest,
    pub(super) tail: Tail,
}

/// Reads all of the image, and as much of the disk.
pub(super) fn survey(
    device: &mut dyn BlockDevice,
    geometry: Geometry,
    image: &Image,
    progress: &mut dyn FnMut(u64),
) -> Result<Survey, Refusal> {
    let (mut of_image, mut of_disk) = (Sha256::new(), Sha256::new());
    let (mut chunks, mut differs) = (Vec::new(), false);
    let whole = image.extent(geometry);
    for extent in whole.chunks() {
        let wanted = image.read(extent).map_err(Refusal::Image)?;
        let found = device.read(extent)?;
        let own = image.own(extent);
        of_image.update(&wanted[..own]);
        of_disk.update(&found[..own]);
        differs |= wanted != found;
        if wanted != found || extent == HEAD {
            chunks.push(Chunk { extent, before: sha256(&found) });
        }
        progress(extent.end());
    }
    let last = geometry.last_sector();
    let found = device.read(last)?;
    let is_changed = chunks.iter().any(|chunk| chunk.extent.end() > last.at);
    let tail = tail(whole.end() > last.at, is_changed, found.starts_with(b"EFI PART"));
    if tail != Tail::Absent && !is_changed {
        chunks.push(Chunk { extent: last, before: sha256(&found) });
    }
    let (image, before) = (digest(of_image), digest(of_disk));
    Ok(Survey { chunks, differs, image, before, tail })
}

/// A second header of a GPT that stays would bring back the partitions of what is overwritten.
const fn tail(is_covered: bool, is_changed: bool, is_header: bool) -> Tail {
    match (is_covered, is_changed || is_header) {
        (true, true) => Tail::Replaced,
        (false, true) => Tail::Stale,
        (_, false) => Tail::Absent,
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Sha256Digest {
    agent_types::rom::sha256(bytes)
}

pub(super) fn digest(hasher: Sha256) -> Sha256Digest {
    let digest: [u8; 32] = hasher.finalize().into();
    digest.into()
}
