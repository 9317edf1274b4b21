//! Builds the kernel, keeps it, and puts ramdisks into it.
//!
//! A kernel is built once for a source, a configuration and a compiler, with an empty *slot* where
//! its ramdisk goes. [`Kernel::ready`] builds or finds it; [`Kernel::with_initramfs`] fills the slot
//! and links the boot image, which takes well under a second. The cache holds one directory per
//! kernel; a lock keeps two builds apart while either works in it, and a directory counts only when
//! its mark `complete` was written last.

pub mod cache;
pub mod config;
pub mod file;
pub mod make;
mod notes;
mod pack;
pub mod patch;
pub mod profile;
pub mod progress;
mod replay;
pub mod source;
mod splice;
pub mod tools;
mod vmlinux;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use cache::{Cache, Lock};
use file::{FileError, cannot};
use make::Make;
use patch::Patch;
use profile::Profile;
use progress::{FIRST_ESTIMATE, Progress, minutes};
use source::Source;

/// The slot's name in the build directory. The kernel's build takes a single file `*.cpio.*` as it
/// is, without compressing it.
const SLOT_FILE: &str = "slot.cpio.zeros";
/// What the kernel's configuration must have so that [`pack`] can fill it. The command line's
/// buffer lies in the image only when something is in it.
const SLOT_FRAGMENT: &str = "CONFIG_INITRAMFS_SOURCE=\"slot.cpio.zeros\"\nCONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE=\"stage2\"\n";
/// The goal for a ramdisk; larger ones take the next power of two.
const SMALLEST_SLOT_BYTES: usize = 4 << 20;
/// What make prints for a configuration alone, with the programs that make it.
const STEPS_TO_CONFIGURE: usize = 10;

