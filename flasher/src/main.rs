//! The program: a command, or one operation on a chip.

use std::io;
use std::process::ExitCode;

use flasher::cli::{self, Asked, Command};

/// Exit code: the command line is wrong.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Asked::Command(cli)) if cli.command == Command::ChipOperation => {
            flasher::operation::run()
        }
        Ok(Asked::Command(cli)) => flasher::commands::run(&cli),
        Ok(Asked::Help) => said(&mut io::stdout(), cli::HELP),
        Ok(Asked::Version) => said(
            &mut io::stdout(),
            concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"), "\n"),
        ),
        Err(error) => {
            let text = format!("flasher: {error}; flasher --help tells more\n");
            said(&mut io::stderr(), &text);
            ExitCode::from(WRONG)
        }
    }
}

fn said(to: &mut dyn io::Write, text: &str) -> ExitCode {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
