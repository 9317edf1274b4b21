//! The image under test, packed by `mkinitramfs` with a throw-away authority in it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use clap::Parser as _;
use mkinitramfs::cli::{self, Cli};
use mkinitramfs::kernel::cache::{Cache, Lock};

use crate::certificate::Authority;
use crate::operator::Operator;

/// Names the agent to be packed; `make test` sets it.
pub const AGENT: &str = "STAGE2_AGENT";

/// Names the flasher to be packed; `make test` sets it.
pub const FLASHER: &str = "STAGE2_FLASHER";

/// Where cargo puts the agent below its target directory.
const AGENT_IN_TARGET: &str = "x86_64-unknown-linux-gnu/ramdisk/agent";
const FLASHER_IN_TARGET: &str = "flasher/x86_64-unknown-linux-gnu/ramdisk/flasher";

/// The default image's specification.
pub const SPECIFICATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../mkinitramfs/stage2.toml");

/// What the kernel of [`Image::with_flasher_and_disks`] is asked for with: a profile of
/// `kernel-config/` with a simulated card, and a flavour.
pub const KERNEL_WITH_EVERYTHING: [&str; 4] = ["--profile", "netdevsim", "--flavour", "disk"];

/// The default image with Debian's `flashrom` in it, which judges what a flasher wrote.
const FLASHER_SPECIFICATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/flasher.toml");
/// The same with disks, and a kernel that has a simulated card, too.
const EVERYTHING_SPECIFICATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/everything.toml");

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
        let agent = program_under_test(AGENT, AGENT_IN_TARGET, "a static agent: `make agent`")?;
        let image = Arc::new(Self::pack(&agent)?);
        *packed = Some(Arc::clone(&image));
        Ok(image)
    }

    /// The same with the flasher that is to be tested, and Debian's `flashrom`; packed once per
    /// program.
    pub fn with_flasher_under_test() -> anyhow::Result<Arc<Self>> {
        static PACKED: Mutex<Option<Arc<Image>>> = Mutex::new(None);
        Self::with_flasher_once(&PACKED, "flasher-image", FLASHER_SPECIFICATION)
    }

    /// The same with drivers and tools for disks, and a card that the kernel simulates.
    pub fn with_flasher_and_disks() -> anyhow::Result<Arc<Self>> {
        static PACKED: Mutex<Option<Arc<Image>>> = Mutex::new(None);
        Self::with_flasher_once(&PACKED, "everything-image", EVERYTHING_SPECIFICATION)
    }

    fn with_flasher_once(
        packed: &Mutex<Option<Arc<Self>>>,
        name: &str,
        specification: &str,
    ) -> anyhow::Result<Arc<Self>> {
        let mut packed = packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = &*packed {
            return Ok(Arc::clone(image));
        }
        let flasher = flasher_under_test()?;
        let flasher = flasher.to_str().context("expected the flasher's path to be UTF-8")?;
        let directory = std::env::current_exe()?.with_extension(name);
        let (specification, agent) = (specification.as_ref(), agent_under_test()?);
        let image = Self::pack_into(&directory, specification, &agent, &["--flasher", flasher])?;
        Ok(Arc::clone(packed.insert(Arc::new(image))))
    }

    /// Packs the same with another default command line into `directory`, for firmware that passes
    /// none, and returns the file that boots.
    pub fn with_cmdline(&self, cmdline: &str, directory: &Path) -> anyhow::Result<PathBuf> {
        fs::write(directory.join("ca.pem"), self.authority.pem())?;
        let extra = ["--cmdline", cmdline];
        let cache = Cache::from_environment();
        pack(SPECIFICATION.as_ref(), &self.agent, directory, &extra, &cache)?;
        Ok(directory.join("stage2_vmlinuz"))
    }

    /// Packs an image beside the running program, in place of the one that it packed last time.
    pub fn pack(agent: &Path) -> anyhow::Result<Self> {
        let directory = std::env::current_exe()?.with_extension("image");
        Self::pack_into(&directory, SPECIFICATION.as_ref(), agent, &[])
    }

    /// Packs an image of the agent under test with another specification, in place of an earlier
    /// one of that name.
    pub fn specified(name: &str, specification: &str) -> anyhow::Result<Self> {
        let directory = std::env::current_exe()?.with_extension(name);
        fs::create_dir_all(&directory)?;
        let file = directory.join("image.toml");
        fs::write(&file, specification)?;
        Self::pack_into(&directory, &file, &agent_under_test()?, &[])
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
        Self::pack_into(directory, specification, &agent, &["--authorized-keys", key])
    }

    fn pack_into(
        directory: &Path,
        specification: &Path,
        agent: &Path,
        extra: &[&str],
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let _lock = Lock::wait(&directory.join("lock"))?;
        let authority = Authority::open(directory)?;
        pack(specification, agent, directory, extra, &Cache::from_environment())?;
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
    cache: &Cache,
) -> anyhow::Result<()> {
    let ca = directory.join("ca.pem");
    let paths = [Path::new("mkinitramfs"), Path::new("build"), specification];
    let flags = [Path::new("--agent"), agent, Path::new("--ca"), &ca, Path::new("--output")];
    let words = paths.into_iter().chain(flags).chain([directory]);
    let words = words.map(Path::as_os_str).chain(extra.iter().map(OsStr::new));
    cli::run(Cli::try_parse_from(words)?, cache)
        .with_context(|| format!("cannot pack an image with {}", agent.display()))
}

/// The flasher that is to be tested.
pub fn flasher_under_test() -> anyhow::Result<PathBuf> {
    program_under_test(FLASHER, FLASHER_IN_TARGET, "a flasher: `make flasher`")
}

fn agent_under_test() -> anyhow::Result<PathBuf> {
    program_under_test(AGENT, AGENT_IN_TARGET, "a static agent: `make agent`")
}

/// The program that `variable` names, or else the one at `place` below cargo's target directory.
fn program_under_test(variable: &str, place: &str, what: &str) -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os(variable) {
        return Ok(program.into());
    }
    let myself = std::env::current_exe()?;
    let program =
        myself.ancestors().map(|directory| directory.join(place)).find(|path| path.is_file());
    match program {
        Some(program) => {
            eprintln!(
                "{variable} is not set: testing {}, whatever it was built from",
                program.display()
            );
            Ok(program)
        }
        None => bail!("expected {variable} to name {what} builds one"),
    }
}
