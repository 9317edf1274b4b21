//! FAT: is a sector the first of such a file system, and what is it called?
//!
//! Microsoft's "FAT32 File System Specification". The label is an entry of the root directory; the one
//! in the first sector is what the file system was made with.

/// An entry of a directory.
const ENTRY_BYTES: u64 = 32;
/// Of the root directory this much is searched.
const MOST_ENTRIES: u64 = 512;
const LABEL_ATTRIBUTE: u8 = 0x08;
/// Parts of long names have it, too.
const KIND_MASK: u8 = 0x18 | 0x07;
const NO_LABEL: &str = "NO NAME";

/// The first sector of a FAT file system.
#[derive(Debug)]
pub(super) struct BootSector<'a>(&'a [u8]);

impl<'a> BootSector<'a> {
    /// `sector` has 512 bytes at least.
    pub(super) fn parse(sector: &'a [u8]) -> Option<Self> {
        let boot = Self(sector.get(..512)?);
        let is_named = sector[54..59] == *b"FAT12"
            || sector[54..59] == *b"FAT16"
            || sector[82..87] == *b"FAT32";
        let sectors = [512, 1024, 2048, 4096].contains(&boot.word(11));
        (is_named && sectors && sector[510..512] == [0x55, 0xaa]).then_some(boot)
    }

    fn word(&self, at: usize) -> u64 {
        u64::from(u16::from_le_bytes([self.0[at], self.0[at + 1]]))
    }

    fn double_word(&self, at: usize) -> u64 {
        self.word(at) | self.word(at + 2) << 16
    }

    fn is_fat32(&self) -> bool {
        self.word(22) == 0
    }

    /// Where the root directory begins, from the first byte of the file system, and how much of it to
    /// search.
    pub(super) fn root(&self) -> (u64, u64) {
        let (sector, tables) = (self.word(11), u64::from(self.0[16]));
        if self.is_fat32() {
            let cluster = u64::from(self.0[13]);
            let first_cluster = self.double_word(44).saturating_sub(2);
            let data = self.word(14) + tables * self.double_word(36);
            let length = (cluster * sector).min(MOST_ENTRIES * ENTRY_BYTES);
            return ((data + first_cluster * cluster) * sector, length);
        }
        let entries = self.word(17).min(MOST_ENTRIES);
        ((self.word(14) + tables * self.word(22)) * sector, entries * ENTRY_BYTES)
    }

    /// The label that `root` has, or else the one in this sector.
    pub(super) fn label(&self, root: &[u8]) -> Option<String> {
        let entries = root.chunks_exact(32).take_while(|entry| entry[0] != 0);
        let mut labels =
            entries.filter(|entry| entry[0] != 0xe5 && entry[11] & KIND_MASK == LABEL_ATTRIBUTE);
        let own = if self.is_fat32() { &self.0[71..82] } else { &self.0[43..54] };
        let label = labels.next().map_or(own, |entry| &entry[..11]);
        let label = String::from_utf8_lossy(label).trim_end().to_owned();
        (!label.is_empty() && label != NO_LABEL).then_some(label)
    }
}
