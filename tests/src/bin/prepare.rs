//! Makes what the machines of the tests boot, and says how it goes: the tests themselves find it in
//! the cache. Where everything is there already, this takes a second.

use clap::Parser;
use mkinitramfs::cli::{self, Cli};
use mkinitramfs::kernel::cache::Cache;
use vmtest::image::KERNEL_WITH_EVERYTHING;
use vmtest::stage3::Debian;

/// Build the kernel of stage2, one with every driver that a test needs, and Debian's root, or find them in $STAGE2_CACHE (~/.cache/stage2).
#[derive(Parser)]
struct Options {}

fn main() -> anyhow::Result<()> {
    let Options {} = Options::parse();
    let cache = Cache::from_environment();
    let kernel = ["mkinitramfs", "kernel"];
    cli::run(Cli::try_parse_from(kernel)?, &cache)?;
    let with_everything = kernel.into_iter().chain(KERNEL_WITH_EVERYTHING);
    cli::run(Cli::try_parse_from(with_everything)?, &cache)?;
    Debian::prepare(&|line| println!("{line}"))?;
    Ok(())
}
