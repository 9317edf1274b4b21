//! A disk for tests: it keeps what was written since the last flush in a cache, of which a loss of
//! power leaves any part, and fails on demand.

use agent_types::disk::{Bus, Disk};

use super::device::{BlockDevice, DiskError, Extent, Geometry};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// This write fails; later ones do not.
    FailAt(u32),
    /// This write fails, and so do all later ones.
    FailFrom(u32),
    /// This write and all that follows finds no disk any more.
    VanishAt(u32),
    /// Power is lost before this write or flush, and this is left of the cache.
    PowerLossAt(u32, Left),
    /// Writes are accepted and ignored.
    IgnoreWrites,
    /// This byte is read wrong, but for the first time.
    FlakyRead(u64),
}

/// What a loss of power leaves of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    All,
    OnlyTheLast,
    EverySecond,
    /// All, and half of the last.
    TornLast,
}

pub(super) const LEFT: [Left; 5] =
    [Left::Nothing, Left::All, Left::OnlyTheLast, Left::EverySecond, Left::TornLast];

pub(super) const SECTOR_BYTES: u64 = 512;

/// The disk.
pub(super) struct FakeDisk {
    pub(super) medium: Vec<u8>,
    pub(super) faults: Vec<Fault>,
    /// Writes and flushes so far.
    pub(super) steps: u32,
    pub(super) bytes_written: usize,
    pub(super) dead: bool,
    cache: Vec<(usize, Vec<u8>)>,
    was_read: bool,
}

/// What sysfs would tell of it.
pub(super) fn stick() -> Disk {
    Disk {
        name: "sda".to_owned(),
        bus: Bus::Usb,
        size_bytes: 0,
        vendor: None,
        model: None,
        serial: None,
        volumes: Vec::new(),
        unfinished: None,
        why_not: None,
    }
}

impl FakeDisk {
    pub(super) fn holding(medium: Vec<u8>) -> Self {
        let (faults, cache) = (Vec::new(), Vec::new());
        Self { medium, faults, steps: 0, bytes_written: 0, dead: false, cache, was_read: false }
    }

    pub(super) fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    fn error(why: &str) -> DiskError {
        DiskError::Failed { operation: "write".to_owned(), why: why.to_owned() }
    }

    fn alive(&self) -> Result<(), DiskError> {
        if self.dead { Err(Self::error("No such device")) } else { Ok(()) }
    }

    fn step(&mut self) -> Result<(), DiskError> {
        self.alive()?;
        self.steps += 1;
        let step = self.steps;
        for fault in self.faults.clone() {
            match fault {
                Fault::FailAt(at) if at == step => return Err(Self::error("I/O error")),
                Fault::FailFrom(from) if from <= step => return Err(Self::error("I/O error")),
                Fault::VanishAt(at) if at == step => self.dead = true,
                Fault::PowerLossAt(at, left) if at == step => self.lose_power(left),
                _ => {}
            }
        }
        self.alive()
    }

    fn lose_power(&mut self, left: Left) {
        let mut cache = std::mem::take(&mut self.cache);
        let last = cache.pop();
        let kept: Vec<_> = match left {
            Left::Nothing => Vec::new(),
            Left::All => cache.into_iter().chain(last).collect(),
            Left::OnlyTheLast => last.into_iter().collect(),
            Left::EverySecond => cache.into_iter().chain(last).step_by(2).collect(),
            Left::TornLast => {
                let half = |(at, mut bytes): (usize, Vec<u8>)| {
                    // A sector is written or not.
                    bytes.truncate((bytes.len() / 2).next_multiple_of(512));
                    (at, bytes)
                };
                cache.into_iter().chain(last.map(half)).collect()
            }
        };
        kept.into_iter().for_each(|(at, bytes)| put(&mut self.medium, at, &bytes));
        self.dead = true;
    }
}

fn put(medium: &mut [u8], at: usize, bytes: &[u8]) {
    medium[at..at + bytes.len()].copy_from_slice(bytes);
}

impl BlockDevice for FakeDisk {
    fn reopen(&mut self) -> Result<Geometry, DiskError> {
        self.alive()?;
        Ok(Geometry { size_bytes: self.medium.len() as u64, sector_bytes: SECTOR_BYTES })
    }

    fn read(&mut self, extent: Extent) -> Result<Vec<u8>, DiskError> {
        self.alive()?;
        let range = extent.at as usize..extent.end() as usize;
        let mut seen = self.medium[range.clone()].to_vec();
        for (at, bytes) in &self.cache {
            let overlap = range.start.max(*at)..range.end.min(at + bytes.len());
            if !overlap.is_empty() {
                let cached = &bytes[overlap.start - at..overlap.end - at];
                put(&mut seen, overlap.start - range.start, cached);
            }
        }
        for fault in &self.faults {
            if let Fault::FlakyRead(at) = fault
                && range.contains(&(*at as usize))
                && std::mem::replace(&mut self.was_read, true)
            {
                seen[*at as usize - range.start] ^= 1;
            }
        }
        Ok(seen)
    }

    fn write(&mut self, at: u64, bytes: Vec<u8>) -> Result<(), DiskError> {
        assert!([at, bytes.len() as u64].iter().all(|number| number.is_multiple_of(SECTOR_BYTES)));
        self.step()?;
        self.bytes_written += bytes.len();
        if !self.faults.contains(&Fault::IgnoreWrites) {
            self.cache.push((at as usize, bytes));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.step()?;
        let cache = std::mem::take(&mut self.cache);
        cache.into_iter().for_each(|(at, bytes)| put(&mut self.medium, at, &bytes));
        Ok(())
    }
}
