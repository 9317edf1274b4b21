//! The flavours of the image, out of Debian's real packages.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use mkinitramfs::flavour::Flavour;
use mkinitramfs::image::Image;
use mkinitramfs::kernel::cache::Cache;
use mkinitramfs::kernel::{Kernel, Request};
use mkinitramfs::packages::Packages;
use mkinitramfs::spec::ImageSpec;
use mkinitramfs::tree::Node;

const KERNEL_CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel-config");

/// Any static program will do as the agent.
fn plain() -> Image {
    Image::collect(&ImageSpec::default(), Path::new("/bin/busybox"), 0).unwrap()
}

#[test]
fn the_flavour_disk_comes_out_of_the_packages_alone() {
    let cache = Cache::from_environment();
    let packages = Packages::ready(Flavour::Disk.ingredients().packages, &cache).unwrap();
    let mut image = plain();
    image.add_flavour(Flavour::Disk, &packages).unwrap();
    let paths = &image.parts[0].paths;
    for path in
        ["/sbin/e2fsck", "/sbin/xfs_repair", "/usr/sbin/nvme", "/sbin/mdadm", "/sbin/parted"]
    {
        assert!(paths.contains(path), "{path}: {paths:?}");
    }
    let texts = Flavour::Disk.ingredients().texts;
    for path in paths.iter().filter(|path| texts.iter().all(|(text, _)| text != path)) {
        match image.tree.get(path) {
            Some(Node::File { contents, .. }) => {
                assert!(is_in(&packages.root, path, contents), "{path} is of this host");
            }
            Some(Node::Symlink { .. } | Node::Directory { .. }) => {}
            other => panic!("{path}: {other:?}"),
        }
    }
    for (link, target) in [("/sbin/lvcreate", "lvm"), ("/sbin/fsck.ext4", "e2fsck")] {
        let target = target.to_owned();
        assert_eq!(image.tree.get(link), Some(&Node::Symlink { target }), "{link}");
    }
    let mut again = plain();
    again.add_flavour(Flavour::Disk, &packages).unwrap();
    assert_eq!(again.tree, image.tree);
}

/// Whether a package has this file: libraries move to the C library's directory, and the
/// interpreter is a link in its package.
fn is_in(root: &Path, path: &str, contents: &[u8]) -> bool {
    let name = Path::new(path).file_name().unwrap();
    let places = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
    let places = places.iter().map(|directory| root.join(directory).join(name));
    places
        .chain([root.join(path.trim_start_matches('/'))])
        .any(|place| fs::read(place).is_ok_and(|bytes| bytes == contents))
}

#[test]
fn a_kernel_gets_every_option_that_a_profile_and_a_flavour_ask_for() {
    let directory = Path::new(KERNEL_CONFIG);
    let cache = Cache::from_environment();
    for profile in ["vm.profile", "netdevsim.profile"] {
        let request = Request {
            profile: directory.join(profile),
            fragments: vec![directory.join(Flavour::Disk.ingredients().kernel_fragment)],
            source: None,
            initramfs_bytes: None,
            date: 0,
        };
        let configuration = fs::read_to_string(Kernel::configured(&request, &cache).unwrap());
        let configuration = configuration.unwrap();
        for option in ["CONFIG_E1000E=y", "CONFIG_BLK_DEV_NVME=y", "CONFIG_XFS_FS=y"] {
            assert!(configuration.lines().any(|line| line == option), "{profile}: {option}");
        }
    }
}
