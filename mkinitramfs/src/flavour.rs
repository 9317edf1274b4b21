//! Flavours of the image: programs of Debian's packages, and what the kernel needs for them.
//!
//! A flavour is added to any specification. Its programs come out of the packages that apt knows
//! now, not from this host's root, so that hosts with the same lists of packages pack the same.

use clap::ValueEnum;
use serde::Deserialize;

/// What an image can have more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// Tools and drivers for disks, to mend an installed system.
    Disk,
}

/// What a flavour is made of.
#[derive(Debug)]
pub struct Ingredients {
    /// Its name in the specification.
    pub name: &'static str,
    /// The fragment of the kernel's configuration.
    pub kernel_fragment: &'static str,
    /// Debian's packages; the libraries that they depend on need not be named.
    pub packages: &'static [&'static str],
    /// Programs by their paths in the packages. Links beside them that lead to them come with them.
    pub programs: &'static [&'static str],
    /// Other files; none of them is executable but libraries that programs open while they run.
    pub files: &'static [&'static str],
    /// Files that are ours, by their paths, and what is in them.
    pub texts: &'static [(&'static str, &'static str)],
}

/// There is no udev in the ramdisk: lvm itself makes the links in `/dev`.
const LVM_CONF: &str = "\
devices { obtain_device_list_from_udev = 0 }
activation { udev_sync = 0 udev_rules = 0 }
";

const DISK: Ingredients = Ingredients {
    name: "disk",
    kernel_fragment: "disk.config",
    // The compression library has no name that tells it.
    packages: &[
        "e2fsprogs",
        "xfsprogs",
        "nvme-cli",
        "mdadm",
        "lvm2",
        "dmsetup",
        "parted",
        "zlib1g",
    ],
    programs: &[
        "/sbin/badblocks",
        "/sbin/debugfs",
        "/sbin/dumpe2fs",
        "/sbin/e2fsck",
        "/sbin/e2image",
        "/sbin/e2undo",
        "/sbin/mke2fs",
        "/sbin/resize2fs",
        "/sbin/tune2fs",
        "/usr/bin/chattr",
        "/usr/bin/lsattr",
        "/sbin/mkfs.xfs",
        "/sbin/xfs_repair",
        "/usr/sbin/xfs_db",
        "/usr/sbin/xfs_growfs",
        "/usr/sbin/xfs_io",
        "/usr/sbin/nvme",
        "/sbin/mdadm",
        "/sbin/mdmon",
        "/sbin/dmsetup",
        "/sbin/lvm",
        "/sbin/parted",
        "/sbin/partprobe",
    ],
    // glibc opens libgcc_s when a thread is cancelled.
    files: &["/etc/mke2fs.conf", "/lib/x86_64-linux-gnu/libgcc_s.so.1"],
    texts: &[("/etc/lvm/lvm.conf", LVM_CONF)],
};

impl Flavour {
    /// What it is made of.
    #[must_use]
    pub fn ingredients(self) -> &'static Ingredients {
        match self {
            Self::Disk => &DISK,
        }
    }
}
