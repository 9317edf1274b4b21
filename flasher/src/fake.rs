//! A chip for tests: it programs and erases as NOR flash does, and fails on demand.
//!
//! A program clears bits and sets none; an erase sets all bits of a block. Every erase and every
//! program of a page is a step, and at a chosen step the chip fails, or the machine loses power.

use crate::chip::{Chip, ChipError, FlashChip, Region, Write, WriteError, WriteProtection};
use crate::plan::{ERASED, PAGE_BYTES};

/// Erase blocks of the fake.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The chip fails at this step, and works again afterwards.
    FailAt(u32),
    /// Nothing is alive after this many steps.
    PowerLossAfter(u32),
    /// Programs are accepted and ignored.
    IgnorePrograms,
    /// One bit is read wrong, every second time.
    FlakyRead(usize),
}

/// The chip.
pub(crate) struct FakeChip {
    pub(crate) content: Vec<u8>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) protection: WriteProtection,
    /// Steps so far.
    pub(crate) steps: u32,
    /// Bytes read so far.
    pub(crate) bytes_read: usize,
    /// Called once, when power is lost.
    pub(crate) on_power_loss: Option<Box<dyn FnOnce()>>,
    dead: bool,
    reads: u32,
}

impl FakeChip {
    pub(crate) fn holding(content: Vec<u8>) -> Self {
        Self {
            content,
            faults: Vec::new(),
            protection: WriteProtection::Off,
            steps: 0,
            bytes_read: 0,
            on_power_loss: None,
            dead: false,
            reads: 0,
        }
    }

    pub(crate) fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    fn alive(&self) -> Result<(), ChipError> {
        if self.dead { Err(ChipError::NoChip) } else { Ok(()) }
    }

    /// Before each erase and each program.
    fn step(&mut self) -> Result<(), ChipError> {
        if self.faults.contains(&Fault::PowerLossAfter(self.steps)) {
            self.dead = true;
            if let Some(callback) = self.on_power_loss.take() {
                callback();
            }
        }
        self.alive()?;
        self.steps += 1;
        if self.faults.contains(&Fault::FailAt(self.steps)) {
            return Err(ChipError::Write(WriteError::Corrupted));
        }
        Ok(())
    }

    fn erase(&mut self, block: Region) -> Result<(), ChipError> {
        self.step()?;
        self.content[block.range()].fill(ERASED);
        Ok(())
    }

    fn program(&mut self, page: Region, bytes: &[u8]) -> Result<(), ChipError> {
        self.step()?;
        if !self.faults.contains(&Fault::IgnorePrograms) {
            for (cell, byte) in self.content[page.range()].iter_mut().zip(bytes) {
                *cell &= byte;
            }
        }
        Ok(())
    }

    fn write_block(&mut self, block: Region, write: &Write<'_>) -> Result<(), ChipError> {
        let image = wanted(block, write);
        let differs = |page: &Region| {
            image[page.start - block.start..page.end - block.start] != write.current[page.range()]
        };
        let changed: Vec<Region> = pages(block).filter(differs).collect();
        let blank = |page: &Region| write.current[page.range()].iter().all(|&byte| byte == ERASED);
        let erase = !changed.iter().all(blank);
        if erase {
            if !write.may_erase.iter().any(|region| region.contains(&block)) {
                return Err(ChipError::EscalationStopped);
            }
            self.erase(block)?;
        }
        for page in pages(block) {
            let bytes = &image[page.start - block.start..page.end - block.start];
            let needed = bytes.iter().any(|&byte| byte != ERASED);
            if needed && (erase || changed.contains(&page)) {
                self.program(page, bytes)?;
            }
        }
        Ok(())
    }
}

/// What `block` shall hold: the image within the regions, the present elsewhere.
fn wanted(block: Region, write: &Write<'_>) -> Vec<u8> {
    block
        .range()
        .map(|at| {
            let inside = write.regions.iter().any(|region| region.range().contains(&at));
            if inside { write.image[at] } else { write.current[at] }
        })
        .collect()
}

fn pages(block: Region) -> impl Iterator<Item = Region> {
    block.range().step_by(PAGE_BYTES).map(|start| Region { start, end: start + PAGE_BYTES })
}

impl FlashChip for FakeChip {
    fn probe(&mut self) -> Result<Chip, ChipError> {
        self.alive()?;
        Ok(Chip {
            vendor: "Fake".to_owned(),
            name: "NOR".to_owned(),
            size_bytes: self.content.len(),
        })
    }

    fn write_protection(&mut self) -> Result<WriteProtection, ChipError> {
        self.alive()?;
        Ok(self.protection.clone())
    }

    fn read(&mut self, regions: &[Region]) -> Result<Vec<u8>, ChipError> {
        self.alive()?;
        self.reads += 1;
        let mut read = vec![0; self.content.len()];
        for region in regions {
            self.bytes_read += region.len();
            read[region.range()].copy_from_slice(&self.content[region.range()]);
        }
        for fault in &self.faults {
            if let Fault::FlakyRead(at) = fault
                && self.reads.is_multiple_of(2)
            {
                read[*at] ^= 1;
            }
        }
        Ok(read)
    }

    fn erase_blocks(&mut self, content: &[u8]) -> Result<Vec<Region>, ChipError> {
        self.alive()?;
        let starts = (0..content.len()).step_by(BLOCK_BYTES);
        Ok(starts.map(|start| Region { start, end: start + BLOCK_BYTES }).collect())
    }

    fn write(&mut self, write: &Write<'_>, progress: &mut dyn FnMut(u64)) -> Result<(), ChipError> {
        self.alive()?;
        let blocks = self.erase_blocks(write.image)?;
        let mut done = 0;
        for block in blocks {
            if write.regions.iter().any(|region| region.overlaps(&block)) {
                self.write_block(block, write)?;
                done += block.len() as u64;
                progress(done);
            }
        }
        let verified = write
            .regions
            .iter()
            .all(|region| self.content[region.range()] == write.image[region.range()]);
        if verified { Ok(()) } else { Err(ChipError::Write(WriteError::NotVerified)) }
    }
}
