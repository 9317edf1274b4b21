//! What to write where, in which order.
//!
//! A machine that loses power at any write must find a disk that it cannot start from, or one that is
//! complete. All that firmware and kernels look for is in the first MiB, or is the second header of
//! a GPT in the last sector. So these go first: the sector that a BIOS starts, then what EFI looks
//! for, then the rest of the first MiB. They come back last, in the opposite order.

use agent_types::flash_report::FlashPhase;

use super::device::{Extent, Geometry};

/// What is absent while the rest is written.
pub const HEAD: Extent = Extent { at: 0, length: 1 << 20 };

/// Where the first MiB says what is on the disk, besides its first sector: the header of a GPT with
/// sectors of 512 or 4096 bytes; the volume descriptors of ISO 9660 and UDF, and El Torito's.
const SIGNS: [Extent; 2] =
    [Extent { at: 0, length: 8192 }, Extent { at: 32 << 10, length: 8 << 10 }];

/// What a step writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// A first sector that says what is going on.
    Marker,
    /// Zeros.
    Zeros,
    /// What shall be there.
    Content,
}

/// Writes with nothing between them that matters; then a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which part of the procedure it is.
    pub phase: FlashPhase,
    /// What it writes.
    pub fill: Fill,
    /// Where.
    pub extents: Vec<Extent>,
}

/// The second header of a GPT, in the disk's last sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// There is none, and none will be written.
    Absent,
    /// It goes, and stays away: it belongs to what is overwritten.
    Stale,
    /// It goes, and what shall be there comes back.
    Replaced,
}

/// The steps that make a disk hold what it shall, which differs in `changed`; the first MiB is
/// written in any case.
#[must_use]
pub fn steps(geometry: Geometry, changed: &[Extent], tail: Tail) -> Vec<Step> {
    let first = Extent { at: 0, length: geometry.sector_bytes };
    let last = geometry.last_sector();
    let signs = || SIGNS.into_iter().flat_map(move |sign| sign.without(first));
    let rest = || {
        let parts = HEAD.without(SIGNS[0]).flat_map(|part| part.without(SIGNS[1]));
        parts.collect::<Vec<Extent>>()
    };
    let with_tail = |is_there: bool| signs().chain(is_there.then_some(last)).collect();
    let keep_out = if tail == Tail::Absent { Extent { at: 0, length: 0 } } else { last };
    let body = changed.iter().flat_map(|extent| extent.without(HEAD));
    let body: Vec<Extent> = body.flat_map(|extent| extent.without(keep_out)).collect();
    let step = |phase, fill, extents| Step { phase, fill, extents };
    let all = [
        step(FlashPhase::InvalidateHeader, Fill::Marker, vec![first]),
        step(FlashPhase::InvalidateHeader, Fill::Zeros, with_tail(tail != Tail::Absent)),
        step(FlashPhase::InvalidateHeader, Fill::Zeros, rest()),
        step(FlashPhase::WriteBody, Fill::Content, body),
        step(FlashPhase::CommitHeader, Fill::Content, rest()),
        step(FlashPhase::CommitHeader, Fill::Content, with_tail(tail == Tail::Replaced)),
        step(FlashPhase::CommitHeader, Fill::Content, vec![first]),
    ];
    all.into_iter().filter(|step| !step.extents.is_empty()).collect()
}

/// All that the steps write to, in order and joined.
#[must_use]
pub fn touched(steps: &[Step]) -> Vec<Extent> {
    let mut extents: Vec<Extent> = steps.iter().flat_map(|step| step.extents.clone()).collect();
    extents.sort_unstable();
    let mut joined: Vec<Extent> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some(last) if extent.at <= last.end() => {
                last.length = last.end().max(extent.end()) - last.at;
            }
            _ => joined.push(extent),
        }
    }
    joined
}

/// Is all of `extent` within the `pieces`, which are in order?
#[must_use]
pub fn covers(pieces: &[Extent], extent: Extent) -> bool {
    let left = pieces.iter().fold(vec![extent], |left, piece| {
        left.into_iter().flat_map(|part| part.without(*piece)).collect()
    });
    left.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const DISK: Geometry = Geometry { size_bytes: 8 * MIB, sector_bytes: 512 };

    const fn extent(at: u64, length: u64) -> Extent {
        Extent { at, length }
    }

    fn shown(steps: &[Step]) -> Vec<(Fill, Vec<Extent>)> {
        steps.iter().map(|step| (step.fill, step.extents.clone())).collect()
    }

    #[test]
    fn the_first_sector_goes_first_and_comes_back_last() {
        let (first, last) = (extent(0, 512), DISK.last_sector());
        let signs = [extent(512, 8192 - 512), extent(32 * KIB, 8 * KIB)];
        let rest = vec![extent(8 * KIB, 24 * KIB), extent(40 * KIB, 984 * KIB)];
        let with_last = [signs[0], signs[1], last].to_vec();
        let changed = [extent(0, MIB), extent(3 * MIB, MIB), extent(7 * MIB, MIB)];
        let body = vec![extent(3 * MIB, MIB), extent(7 * MIB, MIB - 512)];
        assert_eq!(
            shown(&steps(DISK, &changed, Tail::Replaced)),
            [
                (Fill::Marker, vec![first]),
                (Fill::Zeros, with_last.clone()),
                (Fill::Zeros, rest.clone()),
                (Fill::Content, body),
                (Fill::Content, rest),
                (Fill::Content, with_last),
                (Fill::Content, vec![first]),
            ]
        );
    }

    #[test]
    fn a_stale_second_header_goes_and_stays_away() {
        let writes = |tail, fill| -> Vec<bool> {
            let steps = steps(DISK, &[extent(2 * MIB, MIB)], tail);
            let of_fill = steps.iter().filter(|step| step.fill == fill);
            of_fill.map(|step| step.extents.contains(&DISK.last_sector())).collect()
        };
        assert_eq!(writes(Tail::Stale, Fill::Zeros), [true, false]);
        assert_eq!(writes(Tail::Stale, Fill::Content), [false; 4]);
        assert_eq!(writes(Tail::Absent, Fill::Zeros), [false, false]);
    }

    #[test]
    fn what_is_touched_is_the_first_mib_what_changes_and_the_last_sector() {
        let steps = steps(DISK, &[extent(MIB, MIB), extent(4 * MIB, 512)], Tail::Stale);
        let expected = [extent(0, 2 * MIB), extent(4 * MIB, 512), DISK.last_sector()];
        assert_eq!(touched(&steps), expected);
    }
}
