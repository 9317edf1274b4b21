//! A real kernel: its configuration, and ramdisks put into it. The first run builds it, which takes
//! minutes; later runs find it in the cache.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

use mkinitramfs::bzimage::SetupHeader;
use mkinitramfs::compress::Compression;
use mkinitramfs::cpio;
use mkinitramfs::inspect;
use mkinitramfs::kernel::cache::Cache;
use mkinitramfs::kernel::source::Source;
use mkinitramfs::kernel::{Kernel, Request};
use mkinitramfs::tree::Tree;

fn vm_kernel(initramfs_bytes: usize) -> Kernel {
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-config/vm.profile");
    let initramfs_bytes = Some(initramfs_bytes);
    let request = Request { profile, fragments: vec![], source: None, initramfs_bytes, date: 0 };
    Kernel::ready(&request, &Cache::from_environment()).unwrap()
}

fn ramdisk(contents: &str) -> Vec<u8> {
    let mut tree = Tree::default();
    tree.file("/init", 0o755, contents).unwrap();
    Compression::Zstd.compress(&cpio::archive(&tree, 0).unwrap()).unwrap()
}

#[test]
fn a_ramdisk_in_a_kernel_is_found_again() {
    let ramdisk = [ramdisk("first"), ramdisk("second and longer")].concat();
    let image = vm_kernel(ramdisk.len()).with_initramfs(&ramdisk, "console=ttyS0").unwrap();
    let header = SetupHeader::read(&image).unwrap();
    assert!(header.version.starts_with("6."), "{}", header.version);
    assert!(header.is_efi);
    let text = inspect::describe(&image).unwrap();
    for expected in ["-rwxr-xr-x 0:0          5  /init", "-rwxr-xr-x 0:0         17  /init"] {
        assert!(text.contains(expected), "{text}");
    }
    let payload = &image[header.payload];
    let (kernel, _) = Compression::Zstd.unpack_first(payload).unwrap();
    assert!(kernel.windows(14).any(|window| window == b"console=ttyS0\0"));
}

#[test]
fn the_same_ramdisk_gives_the_same_image_whatever_was_packed_before() {
    let first = vm_kernel(0).with_initramfs(&ramdisk("one"), "quiet").unwrap();
    let other = vm_kernel(0).with_initramfs(&ramdisk("another"), "panic=1").unwrap();
    let again = vm_kernel(0).with_initramfs(&ramdisk("one"), "quiet").unwrap();
    assert!(first == again);
    assert!(first != other);
}

#[test]
fn what_a_patch_of_the_profile_changes_lies_where_the_kernel_is_built() {
    let build = vm_kernel(0).build_directory();
    let changed = fs::read_to_string(build.join("kernel/kexec_file.c")).unwrap();
    assert!(changed.contains("if (image->type != KEXEC_TYPE_CRASH)\n\t\t\tcontinue;"));
}

#[test]
fn a_patch_that_does_not_apply_builds_no_kernel_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let source = Source::ready(None, &Cache::from_environment()).unwrap().directory;
    let profile: PathBuf = directory.path().join("small.profile");
    fs::write(&profile, "other.patch\n").unwrap();
    let diff = "--- a/kernel/fork.c\n+++ b/kernel/fork.c\n@@ -1,1 +1,1 @@\n-another\n+new\n";
    fs::write(directory.path().join("other.patch"), diff).unwrap();
    let request = Request {
        profile,
        fragments: vec![],
        source: Some(source.clone()),
        initramfs_bytes: None,
        date: 0,
    };
    let cache = Cache::at(directory.path().join("cache"));
    let error = anyhow::Error::from(Kernel::ready(&request, &cache).unwrap_err());
    let expected = format!(
        "cannot change the kernel's source: cannot apply other.patch to {}: adapt the patch, or \
         take its line out of the profile:\npatching file kernel/fork.c\nHunk #1 FAILED at 1.\n",
        source.display()
    );
    let error = format!("{error:#}");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn an_option_that_kconfig_drops_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let source = Source::ready(None, &Cache::from_environment()).unwrap().directory;
    let profile: PathBuf = directory.path().join("small.profile");
    fs::write(&profile, "initramfs.config\nnet.config\n").unwrap();
    let initramfs = "CONFIG_64BIT=y\nCONFIG_BLK_DEV_INITRD=y\n";
    fs::write(directory.path().join("initramfs.config"), initramfs).unwrap();
    // Without PCI there is no e1000.
    fs::write(directory.path().join("net.config"), "CONFIG_NET=y\nCONFIG_E1000=y\n").unwrap();
    let request = Request {
        profile,
        fragments: vec![],
        source: Some(source),
        initramfs_bytes: None,
        date: 0,
    };
    let cache = Cache::at(directory.path().join("cache"));
    let error = anyhow::Error::from(Kernel::ready(&request, &cache).unwrap_err());
    assert_eq!(
        format!("{error:#}"),
        "cannot configure the kernel: a kernel option is not as asked for:\
         \n  CONFIG_E1000: net.config asks for y, got n"
    );
}
