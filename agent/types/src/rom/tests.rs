use super::*;

const FIXTURES: &str = "/usr/lib/ipxe/qemu";

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}/{name}")).expect("Debian's ipxe-qemu is installed")
}

fn e1000e() -> Card {
    Card {
        id: PciId { vendor: 0x8086, device: 0x10d3 },
        rom_bar_bytes: Some(256 * 1024),
        memory_bar_bytes: Some(128 * 1024),
    }
}

fn verdict(bytes: &[u8]) -> Result<(), RomError> {
    check(&OptionRom::parse(bytes)?, &e1000e(), 1 << 20)
}

/// Corrects the checksum byte of the first image, so that a test reaches the rule that it means.
fn summed(mut rom: Vec<u8>) -> Vec<u8> {
    let length = usize::from(rom[2]) * BLOCK;
    let length = length.min(rom.len());
    let sum = rom[..length].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    rom[6] = rom[6].wrapping_sub(sum);
    rom
}

const PCIR: usize = 0x1c;
/// Where the EFI image of efi-e1000e.rom begins, and its PCIR.
const EFI: usize = 0x12600;
const EFI_PCIR: usize = EFI + 0x1c;

#[test]
fn every_rom_of_debian_is_valid_for_its_own_card_and_for_no_other() {
    let cards = [
        ("e1000", "8086:100e"),
        ("e1000e", "8086:10d3"),
        ("eepro100", "8086:1229"),
        ("pcnet", "1022:2000"),
        ("rtl8139", "10ec:8139"),
        ("virtio", "1af4:1041"),
        ("vmxnet3", "15ad:07b0"),
    ];
    for (name, id) in cards {
        for (kind, images) in [("pxe", 1), ("efi", 2)] {
            let bytes = fixture(&format!("{kind}-{name}.rom"));
            let rom = OptionRom::parse(&bytes).unwrap();
            assert_eq!((rom.images.len(), rom.length_bytes), (images, bytes.len()), "{name}");
            let card = Card { id: id.parse().unwrap(), ..e1000e() };
            assert_eq!(check(&rom, &card, 1 << 20), Ok(()), "{name}");
            let other = Card { id: "8086:1533".parse().unwrap(), ..e1000e() };
            assert!(matches!(check(&rom, &other, 1 << 20), Err(RomError::IdMismatch { .. })));
        }
    }
}

#[test]
fn a_rom_that_names_no_card_fits_none() {
    for name in ["pxe-ne2k_pci.rom", "efi-ne2k_pci.rom"] {
        let rom = OptionRom::parse(&fixture(name)).unwrap();
        let card = Card { id: "10ec:8029".parse().unwrap(), ..e1000e() };
        assert_eq!(check(&rom, &card, 1 << 20).map_err(|error| error.rule()), Err(4), "{name}");
    }
}

#[test]
fn a_rom_tells_its_images() {
    let rom = OptionRom::parse(&fixture("efi-e1000e.rom")).unwrap();
    let [bios, efi] = rom.images.as_slice() else { panic!("{rom:?}") };
    let id = e1000e().id;
    assert_eq!(
        *bios,
        RomImage {
            offset: 0,
            header: RomHeader::Bios { init_bytes: 75264, ipxe_build_id: Some(0x9113_152a) },
            pci: PciDataStructure {
                id,
                device_list: vec![0x10d3],
                class: 0x0002_0000,
                revision: 3,
                code_type: CodeType::Bios,
                image_bytes: 75264,
                last: false,
            },
        }
    );
    assert_eq!(
        *efi,
        RomImage {
            offset: EFI,
            header: RomHeader::Efi { init_bytes: 174_592, compressed: false },
            pci: PciDataStructure {
                id,
                device_list: vec![],
                class: 0x0002_0000,
                revision: 0,
                code_type: CodeType::Efi,
                image_bytes: 174_592,
                last: true,
            },
        }
    );
    assert_eq!(rom.version, Some(RomVersion::from("1.0.0+git-20190125.36a4c85-5.1")));
}

