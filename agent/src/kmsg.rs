//! The log: every line reaches the kernel's ring buffer and every console.
//!
//! In the ramdisk, lines go to `/dev/kmsg`, tagged `stage2: `. The kernel prints them on all of its
//! consoles, unless its log level is too low for them; those we write to each console ourselves. The
//! kernel uses one console of each kind, and so one serial line: to others that the command line
//! names we write every line. On a host whose PID 1 is not ours they go to standard error.
//!
//! Debug lines stay in the ring buffer, unless the kernel runs with `debug` or `loglevel=8`.
//!
//! Format: <https://docs.kernel.org/admin-guide/abi-testing-files.html> (`/dev/kmsg`).

mod consoles;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::OFlags;

use self::consoles::{Console, Printer};

/// Tells our lines from the kernel's own.
const TAG: &str = "stage2: ";

/// The kernel refuses records above 1024 bytes, prefix included.
const LONGEST_LINE: usize = 900;

const PRINTK: &str = "/proc/sys/kernel/printk";
const PRINTK_DEVKMSG: &str = "/proc/sys/kernel/printk_devkmsg";
const IGNORE_LOGLEVEL: &str = "/sys/module/printk/parameters/ignore_loglevel";

/// Who reads our log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// The machine is ours: kernel log and consoles.
    Machine,
    /// A user ran us: standard error.
    User,
}

/// Starts the log of this process; lines before this are lost.
pub(crate) fn start(readers: Readers) {
    let printing = Printing::read();
    let logger: Box<dyn Log> = match readers {
        Readers::Machine => Box::new(Kmsg::open(printing)),
        Readers::User => Box::new(StandardError),
    };
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(printing.most_verbose());
    }
    log_panics();
}

/// Lifts the kernel's limit of ten lines in five seconds; only PID 1 needs to do it.
pub(crate) fn lift_rate_limit() -> io::Result<()> {
    fs::write(PRINTK_DEVKMSG, "on\n")
}

/// A panic is a line like any other, so that it reaches every console.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::error!("{}", panic.to_string().replace('\n', " "))));
}

/// What the kernel does with a record of `/dev/kmsg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Printing {
    /// Records of this level and above are not printed.
    console_loglevel: u8,
    /// Whether every record is taken; otherwise some are dropped, and nobody knows which.
    takes_all: bool,
}

impl Printing {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::from_settings(&read(PRINTK), &read(PRINTK_DEVKMSG), &read(IGNORE_LOGLEVEL))
    }

    fn from_settings(printk: &str, devkmsg: &str, ignore_loglevel: &str) -> Self {
        let level = printk.split_whitespace().next().and_then(|level| level.parse().ok());
        let console_loglevel = match ignore_loglevel.trim() {
            "Y" => u8::MAX,
            _ => level.unwrap_or(0),
        };
        Self { console_loglevel, takes_all: devkmsg.trim() == "on" }
    }

    fn shows(self, level: Level) -> bool {
        self.takes_all && severity(level) < self.console_loglevel
    }

    fn most_verbose(self) -> LevelFilter {
        if severity(Level::Debug) < self.console_loglevel {
            LevelFilter::Debug
        } else {
            LevelFilter::Info
        }
    }
}

/// The level's number in syslog.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Libraries speak only when something is wrong.
fn is_worth_a_line(metadata: &Metadata<'_>) -> bool {
    metadata.level() <= Level::Warn || metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
}

/// The lines of a message, each short enough for a record.
fn lines(message: &str) -> impl Iterator<Item = &str> {
    message.lines().filter(|line| !line.trim().is_empty()).flat_map(pieces)
}

fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(end_of_piece(rest));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The last place before the limit that does not cut a character in two.
fn end_of_piece(text: &str) -> usize {
    if text.len() <= LONGEST_LINE {
        return text.len();
    }
    (0..=LONGEST_LINE).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(text.len())
}

struct Kmsg {
    device: Option<File>,
    printing: Printing,
    consoles: Vec<Console>,
    user: bool,
}

impl Kmsg {
    fn open(printing: Printing) -> Self {
        let device = open_for_writing(Path::new("/dev/kmsg")).ok();
        let consoles = consoles::open();
        let user = !standard_error_is_a_console(&consoles);
        Self { device, printing, consoles, user }
    }

