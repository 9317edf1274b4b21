//! Every input that a fuzzer found worth keeping is parsed again.

#[path = "../fuzz/rom_holds.rs"]
mod rom_holds;

use std::fs;

#[test]
fn the_rom_parser_keeps_its_promises_for_all_that_a_fuzzer_has_found() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/rom");
    let files: Vec<_> = fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    files.iter().for_each(|file| rom_holds::check(&fs::read(file).unwrap()));
    assert!(files.len() > 50, "{}", files.len());
}
