//! The commands and what they do, one function each.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::compress::Compression;
use crate::cpio;
use crate::flavour::Flavour;
use crate::image::Image;
use crate::kernel::cache::Cache;
use crate::kernel::{Kernel, Request};
use crate::output::{self, Output};
use crate::packages::Packages;
use crate::spec::{ImageSpec, KernelSpec};
use crate::tree::Tree;
use crate::{bzimage, cmdline, inspect, sizes};

/// The date of everything packed when `SOURCE_DATE_EPOCH` is not set: 2026-11-01. It is also the
/// earliest date that the agent believes in, so a release moves it.
const RELEASE_DATE: u32 = 1_793_491_200;

/// Packs the ramdisk, builds its kernel and joins them to one file that firmware can boot.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  A whole image with your key in it, from the specification beside this program:
    mkinitramfs build mkinitramfs/stage2.toml --agent target/x86_64-unknown-linux-gnu/ramdisk/agent --authorized-keys ~/.ssh/id_ed25519.pub
  What is in it:
    mkinitramfs inspect output/stage2_vmlinuz
  A directory as a ramdisk for any kernel:
    mkinitramfs pack my-root -o my-root.cpio.zst
  Only the kernel, from kernel.org:
    mkinitramfs kernel --source linux-6.12.40.tar.xz -o bzImage
  Whether a kernel has every option of a profile that you changed, without building it:
    mkinitramfs kernel --profile vm --configure-only

Environment:
  STAGE2_CACHE       where sources and built kernels are kept [$XDG_CACHE_HOME/stage2, ~/.cache/stage2]
  SOURCE_DATE_EPOCH  the date of everything packed, in seconds since 1970 [a date in this program]"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a whole image from a specification: stage2_vmlinuz, stage2_initramfs.cpio.zst, agent
    Build(BuildArgs),
    /// Make a cpio archive of a directory
    Pack(PackArgs),
    /// Build a kernel, or find it in the cache
    Kernel(KernelArgs),
    /// List what is in a cpio archive, or in a kernel with a ramdisk inside
    Inspect {
        /// A cpio archive (plain, zstd, xz or gzip) or a bzImage
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// The specification, a TOML file
    spec: PathBuf,
    /// The agent: a static program
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The flasher, a dynamic program that is packed with every library that it needs
    #[arg(long, value_name = "FILE")]
    flasher: Option<PathBuf>,
    /// A flavour to add, beside those of the specification
    #[arg(long, value_name = "NAME")]
    flavour: Vec<Flavour>,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// Public keys that may log in to rescue, beside those of the specification
    #[arg(long, value_name = "FILE")]
    authorized_keys: Vec<PathBuf>,
    /// CA certificates to trust, beside those of the specification
    #[arg(long = "ca", value_name = "FILE")]
    ca_certificates: Vec<PathBuf>,
    /// The default command line, instead of the specification's
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<String>,
    /// The kernel's source, instead of the specification's
    #[arg(long, value_name = "TARBALL|DIR")]
    source: Option<PathBuf>,
    #[command(flatten)]
    fragments: FragmentsArg,
}

