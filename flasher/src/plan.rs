//! Which erase blocks to write, and in which order.
//!
//! A machine that loses power at any erase or program must find a ROM that is absent or complete:
//! firmware looks at the header only, and runs an EFI image with a hole in it. So the header's
//! erase block is erased first, then everything but the header's first page is written, and that
//! page, with the signature, is the last that is programmed. No page is programmed twice.

use crate::chip::{Region, joined};

/// What a serial flash programs at once; smaller than this the header cannot be withheld.
pub const PAGE_BYTES: usize = 256;

/// What an erased byte holds.
pub const ERASED: u8 = 0xff;

/// How a chip's content becomes another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Erase blocks that differ, and the header's; in ascending order.
    pub touched: Vec<Region>,
    /// What to do, in order; nothing if nothing differs.
    pub steps: Vec<Step>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Erase the header's block.
    InvalidateHeader(Region),
    /// Write everything else.
    WriteBody(Vec<Region>),
    /// Program the page with the signature.
    CommitHeader {
        /// The page.
        page: Region,
        /// The erase block that it is in.
        block: Region,
    },
}

impl Plan {
    /// How `content` becomes `target`, where the ROM's header is at `header`. The two have the
    /// same length, and `blocks` are the chip's erase blocks, which cover it.
    #[must_use]
    pub fn new(content: &[u8], target: &[u8], blocks: &[Region], header: usize) -> Self {
        let nothing = Self { touched: Vec::new(), steps: Vec::new() };
        let Some(&block) = blocks.iter().find(|block| block.range().contains(&header)) else {
            return nothing;
        };
        if content == target {
            return nothing;
        }
        let page = Region { start: header, end: block.end.min(header + PAGE_BYTES) };
        let mut steps = Vec::new();
        let mut now = content.to_vec();
        if !is_erased(&now[page.range()]) {
            steps.push(Step::InvalidateHeader(block));
            now[block.range()].fill(ERASED);
        }
        let mut body = target.to_vec();
        body[page.range()].fill(ERASED);
        let mut touched = differing(&now, &body, blocks);
        if !touched.is_empty() {
            steps.push(Step::WriteBody(touched.clone()));
        }
        if !is_erased(&target[page.range()]) {
            steps.push(Step::CommitHeader { page, block });
        }
        if !touched.contains(&block) {
            touched.push(block);
        }
        touched.sort_unstable();
        Self { touched, steps }
    }
}

impl Step {
    /// What of the chip it writes.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        match self {
            Self::InvalidateHeader(block) => vec![*block],
            Self::WriteBody(blocks) => blocks.clone(),
            Self::CommitHeader { page, .. } => vec![*page],
        }
    }

    /// What of the chip may be erased for it. The header's block is erased already when its page
    /// is committed; a chip whose erased bytes are not FF erases it once more.
    #[must_use]
    pub fn may_erase(&self) -> Vec<Region> {
        match self {
            Self::CommitHeader { block, .. } => vec![*block],
            _ => self.regions(),
        }
    }

    /// What the chip, which held `now`, holds after this step on the way to `target`.
    #[must_use]
    pub fn after(&self, now: &[u8], target: &[u8], header: usize) -> Vec<u8> {
        let mut after = now.to_vec();
        for region in self.regions() {
            match self {
                Self::InvalidateHeader(_) => after[region.range()].fill(ERASED),
                _ => after[region.range()].copy_from_slice(&target[region.range()]),
            }
            if let Self::WriteBody(_) = self
                && region.range().contains(&header)
            {
                after[header..region.end.min(header + PAGE_BYTES)].fill(ERASED);
            }
        }
        after
    }
}

/// The blocks in which two contents differ.
#[must_use]
pub fn differing(left: &[u8], right: &[u8], blocks: &[Region]) -> Vec<Region> {
    blocks.iter().filter(|block| left[block.range()] != right[block.range()]).copied().collect()
}

