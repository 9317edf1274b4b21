//! The same inputs give the same image, bit for bit, wherever and whenever it is built.

use std::fs;
use std::path::Path;

use mkinitramfs::kernel::cache::Cache;
use vmtest::image::{self, Image};

const OUTPUTS: &[&str] = &[
    "stage2_vmlinuz",
    "stage2_vmlinuz.sha256",
    "stage2_initramfs.cpio.zst",
    "stage2_initramfs.cpio.zst.sha256",
    "agent",
    "agent.sha256",
];

#[test]
fn two_builds_in_different_directories_are_identical() -> anyhow::Result<()> {
    let first = Image::under_test()?;
    let elsewhere = tempfile::tempdir()?;
    // Copies are files of another name, another directory and another time.
    let agent = elsewhere.path().join("my-agent");
    fs::copy(&first.agent, &agent)?;
    fs::write(elsewhere.path().join("ca.pem"), first.authority.pem())?;
    // Nothing is found compressed.
    let cache = Cache::from_environment().with_archives(elsewhere.path().join("archives"));
    image::pack(image::SPECIFICATION.as_ref(), &agent, elsewhere.path(), &[], &cache)?;
    let here = first.vmlinuz.parent().unwrap_or(Path::new("."));
    for output in OUTPUTS {
        let (one, other) = (fs::read(here.join(output))?, fs::read(elsewhere.path().join(output))?);
        assert!(one == other, "{output} differs");
    }
    Ok(())
}
