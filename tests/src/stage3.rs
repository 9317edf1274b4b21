//! The Debian that stage2 boots: the distribution's own kernel package, and a minimal root with
//! systemd in an initramfs, made of the packages of the host's apt sources.
//!
//! On entry the host's apt lists are there. On return kernel and root are in the cache, under a key
//! of the packages' versions and of everything that this module does with them. The programs and
//! certificates of one checkout are not in the cached root; they are appended as an archive of
//! their own (`Documentation/driver-api/early-userspace/buffer-format.rst`).

mod apt;
pub mod minimal;
mod modules;
mod root;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use mkinitramfs::cpio;
use mkinitramfs::kernel::cache::directory_from_environment;
use mkinitramfs::tree::Tree;
use sha2::{Digest as _, Sha256};

use crate::cache;

/// Counts up when what is made of the same packages and files changes.
const RECIPE: &str = "1";

/// What the root is made of, beside what Debian calls essential.
const PACKAGES: &[&str] = &["iproute2", "kmod", "systemd-sysv", "udev", "usr-is-merged"];

/// Drivers that the root carries, with all that they need: every card that we test.
const DRIVERS: &[&str] =
    &["8139cp", "8139too", "autofs4", "e1000", "e1000e", "igb", "virtio_net", "virtio_pci"];

/// Above this level the root hardly shrinks, and takes ten times as long.
const ZSTD_LEVEL: i32 = 9;

/// Debian's kernel and a root for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debian {
    /// The distribution's own kernel.
    pub kernel: PathBuf,
    /// The root as an initramfs.
    pub initramfs: PathBuf,
}

impl Debian {
    /// Takes Debian from the cache, or makes it, telling `say` how it goes.
    pub fn prepare(say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let versions = apt::candidates(PACKAGES)?;
        let directory = directory_from_environment().join("stage3").join(key(&versions));
        cache::directory_once(&directory, |unfinished| make(unfinished, &versions, say))?;
        Ok(Self {
            kernel: directory.join("vmlinuz"),
            initramfs: directory.join("initramfs.cpio.zst"),
        })
    }

    /// Writes the root to `output` with the agent as `epoxy_client`, which trusts `roots_pem`.
    pub fn with_agent(&self, agent: &Path, roots_pem: &str, output: &Path) -> anyhow::Result<()> {
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let mut tree = Tree::default();
        tree.file("/usr/bin/epoxy_client", 0o755, read(agent)?)?;
        tree.file("/etc/stage2/roots.pem", 0o644, roots_pem)?;
        let mut archive = read(&self.initramfs)?;
        archive.extend(zstd::encode_all(&cpio::archive(&tree, 0)?[..], ZSTD_LEVEL)?);
        fs::write(output, archive).with_context(|| format!("cannot write {}", output.display()))
    }
}

/// Changes when any package, file or rule changes that the root is made of.
fn key(versions: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE);
    hash.update(versions);
    hash.update(DRIVERS.join(" "));
    for file in root::OUR_FILES {
        hash.update(file.path);
        hash.update(file.contents);
    }
    hash.update(root::MASKED_UNITS.join(" "));
    hash.update(root::LEFT_OUT.join(" "));
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn make(directory: &Path, versions: &str, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let started = Instant::now();
    say("stage3: making a Debian of these packages, once; it takes about a minute");
    versions.lines().for_each(|version| say(&format!("stage3:   {version}")));

    let scratch = tempfile::tempdir_in(directory)?;
    say("stage3: fetching Debian's kernel package");
    let kernel = apt::unpack_kernel(scratch.path())?;
    fs::copy(&kernel.image, directory.join("vmlinuz"))?;

    say("stage3: installing the root with mmdebstrap");
    let archive = scratch.path().join("root.tar");
    apt::install_root(PACKAGES, &archive, say)?;

    say("stage3: packing the root");
    let mut tree = root::read(&archive)?;
    modules::add(&mut tree, &kernel, DRIVERS, scratch.path())?;
    root::add_ours(&mut tree)?;
    let packed = zstd::encode_all(&cpio::archive(&tree, 0)?[..], ZSTD_LEVEL)?;
    fs::write(directory.join("initramfs.cpio.zst"), &packed)?;

    let (size, seconds) = (packed.len() >> 20, started.elapsed().as_secs());
    say(&format!("stage3: ready, {size} MiB packed, after {seconds} s"));
    Ok(scratch.close()?)
}