/// What shall be read back: what was touched, all of the ROM where that is little, and a witness
/// of every other block. An erase that went astray takes whole blocks, and so takes the witness.
#[must_use]
pub fn read_back(target: &[u8], touched: &[Region], blocks: &[Region], rom: Region) -> Vec<Region> {
    let mut regions = touched.to_vec();
    if rom.len() <= target.len() / 2 {
        regions.push(rom);
    }
    let untouched = blocks.iter().filter(|block| !touched.contains(block));
    regions.extend(untouched.filter_map(|block| witness(target, *block)));
    joined(regions)
}

/// As little as shows that a block was erased: its first part with a byte that is not erased.
fn witness(content: &[u8], block: Region) -> Option<Region> {
    const WITNESS_BYTES: usize = 64;
    let offset = content[block.range()].chunks(WITNESS_BYTES).position(|part| !is_erased(part))?
        * WITNESS_BYTES;
    let start = block.start + offset;
    Some(Region { start, end: block.end.min(start + WITNESS_BYTES) })
}

fn is_erased(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == ERASED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 4096;

    fn blocks(count: usize) -> Vec<Region> {
        (0..count).map(|n| Region { start: n * BLOCK, end: (n + 1) * BLOCK }).collect()
    }

    #[test]
    fn the_header_goes_first_and_its_first_page_comes_last() {
        let blocks = blocks(8);
        let content = vec![1; 8 * BLOCK];
        let mut target = content.clone();
        target[3 * BLOCK..4 * BLOCK].fill(2);
        target[6 * BLOCK] = 2;
        let plan = Plan::new(&content, &target, &blocks, 2 * BLOCK);
        assert_eq!(
            plan,
            Plan {
                touched: vec![blocks[2], blocks[3], blocks[6]],
                steps: vec![
                    Step::InvalidateHeader(blocks[2]),
                    Step::WriteBody(vec![blocks[2], blocks[3], blocks[6]]),
                    Step::CommitHeader {
                        page: Region { start: 2 * BLOCK, end: 2 * BLOCK + PAGE_BYTES },
                        block: blocks[2],
                    },
                ],
            }
        );
    }

    #[test]
    fn the_steps_lead_to_the_target_with_the_signature_only_at_the_end() {
        let blocks = blocks(4);
        let content = vec![1; 4 * BLOCK];
        let target = vec![2; 4 * BLOCK];
        let mut now = content.clone();
        let mut signatures = Vec::new();
        for step in Plan::new(&content, &target, &blocks, 0).steps {
            now = step.after(&now, &target, 0);
            signatures.push(now[0]);
        }
        assert_eq!((now, signatures), (target, vec![0xff, 0xff, 2]));
    }

    #[test]
    fn a_chip_that_holds_the_target_needs_no_step() {
        let content = vec![7; 2 * BLOCK];
        assert_eq!(Plan::new(&content, &content, &blocks(2), 0).steps, []);
    }

    #[test]
    fn a_header_that_is_absent_already_is_not_erased_again() {
        let content = vec![ERASED; 2 * BLOCK];
        let mut target = content.clone();
        target[0] = 0x55;
        let steps = Plan::new(&content, &target, &blocks(2), 0).steps;
        let page = Region { start: 0, end: PAGE_BYTES };
        assert_eq!(steps, [Step::CommitHeader { page, block: blocks(2)[0] }]);
    }

    #[test]
    fn every_block_that_holds_something_has_a_witness() {
        let blocks = blocks(8);
        let mut target = vec![ERASED; 8 * BLOCK];
        target[5 * BLOCK + 130] = 0;
        target[0] = 0;
        let rom = Region { start: 0, end: 8 * BLOCK };
        assert_eq!(
            read_back(&target, &blocks[1..2], &blocks, rom),
            [
                Region { start: 0, end: 64 },
                blocks[1],
                Region { start: 5 * BLOCK + 128, end: 5 * BLOCK + 192 },
            ]
        );
    }

    #[test]
    fn a_small_rom_is_read_back_whole() {
        let target = vec![ERASED; 8 * BLOCK];
        let rom = Region { start: 2 * BLOCK, end: 5 * BLOCK };
        assert_eq!(read_back(&target, &[], &blocks(8), rom), [rom]);
    }
}