#[derive(Debug, Args)]
struct PackArgs {
    /// The directory to pack; its files become root's
    directory: PathBuf,
    /// The archive; the name's end says how it is compressed: .cpio.zst, .cpio.xz, .cpio.gz or .cpio
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct KernelArgs {
    /// A .profile file of the kernel configuration directory
    #[arg(long, default_value = "vm")]
    profile: String,
    /// A flavour of the image that it is for
    #[arg(long, value_name = "NAME")]
    flavour: Vec<Flavour>,
    /// The kernel's source [default: Debian's package linux-source-6.12]
    #[arg(long, value_name = "TARBALL|DIR")]
    source: Option<PathBuf>,
    /// Configure it and build nothing: is every option so as the profile asks for?
    #[arg(long, conflicts_with_all = ["initramfs", "cmdline", "output"])]
    configure_only: bool,
    /// Put this ramdisk into the kernel
    #[arg(long, value_name = "FILE")]
    initramfs: Option<PathBuf>,
    /// The default command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,
    /// Write the boot image here
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    fragments: FragmentsArg,
}

#[derive(Debug, Args)]
struct FragmentsArg {
    /// The directory of kernel profiles, fragments and patches
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel-config"))]
    kernel_config: PathBuf,
}

/// Runs one command, with a cache for what is expensive to make.
///
/// # Errors
/// The command's own, with what it was doing.
pub fn run(cli: Cli, cache: &Cache) -> Result<()> {
    match cli.command {
        Command::Build(args) => build(&args, cache),
        Command::Pack(args) => pack(&args),
        Command::Kernel(args) => kernel(&args, cache),
        Command::Inspect { file } => inspect(&file),
    }
}

fn build(args: &BuildArgs, cache: &Cache) -> Result<()> {
    let started = Instant::now();
    let spec = overridden(ImageSpec::read(&args.spec)?, args);
    let date = source_date()?;
    let notes = cmdline::check(&spec.cmdline)?;
    let mut image = Image::collect(&spec, &args.agent, date)?;
    for flavour in &spec.flavours {
        let packages = Packages::ready(flavour.ingredients().packages, cache)?;
        image.add_flavour(*flavour, &packages)?;
    }
    // Before what takes minutes.
    let mut output = Output::in_directory(&args.output)?;
    let initramfs = image.initramfs(spec.compression, date, cache)?;
    let request = kernel_request(&spec.kernel, &args.fragments, Some(initramfs.len()), date);
    let request = request_for(&spec.flavours, &args.fragments, request);
    let (_, vmlinuz) = Kernel::filled(&request, &initramfs, &spec.cmdline, cache)?;
    let archive_as =
        |compression: Compression| format!("stage2_initramfs.cpio{}", compression.suffix());
    let archive = archive_as(spec.compression);
    output.add("stage2_vmlinuz", &vmlinuz, 0o644)?;
    output.add(&archive, &initramfs, 0o644)?;
    output.add("agent", &image.agent, 0o755)?;
    match &image.flasher {
        Some(flasher) => output.add("flasher", flasher, 0o755)?,
        None => output.without("flasher"),
    }
    for other in Compression::ALL.into_iter().filter(|other| *other != spec.compression) {
        output.without(&archive_as(other));
    }
    output.finish()?;
    notes.iter().chain(&image.notes).for_each(|note| println!("{note}"));
    print!("{}", sizes::table(&image.tree, &image.parts, initramfs.len(), vmlinuz.len()));
    let (directory, seconds) = (args.output.display(), started.elapsed().as_secs_f64());
    let programs = if image.flasher.is_some() { "agent, flasher" } else { "agent" };
    println!("{directory}: stage2_vmlinuz, {archive}, {programs} in {seconds:.1} s");
    Ok(())
}

fn pack(args: &PackArgs) -> Result<()> {
    let name = args.output.file_name().unwrap_or_default().to_string_lossy();
    let Some(compression) = Compression::from_file_name(&name) else {
        bail!("expected a name that ends in .cpio, .cpio.zst, .cpio.xz or .cpio.gz, got {name:?}");
    };
    let tree = Tree::read(&args.directory)?;
    let archive = cpio::archive(&tree, source_date()?)?;
    compression.announce(&archive);
    let packed = compression.compress(&archive)?;
    output::replace(&args.output, &packed)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    println!("{}: {} bytes, {} unpacked", args.output.display(), packed.len(), archive.len());
    Ok(())
}

fn kernel(args: &KernelArgs, cache: &Cache) -> Result<()> {
    cmdline::check(&args.cmdline)?.iter().for_each(|note| println!("{note}"));
    let initramfs = args.initramfs.as_deref().map(read).transpose()?;
    // An image that is written has no larger slot than it needs.
    let initramfs_bytes = initramfs.as_ref().map(Vec::len).or(args.output.as_ref().map(|_| 0));
    let spec = KernelSpec { profile: args.profile.clone(), source: args.source.clone() };
    let request = kernel_request(&spec, &args.fragments, initramfs_bytes, source_date()?);
    let request = request_for(&args.flavour, &args.fragments, request);
    if args.configure_only {
        let configuration = Kernel::configured(&request, cache)?;
        println!("every option is as asked for: {}", configuration.display());
        return Ok(());
    }
    let initramfs = initramfs.unwrap_or_default();
    let (kernel, image) = Kernel::filled(&request, &initramfs, &args.cmdline, cache)?;
    if let Some(path) = &args.output {
        output::replace(path, &image)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let header = bzimage::SetupHeader::read(&image)?;
    println!(
        "{}\n{} bytes; built in {}",
        header.version,
        image.len(),
        kernel.build_directory().display()
    );
    Ok(())
}

fn inspect(file: &Path) -> Result<()> {
    let bytes = read(file)?;
    let description = inspect::describe(&bytes);
    let description = description.with_context(|| format!("cannot inspect {}", file.display()))?;
    match io::stdout().write_all(description.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Flags add files to those of the specification and replace its single values.
fn overridden(mut spec: ImageSpec, args: &BuildArgs) -> ImageSpec {
    spec.authorized_keys.extend(args.authorized_keys.iter().cloned());
    spec.ca_certificates.extend(args.ca_certificates.iter().cloned());
    spec.cmdline = args.cmdline.clone().unwrap_or(spec.cmdline);
    spec.flavours.extend(args.flavour.iter().copied());
    spec.flavours.sort();
    spec.flavours.dedup();
    spec.flasher = args.flasher.clone().or(spec.flasher);
    spec.kernel.source = args.source.clone().or(spec.kernel.source);
    spec
}

fn kernel_request(
    spec: &KernelSpec,
    fragments: &FragmentsArg,
    initramfs_bytes: Option<usize>,
    date: u32,
) -> Request {
    Request {
        profile: fragments.kernel_config.join(format!("{}.profile", spec.profile)),
        fragments: Vec::new(),
        source: spec.source.clone(),
        initramfs_bytes,
        date: date.into(),
    }
}

/// The kernel with what the flavours need.
fn request_for(flavours: &[Flavour], directory: &FragmentsArg, request: Request) -> Request {
    let fragment = |flavour: &Flavour| flavour.ingredients().kernel_fragment;
    let fragments = flavours.iter().map(|it| directory.kernel_config.join(fragment(it))).collect();
    Request { fragments, ..request }
}

fn source_date() -> Result<u32> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(RELEASE_DATE),
        Ok(text) => match text.parse() {
            Ok(date) => Ok(date),
            Err(_) => bail!("expected seconds since 1970 in SOURCE_DATE_EPOCH, got {text:?}"),
        },
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
