//! The program: a command, one operation on a chip, or what has a disk open.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use flasher::cli::{self, Asked, Command};
use flasher::disk::operation::{self, Access};

/// Exit code: the command line is wrong.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    if let Some(code) = disk_operation() {
        return code;
    }
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

/// What this program starts for a disk.
fn disk_operation() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == operation::ARGUMENT).then_some(())?;
    let (path, access) = (arguments.next()?, arguments.next()?);
    let access = if access == "rw" { Access::Write } else { Access::ReadOnly };
    Some(operation::run(Path::new(&path), access))
}

fn said(to: &mut dyn io::Write, text: &str) -> ExitCode {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
