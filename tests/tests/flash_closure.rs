//! The flasher is a dynamic program: the ramdisk has every library that it needs.

use std::collections::BTreeSet;
use std::process::Command;

use mkinitramfs::elf::closure::{SearchPath, closure};
use vmtest::image::flasher_under_test;

#[test]
fn the_flasher_is_packed_with_what_ldd_says_that_it_needs() -> anyhow::Result<()> {
    let flasher = flasher_under_test()?;
    let output = Command::new("ldd").arg(&flasher).output()?;
    let said = String::from_utf8(output.stdout)?;
    let file_name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let by_ldd: BTreeSet<String> =
        said.split_whitespace().filter(|word| word.starts_with('/')).map(file_name).collect();
    let needed = closure(&flasher, &SearchPath::of_host())?;
    let by_us: BTreeSet<String> = needed.iter().map(|needed| file_name(&needed.target)).collect();
    assert_eq!(by_us, by_ldd);
    assert!(by_us.contains("libflashrom.so.1"), "{by_us:?}");
    Ok(())
}
