//! The smallest root that can tell that it was entered, for tests of what comes before it.

use std::fs;

use anyhow::Context as _;
use mkinitramfs::cpio;
use mkinitramfs::tree::Tree;

/// Of Debian's package `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// What this root says before it ends the machine.
pub const GREETING: &str = "stage3: entered with";

const INIT: &str = "#!/bin/busybox sh\n\
    /bin/busybox mount -t proc proc /proc\n\
    echo \"stage3: entered with $(/bin/busybox cat /proc/cmdline)\"\n\
    /bin/busybox grep -h stage2: /stage2/previous-boot.log | /bin/busybox tail -n 1\n\
    echo \"stage3: that was the last line of the boot before\"\n\
    /bin/busybox poweroff -f\n";

/// The root as an initramfs.
pub fn packed() -> anyhow::Result<Vec<u8>> {
    let mut tree = Tree::default();
    tree.file("/bin/busybox", 0o755, fs::read(BUSYBOX).context("cannot read /bin/busybox")?)?;
    tree.file("/init", 0o755, INIT)?;
    tree.directory("/proc", 0o555)?;
    tree.directory("/dev", 0o755)?;
    Ok(zstd::encode_all(&cpio::archive(&tree, 0)?[..], super::ZSTD_LEVEL)?)
}
