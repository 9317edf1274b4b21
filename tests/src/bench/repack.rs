//! How long it takes until an image with other authorized keys is there, when all else is the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use mkinitramfs::compress::Compression;
use mkinitramfs::image::Image;
use mkinitramfs::kernel::cache::Cache;
use mkinitramfs::kernel::{Kernel, Request};
use mkinitramfs::output::Output;
use mkinitramfs::spec::ImageSpec;
use mkinitramfs::tree::{Node, Tree};

use super::debian::Programs;
use super::ramdisk::{self, DATE, OPERATOR, PROFILE};

const ANOTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBWo7SXnbElak2WI2O9WPENcQmOkkwK8wYp2SChp8YkF another\n";

/// Both sides with everything made once.
pub struct Repack {
    directory: tempfile::TempDir,
    agent: PathBuf,
    turn: usize,
}

impl Repack {
    /// Packs both sides for the first time.
    pub fn prepare(agent: &Path, programs: &Programs) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let tree = ramdisk::baseline(programs, OPERATOR)?;
        lay_out(&tree, &directory.path().join("baseline"))?;
        let mut repack = Self { directory, agent: agent.to_owned(), turn: 0 };
        repack.ours()?;
        Ok(repack)
    }

    /// Kernel and ramdisk with another key, as `mkinitramfs build` makes them, in seconds.
    pub fn ours(&mut self) -> anyhow::Result<f64> {
        let keys = self.directory.path().join("operator.pub");
        fs::write(&keys, self.next_key())?;
        let started = Instant::now();
        self.build(keys)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// The peer's ramdisk alone with another key, in seconds.
    pub fn peer(&mut self) -> anyhow::Result<f64> {
        let root = self.directory.path().join("baseline");
        fs::write(root.join("root/.ssh/authorized_keys"), self.next_key())?;
        let started = Instant::now();
        pack(&root, &self.directory.path().join("baseline.cpio.zst"))?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn next_key(&mut self) -> &'static str {
        self.turn += 1;
        if self.turn.is_multiple_of(2) { OPERATOR } else { ANOTHER }
    }

    fn build(&self, keys: PathBuf) -> anyhow::Result<()> {
        let cache = Cache::from_environment();
        let spec = ImageSpec { authorized_keys: vec![keys], ..ImageSpec::default() };
        let image = Image::collect(&spec, &self.agent, DATE)?;
        let initramfs = image.initramfs(Compression::Zstd, DATE, &cache)?;
        let request = Request {
            fragments: Vec::new(),
            profile: PROFILE.into(),
            source: None,
            initramfs_bytes: Some(initramfs.len()),
            date: DATE.into(),
        };
        let vmlinuz = Kernel::ready(&request, &cache)?.with_initramfs(&initramfs, "")?;
        let mut output = Output::in_directory(&self.directory.path().join("output"))?;
        output.add("stage2_vmlinuz", &vmlinuz, 0o644)?;
        output.add("stage2_initramfs.cpio.zst", &initramfs, 0o644)?;
        output.add("agent", &image.agent, 0o755)?;
        Ok(output.finish()?)
    }
}

/// As people pack a directory.
fn pack(root: &Path, output: &Path) -> anyhow::Result<()> {
    let status = Command::new("sh")
        .args(["-ec", "find . | cpio --quiet -o -H newc | zstd -q -19 -f -o \"$0\""])
        .arg(output)
        .current_dir(root)
        .stdin(Stdio::null())
        .status()
        .context("cannot run sh")?;
    if !status.success() {
        bail!("cannot pack {}: {status}", root.display());
    }
    Ok(())
}

/// Writes a tree to disk; device nodes need root and no space, so they are left out.
fn lay_out(tree: &Tree, root: &Path) -> anyhow::Result<()> {
    fs::create_dir(root)?;
    for (path, node) in tree.iter() {
        let target = root.join(path.trim_start_matches('/'));
        match node {
            Node::Directory { .. } => fs::create_dir(&target),
            Node::File { contents, .. } => fs::write(&target, contents),
            Node::Symlink { target: to } => std::os::unix::fs::symlink(to, &target),
            Node::Device { .. } => Ok(()),
        }
        .with_context(|| format!("cannot make {}", target.display()))?;
    }
    Ok(())
}