/// Why there is no kernel, or no image of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no source.
    #[error("cannot get the kernel's source")]
    Source(#[from] source::Error),
    /// The profile cannot be followed.
    #[error("cannot configure the kernel")]
    Profile(#[from] profile::Error),
    /// The configuration is not as asked for.
    #[error("cannot configure the kernel")]
    Config(#[from] config::Error),
    /// A patch is not for this source.
    #[error("cannot change the kernel's source")]
    Patch(#[from] patch::Error),
    /// A program is missing.
    #[error(transparent)]
    Tools(#[from] tools::Error),
    /// Another build could not be waited for.
    #[error(transparent)]
    Lock(#[from] cache::LockError),
    /// make failed.
    #[error(transparent)]
    Make(#[from] make::Error),
    /// A file of the build cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program of the build cannot be run.
    #[error("cannot run {0}")]
    Run(&'static str, #[source] io::Error),
    /// Another build worked on the kernel since, and has not finished.
    #[error("cannot use the kernel in {}: another build has broken off there: run this again", .0.display())]
    Unfinished(PathBuf),
    /// The ramdisk cannot be put in.
    #[error("cannot put the ramdisk into the kernel")]
    Pack(#[from] pack::Error),
}

/// Which kernel is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// A `.profile` file.
    pub profile: PathBuf,
    /// More `.config` files.
    pub fragments: Vec<PathBuf>,
    /// A tarball or a directory; `None` is Debian's package.
    pub source: Option<PathBuf>,
    /// How large the ramdisk is; `None` if there is none yet.
    pub initramfs_bytes: Option<usize>,
    /// The date that the kernel shows if its source has none, in seconds since 1970.
    pub date: u64,
}

/// A built kernel.
#[derive(Debug)]
pub struct Kernel {
    /// The kernel's version as `uname -r` shows it, without the local version.
    pub version: String,
    directory: PathBuf,
}

impl Kernel {
    /// Finds the kernel in the cache or builds it.
    ///
    /// # Errors
    /// The source, a tool or an option is missing, or the build fails.
    pub fn ready(request: &Request, cache: &Cache) -> Result<Self, Error> {
        Ok(Self::locked(request, cache)?.0)
    }

    /// The kernel, and its boot image with a ramdisk and a default command line in it: nobody who
    /// packs a ramdisk of another size gives it another slot in between.
    ///
    /// # Errors
    /// As [`Self::ready`] and [`Self::with_initramfs`].
    pub fn filled(
        request: &Request,
        initramfs: &[u8],
        cmdline: &str,
        cache: &Cache,
    ) -> Result<(Self, Vec<u8>), Error> {
        let (kernel, _lock) = Self::locked(request, cache)?;
        let image = pack::image(&kernel.build_directory(), initramfs, cmdline)?;
        Ok((kernel, image))
    }

    /// Configures the kernel and builds nothing; returns the path of its `.config`, which is as asked
    /// for. Takes seconds.
    ///
    /// # Errors
    /// The source, a tool or an option is missing.
    pub fn configured(request: &Request, cache: &Cache) -> Result<PathBuf, Error> {
        let plan = Plan::of(request, cache)?;
        let _lock = plan.kernel.lock()?;
        let make = plan.make()?;
        eprintln!("kernel: configuring {} in {}", plan.source.version, make.build.display());
        plan.configure(&make, &mut Progress::start(STEPS_TO_CONFIGURE))?;
        Ok(make.build.join(".config"))
    }

    fn locked(request: &Request, cache: &Cache) -> Result<(Self, Lock), Error> {
        let plan = Plan::of(request, cache)?;
        let lock = plan.kernel.lock()?;
        let slot_bytes = request.initramfs_bytes.map(slot_bytes);
        // make knows what to do, and does nothing otherwise.
        if plan.source.may_change() || !plan.kernel.is_complete(slot_bytes) {
            plan.build(slot_bytes.unwrap_or(SMALLEST_SLOT_BYTES), cache)?;
        }
        Ok((plan.kernel, lock))
    }

    /// The boot image with a ramdisk and a default command line in it.
    ///
    /// # Errors
    /// The command line or the ramdisk does not fit, or the linker fails.
    pub fn with_initramfs(&self, initramfs: &[u8], cmdline: &str) -> Result<Vec<u8>, Error> {
        let _lock = self.lock()?;
        if !self.mark().is_file() {
            return Err(Error::Unfinished(self.directory.clone()));
        }
        Ok(pack::image(&self.build_directory(), initramfs, cmdline)?)
    }

    /// Where the kernel was built: `vmlinux` with its symbols and `.config` are here.
    #[must_use]
    pub fn build_directory(&self) -> PathBuf {
        self.directory.join("build")
    }

    fn lock(&self) -> Result<Lock, Error> {
        Ok(Lock::wait(&self.directory.with_extension("lock"))?)
    }

    /// Whether it is built, with a slot of this size if that matters.
    fn is_complete(&self, slot_bytes: Option<usize>) -> bool {
        let is_right = |slot: &str| slot_bytes.is_none_or(|bytes| slot == bytes.to_string());
        fs::read_to_string(self.mark()).is_ok_and(|slot| is_right(&slot))
    }

    /// Written last: names the slot's size.
    fn mark(&self) -> PathBuf {
        self.directory.join("complete")
    }
}

/// A kernel with all that it takes to build it.
struct Plan {
    kernel: Kernel,
    source: Source,
    profile: Profile,
    timestamp: String,
}

impl Plan {
    fn of(request: &Request, cache: &Cache) -> Result<Self, Error> {
        let mut profile = Profile::read(&request.profile)?;
        let requests = &mut profile.requests;
        request.fragments.iter().try_for_each(|fragment| requests.add_file(fragment))?;
        requests.add("mkinitramfs", SLOT_FRAGMENT)?;
        tools::check(&std::env::var("PATH").unwrap_or_default())?;
        let source = {
            let _lock = Lock::wait(&cache.sources().join("lock"))?;
            Source::ready(request.source.as_deref(), cache)?
        };
        let timestamp = timestamp(source.date.unwrap_or(request.date))?;
        let (options, compiler) = (requests.over(""), compiler()?);
        let mut parts = vec![source.identity.as_str(), &options, &compiler, &timestamp];
        parts.extend(profile.patches.iter().map(Patch::text));
        let directory = cache.kernels().join(cache::key(&parts));
        let kernel = Kernel { version: source.version.clone(), directory };
        Ok(Self { kernel, source, profile, timestamp })
    }

    /// The kernel's make, with a directory to build in.
    fn make(&self) -> Result<Make, Error> {
        let (source, timestamp) = (self.source.directory.clone(), self.timestamp.clone());
        let (build, log) = (self.kernel.build_directory(), self.kernel.directory.join("log"));
        fs::create_dir_all(&build).map_err(cannot("create", &build))?;
        Ok(Make { source, build, log, timestamp })
    }

    /// `tinyconfig` is `allnoconfig` with the kernel's own tiny fragments laid over it; ours are laid
    /// over both at once, so that nothing is on that neither asks for.
    fn configure(&self, make: &Make, progress: &mut Progress) -> Result<(), Error> {
        let requests = &self.profile.requests;
        let base: String = [
            "kernel/configs/tiny-base.config",
            "kernel/configs/tiny.config",
            "arch/x86/configs/tiny.config",
        ]
        .iter()
        .map(|name| fs::read_to_string(make.source.join(name)).unwrap_or_default())
        .collect();
        let wanted = make.build.join("wanted.config");
        let configuration = make.build.join(".config");
        let text = requests.over(&base);
        // Writing `.config` anew makes the build check every object: only when it is needed.
        let is_same = fs::read_to_string(&wanted).is_ok_and(|known| known == text);
        if !(is_same && configuration.is_file()) {
            file::remove_file(&wanted)?;
            let merged = make.build.join("merged.config");
            fs::write(&merged, &text).map_err(cannot("write", &merged))?;
            let all = format!("KCONFIG_ALLCONFIG={}", merged.display());
            make.run(&[&all, "allnoconfig"], progress)?;
            make.run(&["olddefconfig"], progress)?;
            fs::rename(&merged, &wanted).map_err(cannot("rename", &merged))?;
        } else if self.source.may_change() {
            make.run(&["olddefconfig"], progress)?;
        }
        let result = fs::read_to_string(&configuration).map_err(cannot("read", &configuration))?;
        Ok(requests.check(&result)?)
    }

    fn build(&self, slot_bytes: usize, cache: &Cache) -> Result<(), Error> {
        let Self { kernel, source, profile, .. } = self;
        let make = self.make()?;
        file::remove_file(&kernel.mark())?;
        file::remove_file(&make.log)?;
        make_slot(&make.build.join(SLOT_FILE), slot_bytes)?;
        patch::lay_over(&profile.patches, &source.directory, &make.build)?;
        eprintln!("kernel: {} in {}", source.version, kernel.directory.display());
        let last_steps = cache.kernels().join("last-steps");
        let known = fs::read_to_string(&last_steps).ok().and_then(|text| text.parse().ok());
        let mut progress = Progress::start(known.unwrap_or(FIRST_ESTIMATE));
        self.configure(&make, &mut progress)?;
        make.run(&["bzImage"], &mut progress)?;
        patch::check(&profile.patches, &source.directory, &make.build)?;
        let (steps, took) = progress.finish();
        eprintln!("kernel: built in {} ({steps} steps)", minutes(took));
        // A relink is no measure for a whole build.
        if steps > FIRST_ESTIMATE / 2 {
            fs::write(&last_steps, steps.to_string()).map_err(cannot("write", &last_steps))?;
        }
        let mark = kernel.mark();
        Ok(fs::write(&mark, slot_bytes.to_string()).map_err(cannot("write", &mark))?)
    }
}

/// The slot that a ramdisk needs.
fn slot_bytes(initramfs_bytes: usize) -> usize {
    (initramfs_bytes + splice::SLACK_BYTES).next_power_of_two().max(SMALLEST_SLOT_BYTES)
}

/// Leaves a slot of the right size alone: its date decides whether the kernel is linked again.
fn make_slot(path: &Path, bytes: usize) -> Result<(), Error> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == bytes as u64) {
        return Ok(());
    }
    Ok(fs::write(path, vec![0; bytes]).map_err(cannot("write", path))?)
}

/// Compiler and linker, as the kernel's banner names them.
fn compiler() -> Result<String, Error> {
    let first_line = |program: &'static str| -> Result<String, Error> {
        let output = Command::new(program).arg("--version").output();
        let output = output.map_err(|source| Error::Run(program, source))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!("{}\n{}", first_line("gcc")?, first_line("ld")?))
}

/// Seconds since 1970 as `date` writes them, for the kernel's banner.
fn timestamp(seconds: u64) -> Result<String, Error> {
    let output = Command::new("date")
        .env("LC_ALL", "C")
        .args(["-u", "-d", &format!("@{seconds}")])
        .output()
        .map_err(|source| Error::Run("date", source))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_room_for_the_ramdisk_and_its_slack() {
        const MIB: usize = 1 << 20;
        for (initramfs, slot) in [
            (0, 4 * MIB),
            (3 * MIB, 4 * MIB),
            (4 * MIB - 64, 4 * MIB),
            (4 * MIB - 63, 8 * MIB),
            (9 * MIB, 16 * MIB),
        ] {
            assert_eq!(slot_bytes(initramfs), slot, "{initramfs}");
        }
    }

    #[test]
    fn a_kernel_that_another_build_left_unfinished_gets_no_ramdisk() {
        let cache = tempfile::tempdir().unwrap();
        let directory = cache.path().join("kernel");
        let kernel = Kernel { version: "6.12".into(), directory: directory.clone() };
        let error = kernel.with_initramfs(b"", "").unwrap_err();
        assert!(matches!(error, Error::Unfinished(left) if left == directory));
    }

    #[test]
    fn dates_are_the_same_everywhere() {
        assert_eq!(timestamp(0).unwrap(), "Thu Jan  1 00:00:00 UTC 1970");
    }
}