    fn write(&self, level: Level, line: &str) {
        let printed = self.record(level, line).is_ok() && self.printing.shows(level);
        if level <= Level::Info {
            let missed = |console: &&Console| !(printed && console.printer() == Printer::Kernel);
            self.consoles.iter().filter(missed).for_each(|console| console.write(line));
        }
        if self.user {
            write_to_standard_error(line);
        }
    }

    fn record(&self, level: Level, line: &str) -> io::Result<()> {
        let device = self.device.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if !self.printing.takes_all {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // One write is one record.
        let record = format!("<{}>{TAG}{line}\n", severity(level));
        (&mut &*device).write_all(record.as_bytes())
    }
}

impl Log for Kmsg {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_worth_a_line(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            lines(&record.args().to_string()).for_each(|line| self.write(record.level(), line));
        }
    }

    fn flush(&self) {}
}

/// Never waits: neither for a modem to answer on open nor for a peer to take bytes.
pub(crate) fn open_for_writing(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

/// `/dev/console` is the last console of the command line under a second number.
const DEV_CONSOLE: u64 = 5 << 8 | 1;

/// Names the pipe that the boot role copies to the console, in the environment of its commands.
const CONSOLE_PIPE: &str = "STAGE2_CONSOLE_PIPE";

/// What tells a command that `pipe` leads to the console: variable and value.
pub(crate) fn console_pipe(pipe: &OwnedFd) -> io::Result<(&'static str, String)> {
    let pipe = rustix::fs::fstat(pipe)?;
    Ok((CONSOLE_PIPE, format!("{}:{}", pipe.st_dev, pipe.st_ino)))
}

fn standard_error_is_a_console(consoles: &[Console]) -> bool {
    let Ok(metadata) = fs::metadata("/proc/self/fd/2") else { return true };
    let device = metadata.rdev();
    if metadata.file_type().is_fifo() {
        let name = format!("{}:{}", metadata.dev(), metadata.ino());
        return std::env::var(CONSOLE_PIPE).is_ok_and(|pipe| pipe == name);
    }
    metadata.file_type().is_char_device()
        && (device == DEV_CONSOLE || consoles.iter().any(|console| console.is(device)))
}

/// The log of a program that a user runs.
struct StandardError;

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_worth_a_line(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            lines(&record.args().to_string()).for_each(write_to_standard_error);
        }
    }

    fn flush(&self) {}
}

fn write_to_standard_error(line: &str) {
    // One write is one line, whoever else writes there. A closed standard error leaves nobody to tell.
    drop(io::stderr().write_all(format!("{TAG}{line}\n").as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_lines_that_the_kernel_takes() {
        let long = "é".repeat(LONGEST_LINE);
        let (first, second) = long.split_at(LONGEST_LINE);
        for (message, expected) in [
            ("one", vec!["one"]),
            ("one\ntwo\n\n three\r\n", vec!["one", "two", " three"]),
            ("", vec![]),
            (long.as_str(), vec![first, second]),
        ] {
            assert_eq!(lines(message).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn only_what_the_kernel_does_not_show_is_written_to_the_consoles_by_us() {
        let levels = [Level::Error, Level::Warn, Level::Info];
        for (printk, devkmsg, ignore_loglevel, shown) in [
            ("7\t4\t1\t7\n", "on\n", "N\n", [true, true, true]),
            ("4\t4\t1\t7\n", "on\n", "N\n", [true, false, false]),
            ("4\t4\t1\t7\n", "on\n", "Y\n", [true, true, true]),
            ("7\t4\t1\t7\n", "ratelimit\n", "N\n", [false, false, false]),
            ("", "", "", [false, false, false]),
        ] {
            let printing = Printing::from_settings(printk, devkmsg, ignore_loglevel);
            assert_eq!(levels.map(|level| printing.shows(level)), shown, "{printk} {devkmsg}");
        }
    }

    #[test]
    fn debug_lines_are_made_only_when_the_kernel_was_asked_for_them() {
        for (printk, expected) in [
            ("7 4 1 7", LevelFilter::Info),
            ("8 4 1 7", LevelFilter::Debug),
            ("", LevelFilter::Info),
        ] {
            assert_eq!(Printing::from_settings(printk, "on", "N").most_verbose(), expected);
        }
    }
}