/// What is done to efi-e1000e.rom, and the rule that refuses it.
type Mutation = (&'static str, fn(&mut Vec<u8>), u8);

const MUTATIONS: &[Mutation] = &[
    ("no signature", |rom| rom[0] = 0xff, 1),
    ("half a signature", |rom| rom[1] = 0xff, 1),
    ("second image without signature", |rom| rom[EFI] = 0, 1),
    ("PCIR pointer beyond the file", |rom| rom[0x19] = 0xff, 2),
    ("PCIR pointer not aligned", |rom| rom[0x18] += 1, 2),
    ("PCIR signature", |rom| rom[PCIR] = b'p', 2),
    ("PCIR too short for revision 3", |rom| rom[PCIR + 10] = 0x18, 2),
    ("PCIR too short for any revision", |rom| rom[EFI_PCIR + 10] = 0x10, 2),
    ("image of length zero", |rom| rom[EFI_PCIR + 16..EFI_PCIR + 18].fill(0), 2),
    ("image longer than the file", |rom| rom[EFI_PCIR + 17] = 0xff, 3),
    ("truncated by a block", |rom| rom.truncate(rom.len() - 512), 3),
    ("truncated in the first image", |rom| rom.truncate(4096), 3),
    ("truncated to a header", |rom| rom.truncate(64), 3),
    ("initialises with nothing", |rom| rom[2] = 0, 3),
    ("initialises with more than it has", |rom| rom[2] += 1, 3),
    ("EFI initialises with more than it has", |rom| rom[EFI + 3] = 0xff, 3),
    ("vendor", |rom| rom[PCIR + 4] = 0x87, 4),
    (
        "device and list",
        |rom| {
            rom[PCIR + 6] = 0;
            let list = PCIR + usize::from(u16_at(rom, PCIR + 8).unwrap());
            rom[list] = 0;
        },
        4,
    ),
    ("EFI device", |rom| rom[EFI_PCIR + 6] = 0, 4),
    ("class", |rom| rom[PCIR + 15] = 1, 5),
    ("code type of a new kind", |rom| rom[EFI_PCIR + 20] = 4, 6),
    ("one bit of the body", |rom| rom[0x5000] ^= 1, 7),
    ("$PnP pointer", |rom| rom[0x1a] += 16, 7),
    ("UNDI pointer", |rom| rom[0x16] += 1, 7),
    ("EFI signature", |rom| rom[EFI + 4] = 0, 8),
    ("EFI subsystem", |rom| rom[EFI + 8] = 0x0a, 8),
    ("EFI machine", |rom| rom[EFI + 10] = 0, 8),
    ("EFI compression", |rom| rom[EFI + 12] = 7, 8),
    ("EFI driver offset", |rom| rom[EFI + 0x16] += 1, 8),
    ("no last image", |rom| rom[EFI_PCIR + 21] = 0, 9),
    ("last image too early", |rom| rom[PCIR + 21] = 0x80, 9),
    ("something after it", |rom| rom.extend([0xff, 0xff, 0]), 9),
    ("larger than the ROM BAR", |rom| grow(rom, 256 * 1024), 9),
    (
        "a key in it",
        |rom| rom[EFI + 0x2000..EFI + 0x201b].copy_from_slice(b"-----BEGIN PRIVATE KEY-----"),
        11,
    ),
];

/// Makes the EFI image longer by `bytes`.
fn grow(rom: &mut Vec<u8>, bytes: usize) {
    let blocks = (rom.len() - EFI + bytes) / BLOCK;
    rom.resize(rom.len() + bytes, 0);
    rom[EFI_PCIR + 16..EFI_PCIR + 18]
        .copy_from_slice(&u16::try_from(blocks).unwrap().to_le_bytes());
}

#[test]
fn each_mutation_is_refused_by_the_rule_that_it_breaks() {
    let good = fixture("efi-e1000e.rom");
    assert_eq!(verdict(&good), Ok(()));
    for (name, mutate, rule) in MUTATIONS {
        let mut rom = good.clone();
        mutate(&mut rom);
        // What is in the first image is mutated with the right checksum, or the sum alone would
        // refuse it.
        let rom = if *rule == 7 || rom.len() < 75264 { rom } else { summed(rom) };
        let error = verdict(&rom).expect_err(name);
        assert_eq!(error.rule(), *rule, "{name}: {error}");
    }
}

#[test]
fn padding_after_the_last_image_is_no_content() {
    let mut rom = fixture("efi-e1000e.rom");
    rom.resize(256 * 1024, 0xff);
    assert_eq!(verdict(&rom), Ok(()));
}

#[test]
fn a_rom_for_a_list_of_devices_fits_each_of_them() {
    let mut rom = fixture("pxe-e1000e.rom");
    rom[PCIR + 6..PCIR + 8].copy_from_slice(&0x1533_u16.to_le_bytes());
    assert_eq!(verdict(&summed(rom)), Ok(()));
}

#[test]
fn a_bios_image_may_not_take_more_than_a_bios_has() {
    let mut rom = fixture("pxe-e1000e.rom");
    let blocks: u8 = 255;
    rom.resize(usize::from(blocks) * BLOCK, 0);
    rom[2] = blocks;
    rom[PCIR + 16] = blocks;
    assert_eq!(verdict(&summed(rom)), Ok(()), "127.5 KiB is the most that byte 2 can say");
}

#[test]
fn a_payload_image_needs_a_memory_bar_of_the_rom_bars_size() {
    let mut rom = fixture("efi-e1000e.rom");
    rom[EFI_PCIR + 20] = 0xff;
    assert_eq!(verdict(&rom), Err(RomError::NoMemoryBar { needs: 256 * 1024 }));
    let card = Card { memory_bar_bytes: Some(1 << 20), ..e1000e() };
    assert_eq!(check(&OptionRom::parse(&rom).unwrap(), &card, 1 << 20), Ok(()));
}

#[test]
fn only_the_file_that_was_meant_has_its_digest() {
    let rom = fixture("efi-e1000e.rom");
    assert_eq!(check_digest(&rom, sha256(&rom)), Ok(()));
    assert_eq!(check_digest(&rom[1..], sha256(&rom)).map_err(|error| error.rule()), Err(11));
}

#[test]
fn no_single_changed_byte_and_no_truncation_makes_the_parser_panic() {
    let good = fixture("efi-e1000e.rom");
    let headers = (0..0xc0).chain(EFI..EFI + 0x40);
    for at in headers {
        for value in [0, 0xff] {
            let mut rom = good.clone();
            rom[at] = value;
            let _parsed = OptionRom::parse_start(&rom);
        }
    }
    for length in (0..0x200).chain((0x200..good.len()).step_by(9001)) {
        assert!(OptionRom::parse(&good[..length]).is_err(), "{length}");
    }
}

#[test]
fn pci_ids_are_written_as_lspci_writes_them() {
    assert_eq!("8086:10D3".parse::<PciId>().unwrap().to_string(), "8086:10d3");
    for wrong in ["", "8086", "8086:10d", "8086:10d3:1", "+086:10d3", "808g:10d3"] {
        assert!(wrong.parse::<PciId>().is_err(), "{wrong}");
    }
}
