//! Makes what the machines of the tests boot, and says how it goes: the tests themselves find it in
//! the cache. Where everything is there already, this takes a second.

use clap::Parser;
use mkinitramfs::cli::Cli;
use vmtest::image::NETDEVSIM;
use vmtest::stage3::Debian;

/// Build the kernel of stage2, one with a simulated card, and Debian's root, or find them in $STAGE2_CACHE (~/.cache/stage2).
#[derive(Parser)]
struct Options {}

fn main() -> anyhow::Result<()> {
    let Options {} = Options::parse();
    mkinitramfs::cli::run(Cli::try_parse_from(["mkinitramfs", "kernel"])?)?;
    mkinitramfs::cli::run(Cli::try_parse_from(["mkinitramfs", "kernel", "--profile", NETDEVSIM])?)?;
    Debian::prepare(&|line| println!("{line}"))?;
    Ok(())
}
