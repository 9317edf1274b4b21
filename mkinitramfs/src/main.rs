//! The command `mkinitramfs`: see `mkinitramfs --help`.

use std::process::ExitCode;

use clap::Parser;
use mkinitramfs::cli::{self, Cli};
use mkinitramfs::kernel::cache::Cache;

/// 0 is success, 1 an error, 2 a wrong command line.
fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // `--help` comes here too, with the code 0.
            drop(usage.print());
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    match cli::run(cli, &Cache::from_environment()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkinitramfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
