//! The ramdisk's one program. Its name or its first argument picks the role.

mod chain;
mod rescue;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    if log::set_logger(&StandardError).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
    if Path::new(&name).file_name() == Some("rescue".as_ref()) {
        return rescue::run(arguments.collect());
    }
    match arguments.next() {
        Some(role) if role == "rescue" => rescue::run(arguments.collect()),
        role => unknown(role.unwrap_or_default()),
    }
}

fn unknown(role: OsString) -> ExitCode {
    log::error!("expected a role, got \"{}\"", role.display());
    ExitCode::FAILURE
}

/// Lines for whoever runs us by hand.
struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}
