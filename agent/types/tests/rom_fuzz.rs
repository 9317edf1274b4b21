//! No bytes make the ROM parser panic or contradict itself: ROMs, broken at random.
//!
//! `ROM_FUZZ_SECONDS=600` goes on for so long, from a seed of its own; `ROM_FUZZ_SEED` repeats one
//! case. Whatever is answered in a way that no file of the corpus is, is added to it by
//! `ROM_FUZZ_KEEP=1`, so that every later run starts from there.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use agent_types::rom::{Card, OptionRom, RomError, check};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/rom");
const CASES: u64 = 40_000;
/// Larger ones are not kept.
const KEPT_BYTES: usize = 2048;
const CARD: &str = "8086:10d3";

/// What fields of a header are set to.
const ODD_VALUES: &[u32] =
    &[0, 1, 2, 0x18, 0x1c, 0x7f, 0x80, 0xff, 0x100, 0x1ff, 0x200, 0x7fff, 0xffff, 0xffff_ffff];

/// What means something somewhere in a ROM.
const PIECES: &[&[u8]] = &[
    &[0x55, 0xaa],
    b"PCIR",
    b"$PnP",
    b"UNDI",
    b"iPXE",
    &[0xf1, 0x0e, 0, 0],
    b"MZ",
    b"PE\0\0",
    b"mlxsign:",
    b"-----BEGIN PRIVATE KEY-----",
    &[0xff; 64],
];

/// xorshift64*, which is enough to be different every time.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        usize::try_from(number).unwrap_or_default() % end.max(1)
    }

    fn of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }
}

/// One image of 512 bytes.
fn image(code_type: u8, last: bool) -> Vec<u8> {
    let mut image = vec![0; 512];
    image[..3].copy_from_slice(&[0x55, 0xaa, 1]);
    image[0x18] = 0x1c;
    if code_type == 3 {
        image[4..8].copy_from_slice(&0x0ef1_u32.to_le_bytes());
        image[8..12].copy_from_slice(&[0x0b, 0, 0x64, 0x86]);
        image[0x16] = 0x40;
        image[0x40..0x42].copy_from_slice(b"MZ");
    }
    let mut structure = *b"PCIR\x86\x80\xd3\x10\0\0\x18\0\0\0\0\x02\x01\0\0\0\0\0\0\0";
    structure[20] = code_type;
    structure[21] = if last { 0x80 } else { 0 };
    image[0x1c..0x1c + structure.len()].copy_from_slice(&structure);
    image
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        summed(image(0, true)),
        image(3, true),
        [summed(image(0, false)), image(3, true)].concat(),
        [summed(image(0, false)), image(0xff, true)].concat(),
    ];
    seeds.extend(files(Path::new(CORPUS)));
    seeds
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Corrects the first image's checksum, beyond which nothing is looked at otherwise.
fn summed(mut rom: Vec<u8>) -> Vec<u8> {
    let length = rom.get(2).map_or(0, |blocks| usize::from(*blocks) * 512).min(rom.len());
    if length > 6 {
        let sum = rom[..length].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        rom[6] = rom[6].wrapping_sub(sum);
    }
    rom
}

/// Where something is changed: half of the time where headers are.
fn place(random: &mut Random, length: usize) -> usize {
    let image = random.below(length / 512 + 1) * 512;
    let within = if random.below(2) == 0 { 0x50 } else { 512 };
    (image + random.below(within)).min(length.saturating_sub(1))
}

fn broken(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut rom = random.of(seeds).clone();
    for _ in 0..=random.below(4) {
        change(random, &mut rom, seeds);
    }
    if random.below(4) == 0 { rom } else { summed(rom) }
}

fn change(random: &mut Random, rom: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = place(random, rom.len());
    let put = |rom: &mut Vec<u8>, bytes: &[u8]| {
        let end = (at + bytes.len()).min(rom.len());
        rom[at.min(end)..end].copy_from_slice(&bytes[..end - at.min(end)]);
    };
    match random.below(8) {
        0 => put(rom, &[1 << random.below(8)]),
        1 => put(rom, &[random.below(256) as u8]),
        2 => put(rom, &(*random.of(ODD_VALUES) as u16).to_le_bytes()),
        3 => put(rom, &random.of(ODD_VALUES).to_le_bytes()),
        4 => put(rom, random.of::<&[u8]>(PIECES)),
        5 => rom.truncate(at),
        6 => rom.extend_from_slice(random.of::<Vec<u8>>(seeds)),
        _ => rom.resize(rom.len() + random.below(600), *random.of(&[0, 0xff])),
    }
    rom.truncate(1 << 16);
}

