//! The program: a command, or one operation on a chip.

use std::process::ExitCode;

use clap::Parser as _;
use flasher::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::ChipOperation => flasher::operation::run(),
        _ => flasher::commands::run(cli),
    }
}
