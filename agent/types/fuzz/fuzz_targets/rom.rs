//! No bytes make the ROM parser panic, and what it takes keeps what it promises.
#![no_main]

#[path = "../rom_holds.rs"]
mod rom_holds;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rom_holds::check(bytes));
