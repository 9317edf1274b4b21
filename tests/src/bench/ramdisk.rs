//! The ramdisks that are compared, and the kernel that all of them get.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mkinitramfs::compress::Compression;
use mkinitramfs::cpio;
use mkinitramfs::image::Image;
use mkinitramfs::kernel::cache::Cache;
use mkinitramfs::kernel::{Kernel, Request};
use mkinitramfs::spec::{BusyboxSpec, ImageSpec, Policy};
use mkinitramfs::tree::{DeviceKind, Node, Tree};

use super::debian::{LOADER, Programs};

/// The kernel of the image.
pub const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel-config/vm.profile");

/// The date of everything packed, and the earliest that the agent believes in: 2026-01-01.
pub const DATE: u32 = 1_767_225_600;

/// A public key whose private half nobody has.
pub const OPERATOR: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICtjLnI2Sbv6EG1Cv3K+fEytoFxFjmPe+y+1nMu8Uu5S operator\n";

const BASELINE_SCRIPT: &str = include_str!("baseline.sh");
const FLOOR_SCRIPT: &str = include_str!("floor.sh");

const BASELINE_PROGRAMS: &[&str] =
    &["/usr/bin/curl", "/usr/bin/dropbearkey", "/usr/bin/sha256sum", "/usr/sbin/dropbear", KEXEC];
const KEXEC: &str = "/sbin/kexec";

/// Whose ramdisk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The image of stage2.
    Ours,
    /// A ramdisk of the same function.
    Baseline,
    /// The same, and kexec-tools does without the digest that it checks on the way into the next
    /// kernel, as ours does.
    Unchecked,
    /// The least that boots.
    Floor,
}

impl Contender {
    /// All other ramdisks.
    pub const PEERS: [Self; 2] = [Self::Baseline, Self::Floor];
    /// All other ways to boot.
    pub const BOOT_PEERS: [Self; 3] = [Self::Baseline, Self::Unchecked, Self::Floor];

    /// Short enough for a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "stage2",
            Self::Baseline => "baseline",
            Self::Unchecked => "baseline, unchecked",
            Self::Floor => "floor",
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A ramdisk, and what it takes as a file.
pub struct Ramdisk {
    /// Uncompressed, as it is booted.
    pub path: PathBuf,
    /// Uncompressed.
    pub unpacked_bytes: usize,
    /// After the builder's zstd, level 19.
    pub compressed_bytes: usize,
}

/// All ramdisks and their kernel, in one directory.
pub struct Ramdisks {
    /// The kernel without a ramdisk.
    pub kernel: PathBuf,
    /// Kernel and our ramdisk in one file.
    pub vmlinuz_bytes: usize,
    ours: Ramdisk,
    baseline: Ramdisk,
    floor: Ramdisk,
}

impl Ramdisks {
    /// Packs all of them into `directory`.
    pub fn pack(agent: &Path, programs: &Programs, directory: &Path) -> anyhow::Result<Self> {
        let cache = Cache::from_environment();
        let image = image(agent, directory)?;
        let compressed = image.initramfs(Compression::Zstd, DATE, &cache)?;
        let request = Request {
            fragments: Vec::new(),
            profile: PROFILE.into(),
            source: None,
            initramfs_bytes: Some(compressed.len()),
            date: DATE.into(),
        };
        let built = Kernel::ready(&request, &cache)?;
        let kernel = directory.join("kernel");
        fs::write(&kernel, built.with_initramfs(&[], "")?)?;
        Ok(Self {
            kernel,
            vmlinuz_bytes: built.with_initramfs(&compressed, "")?.len(),
            ours: write(Contender::Ours, &image.tree, directory)?,
            baseline: write(Contender::Baseline, &baseline(programs, OPERATOR)?, directory)?,
            floor: write(Contender::Floor, &floor(programs)?, directory)?,
        })
    }

    /// One contender's.
    #[must_use]
    pub fn of(&self, contender: Contender) -> &Ramdisk {
        match contender {
            Contender::Ours => &self.ours,
            Contender::Baseline | Contender::Unchecked => &self.baseline,
            Contender::Floor => &self.floor,
        }
    }
}

/// Our image, which takes its boot document over plain HTTP as the peers do.
fn image(agent: &Path, directory: &Path) -> anyhow::Result<Image> {
    let keys = directory.join("operator.pub");
    fs::write(&keys, OPERATOR)?;
    let policy = Policy { plain_http_documents: true, ..Policy::default() };
    let spec = ImageSpec { authorized_keys: vec![keys], policy, ..ImageSpec::default() };
    Image::collect(&spec, agent, DATE)
        .with_context(|| format!("cannot pack an image with {}", agent.display()))
}

/// The ramdisk made of Debian's programs, which this key opens.
pub fn baseline(programs: &Programs, key: &str) -> anyhow::Result<Tree> {
    let mut tree = skeleton(programs, BASELINE_SCRIPT)?;
    add_programs(&mut tree, programs, BASELINE_PROGRAMS)?;
    tree.file("/etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")?;
    tree.file("/etc/group", 0o644, "root:x:0:\n")?;
    tree.file("/etc/shells", 0o644, "/bin/sh\n")?;
    tree.directory("/etc/dropbear", 0o700)?;
    tree.directory("/root", 0o700)?;
    tree.directory("/root/.ssh", 0o700)?;
    tree.file("/root/.ssh/authorized_keys", 0o600, key)?;
    Ok(tree)
}

fn floor(programs: &Programs) -> anyhow::Result<Tree> {
    let mut tree = skeleton(programs, FLOOR_SCRIPT)?;
    add_programs(&mut tree, programs, &[KEXEC])?;
    Ok(tree)
}

fn skeleton(programs: &Programs, script: &str) -> anyhow::Result<Tree> {
    let mut tree = Tree::default();
    for path in ["/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/var"] {
        tree.directory(path, 0o755)?;
    }
    let kind = DeviceKind::Character;
    tree.add("/dev/console", Node::Device { kind, mode: 0o600, number: (5, 1) })?;
    tree.add("/dev/null", Node::Device { kind, mode: 0o666, number: (1, 3) })?;
    tree.file("/bin/busybox", 0o755, programs.read("/bin/busybox")?)?;
    for applet in BusyboxSpec::default().applets {
        tree.symlink(&format!("/bin/{applet}"), "busybox")?;
    }
    tree.file("/init", 0o755, script)?;
    Ok(tree)
}

/// Programs with the libraries that they need, and nothing else of their packages.
fn add_programs(tree: &mut Tree, programs: &Programs, paths: &[&str]) -> anyhow::Result<()> {
    let mut libraries = BTreeSet::new();
    for path in paths {
        tree.file(path, 0o755, programs.read(path)?)?;
        libraries.extend(programs.libraries(path)?);
    }
    for library in &libraries {
        tree.file(library, 0o644, programs.read(library)?)?;
    }
    tree.file(LOADER, 0o755, programs.loader()?)?;
    Ok(())
}

fn write(contender: Contender, tree: &Tree, directory: &Path) -> anyhow::Result<Ramdisk> {
    let archive = cpio::archive(tree, DATE)?;
    let path = directory.join(format!("{contender}.cpio"));
    fs::write(&path, &archive).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Ramdisk {
        path,
        unpacked_bytes: archive.len(),
        compressed_bytes: Compression::Zstd.compress(&archive)?.len(),
    })
}