/// Says which case it was when the parser panics.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was ROM_FUZZ_SEED={}", self.0);
        }
    }
}

/// In which way the ROM is answered; whatever is said of it must hold.
fn answer(bytes: &[u8]) -> String {
    let card =
        Card { id: CARD.parse().unwrap(), rom_bar_bytes: Some(1 << 17), memory_bar_bytes: None };
    match OptionRom::parse(bytes) {
        Ok(rom) => {
            holds(&rom, bytes);
            let verdict = check(&rom, &card, 1 << 16).map_err(|error| kind(&error));
            let kinds: Vec<String> =
                rom.images.iter().map(|image| format!("{:?}", image.pci.code_type)).collect();
            format!("{}-{}", kinds.join("-"), verdict.err().unwrap_or_else(|| "fits".to_owned()))
        }
        Err(error) => {
            assert!((1..=11).contains(&error.rule()), "{error:?}");
            kind(&error)
        }
    }
}

fn kind(error: &RomError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

fn holds(rom: &OptionRom, bytes: &[u8]) {
    assert!(rom.length_bytes <= bytes.len());
    assert!(bytes[rom.length_bytes..].iter().all(|byte| *byte == 0xff));
    let mut end = 0;
    for image in &rom.images {
        assert_eq!(image.offset, end);
        assert_eq!(bytes[end..end + 2], [0x55, 0xaa]);
        end += image.pci.image_bytes;
    }
    assert_eq!(end, rom.length_bytes);
    let lasts = rom.images.iter().map(|image| image.pci.last);
    assert!(lasts.enumerate().all(|(n, last)| last == (n + 1 == rom.images.len())));
    // What follows on a chip changes nothing.
    let mut chip = bytes[..rom.length_bytes].to_vec();
    assert_eq!(OptionRom::parse(&chip).as_ref(), Ok(rom));
    chip.extend_from_slice(b"\x55\xaasomething else");
    assert_eq!(OptionRom::parse_start(&chip).as_ref(), Ok(rom));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

#[test]
fn no_bytes_make_the_parser_panic_or_contradict_itself() {
    let seeds = seeds();
    let started = Instant::now();
    let seconds = number("ROM_FUZZ_SECONDS").map(Duration::from_secs);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = number("ROM_FUZZ_SEED").unwrap_or_else(|| seconds.map_or(0, |_| now >> 1));
    let cases = if number("ROM_FUZZ_SEED").is_some() { 1 } else { CASES };
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut case = 0;
    while seconds.map_or(case < cases, |limit| started.elapsed() < limit) {
        let this = Case(first + case);
        let rom = broken(&mut Random::new(this.0), &seeds);
        let answer = answer(&rom);
        if found.get(&answer).is_none_or(|smallest| rom.len() < smallest.len()) {
            found.insert(answer, rom);
        }
        case += 1;
    }
    println!("{case} ROMs from seed {first}: {:?}", found.keys().collect::<Vec<_>>());
    if number("ROM_FUZZ_KEEP").is_some() {
        keep(&found, &seeds);
    }
}

fn keep(found: &BTreeMap<String, Vec<u8>>, seeds: &[Vec<u8>]) {
    let known: Vec<String> = seeds.iter().map(|seed| answer(seed)).collect();
    for (answer, rom) in found {
        if !known.contains(answer) && rom.len() <= KEPT_BYTES {
            fs::write(Path::new(CORPUS).join(format!("{answer}.rom")), rom).unwrap();
        }
    }
}

#[test]
fn every_file_of_the_corpus_is_answered_as_its_name_says() {
    let mut entries = 0;
    for entry in fs::read_dir(CORPUS).unwrap().map(Result::unwrap) {
        let expected = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(answer(&fs::read(entry.path()).unwrap()), expected);
        entries += 1;
    }
    assert!(entries > 0, "the corpus is empty");
}
