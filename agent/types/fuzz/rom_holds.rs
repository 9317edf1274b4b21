//! What holds for any bytes that are given to the ROM parser.

use agent_types::rom::{self, Card, OptionRom, PciId};

const CARD: Card = Card {
    id: PciId { vendor: 0x8086, device: 0x10d3 },
    rom_bar_bytes: Some(256 * 1024),
    memory_bar_bytes: Some(128 * 1024),
};

/// Panics unless the parser keeps its promises.
pub(crate) fn check(bytes: &[u8]) {
    hold(bytes);
    // Few inputs have the right sum, and without it little of the parser is reached.
    let mut summed = bytes.to_vec();
    let length = summed.len().min(usize::from(*summed.get(2).unwrap_or(&0)) * 512);
    let sum = summed[..length].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if length > 6 {
        summed[6] = summed[6].wrapping_sub(sum);
        hold(&summed);
    }
}

fn hold(bytes: &[u8]) {
    let start = OptionRom::parse_start(bytes);
    let whole = OptionRom::parse(bytes);
    if let Ok(rom) = &start {
        assert!(rom.length_bytes <= bytes.len() && rom.length_bytes > 0);
        assert!(rom.images.last().is_some_and(|image| image.pci.last));
        assert_eq!(rom.sha256, rom::sha256(&bytes[..rom.length_bytes]));
        // What follows a ROM does not change it.
        assert_eq!(OptionRom::parse_start(&bytes[..rom.length_bytes]).as_ref(), Ok(rom));
    }
    match (start, whole) {
        (Ok(start), Ok(whole)) => assert_eq!(start, whole),
        (Ok(start), Err(_)) => assert!(bytes.len() > start.length_bytes),
        (Err(start), whole) => assert_eq!(whole, Err(start)),
    }
    if let Ok(rom) = OptionRom::parse(bytes) {
        // A verdict, whichever: the digest is of the file and not of the ROM.
        let _verdict = rom::check(&rom, &CARD, 1 << 20);
        assert_eq!(rom::check_digest(bytes, rom::sha256(bytes)), Ok(()));
    }
}
