//! The image under test, packed by `mkinitramfs` with a throw-away authority in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use mkinitramfs::cli::Cli;

use crate::cache;
use crate::certificate::Authority;
use crate::operator::Operator;

/// Names the agent to be packed; `make test` sets it.
pub const AGENT: &str = "STAGE2_AGENT";

/// Where cargo puts the agent below its target directory.
const AGENT_IN_TARGET: &str = "x86_64-unknown-linux-gnu/ramdisk/agent";

/// The default image's specification.
pub const SPECIFICATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../mkinitramfs/stage2.toml");

/// A packed image, and the authority that it trusts.
pub struct Image {
    /// Whom the image trusts, and nobody else.
    pub authority: Authority,
    /// Kernel and initramfs in one file.
    pub vmlinuz: PathBuf,
    /// The initramfs alone.
    pub initramfs: PathBuf,
    /// The agent as packed.
    pub agent: PathBuf,
}

impl Image {
    /// The image of the agent that is to be tested; packed once per program.
    pub fn under_test() -> anyhow::Result<Arc<Self>> {
        static PACKED: Mutex<Option<Arc<Image>>> = Mutex::new(None);
        let mut packed = PACKED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = &*packed {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(Self::pack(&agent_under_test()?)?);
        *packed = Some(Arc::clone(&image));
        Ok(image)
    }

    /// Packs an image beside the running program, in place of the one that it packed last time.
    pub fn pack(agent: &Path) -> anyhow::Result<Self> {
        let directory = std::env::current_exe()?.with_extension("image");
        fs::create_dir_all(&directory)?;
        let _lock = cache::lock(&directory.join("lock"))?;
        Self::pack_in(&directory, SPECIFICATION.as_ref(), agent, &[])
    }

    /// Packs an image that lets this operator in into `directory`, from a specification.
    pub fn for_operator(
        directory: &Path,
        specification: &Path,
        operator: &Operator,
    ) -> anyhow::Result<Self> {
        let key = operator.public_key();
        let key = key.to_str().context("expected a path in UTF-8")?;
        let agent = agent_under_test()?;
        Self::pack_in(directory, specification, &agent, &["--authorized-keys", key])
    }

    fn pack_in(
        directory: &Path,
        specification: &Path,
        agent: &Path,
        extra: &[&str],
    ) -> anyhow::Result<Self> {
        let authority = Authority::open(directory)?;
        pack(specification, agent, directory, extra)?;
        Ok(Self {
            authority,
            vmlinuz: directory.join("stage2_vmlinuz"),
            initramfs: directory.join("stage2_initramfs.cpio.zst"),
            agent: directory.join("agent"),
        })
    }
}

/// Packs an image from a specification into `directory`, where `ca.pem` is the CA that it trusts.
pub fn pack(
    specification: &Path,
    agent: &Path,
    directory: &Path,
    extra: &[&str],
) -> anyhow::Result<()> {
    let ca = directory.join("ca.pem");
    let paths = [Path::new("mkinitramfs"), Path::new("build"), specification];
    let flags = [Path::new("--agent"), agent, Path::new("--ca"), &ca, Path::new("--output")];
    let words = paths.into_iter().chain(flags).chain([directory]);
    let words = words.map(Path::as_os_str).chain(extra.iter().map(std::ffi::OsStr::new));
    mkinitramfs::cli::run(Cli::try_parse_from(words)?)
        .with_context(|| format!("cannot pack an image with {}", agent.display()))
}

fn agent_under_test() -> anyhow::Result<PathBuf> {
    if let Some(agent) = std::env::var_os(AGENT) {
        return Ok(agent.into());
    }
    let myself = std::env::current_exe()?;
    let agent =
        myself.ancestors().map(|place| place.join(AGENT_IN_TARGET)).find(|path| path.is_file());
    match agent {
        Some(agent) => {
            eprintln!(
                "{AGENT} is not set: testing {}, whatever it was built from",
                agent.display()
            );
            Ok(agent)
        }
        None => bail!("expected {AGENT} to name a static agent: `make agent` builds one"),
    }
}
