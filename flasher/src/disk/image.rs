//! What a disk shall hold: an image in a file, or a backup.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::device::{Extent, Geometry};

/// Bytes by their place on a disk.
pub trait Content {
    /// What `extent` shall hold.
    ///
    /// # Errors
    /// The file cannot be read, or does not say.
    fn read(&self, extent: Extent) -> io::Result<Vec<u8>>;
}

/// An image of a disk, from its first byte.
#[derive(Debug)]
pub struct Image {
    file: File,
    /// Its length; on a disk it fills its last sector with zeros.
    pub length_bytes: u64,
}

impl Image {
    /// Opens an image.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length_bytes = file.metadata()?.len();
        Ok(Self { file, length_bytes })
    }

    /// All of it, in whole sectors.
    #[must_use]
    pub const fn extent(&self, geometry: Geometry) -> Extent {
        Extent { at: 0, length: self.length_bytes.next_multiple_of(geometry.sector_bytes) }
    }

    /// How much of `extent` is the image's own.
    #[must_use]
    pub fn own(&self, extent: Extent) -> usize {
        let own = self.length_bytes.saturating_sub(extent.at).min(extent.length);
        usize::try_from(own).unwrap_or(usize::MAX)
    }
}

impl Content for Image {
    fn read(&self, extent: Extent) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(extent.length).map_err(io::Error::other)?];
        let own = self.own(extent);
        self.file.read_exact_at(&mut bytes[..own], extent.at)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sector_is_filled_with_zeros() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        std::fs::write(&path, [7; 700]).unwrap();
        let image = Image::open(&path).unwrap();
        let geometry = Geometry { size_bytes: 1 << 20, sector_bytes: 512 };
        assert_eq!(image.extent(geometry), Extent { at: 0, length: 1024 });
        let last = image.read(Extent { at: 512, length: 512 }).unwrap();
        assert_eq!((&last[..188], &last[188..]), (&[7; 188][..], &[0; 324][..]));
    }
}
