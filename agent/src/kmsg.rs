//! The log: every line reaches the kernel's ring buffer and every console.
//!
//! In the ramdisk, lines go to `/dev/kmsg`, tagged `stage2: `. The kernel prints them on all of its
//! consoles, unless its log level is too low for them; those we write to each console ourselves. On
//! a host whose PID 1 is not ours they go to standard error. A console that takes no bytes (serial
//! flow control, a terminal server that hangs) costs at most [`CONSOLE_PATIENCE`], once.
//!
//! Debug lines stay in the ring buffer, unless the kernel runs with `debug` or `loglevel=8`.
//!
//! Format: <https://docs.kernel.org/admin-guide/abi-testing-files.html> (`/dev/kmsg`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

/// Tells our lines from the kernel's own.
const TAG: &str = "stage2: ";

/// The kernel refuses records above 1024 bytes, prefix included.
const LONGEST_LINE: usize = 900;

/// A serial line at 9600 baud moves a full buffer of 4 KiB in about 4 s; one line takes 0.1 s.
const CONSOLE_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

const PRINTK: &str = "/proc/sys/kernel/printk";
const PRINTK_DEVKMSG: &str = "/proc/sys/kernel/printk_devkmsg";
const IGNORE_LOGLEVEL: &str = "/sys/module/printk/parameters/ignore_loglevel";
const CONSOLES: &str = "/proc/consoles";

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
        let consoles = fs::read_to_string(CONSOLES).unwrap_or_default();
        let consoles: Vec<_> = console_names(&consoles).filter_map(Console::open).collect();
        let user = !standard_error_is_a_console(&consoles);
        Self { device, printing, consoles, user }
    }

    fn write(&self, level: Level, line: &str) {
        let taken = self.record(level, line).is_ok();
        if level <= Level::Info && !(taken && self.printing.shows(level)) {
            self.consoles.iter().for_each(|console| console.write(line));
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

/// One terminal that the kernel uses as a console.
struct Console {
    terminal: File,
    device: u64,
    stuck: AtomicBool,
}

impl Console {
    fn open(name: &str) -> Option<Self> {
        let terminal = open_for_writing(&Path::new("/dev").join(name)).ok()?;
        let device = terminal.metadata().ok()?.rdev();
        Some(Self { terminal, device, stuck: AtomicBool::new(false) })
    }

    fn write(&self, line: &str) {
        let text = format!("{TAG}{line}\n");
        let mut rest = text.as_bytes();
        while !rest.is_empty() && self.is_ready() {
            match (&mut &self.terminal).write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for room; a console that once had none is not waited for again until it has.
    fn is_ready(&self) -> bool {
        let patience =
            if self.stuck.load(Ordering::Relaxed) { Timespec::default() } else { CONSOLE_PATIENCE };
        let mut polled = [PollFd::new(&self.terminal, PollFlags::OUT)];
        let ready = matches!(rustix::event::poll(&mut polled, Some(&patience)), Ok(1..));
        self.stuck.store(!ready, Ordering::Relaxed);
        ready
    }
}

/// Never waits: neither for a modem to answer on open nor for a peer to take bytes.
fn open_for_writing(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

/// The consoles that take text, from `/proc/consoles`: `ttyS0  -W- (EC p a)  4:64`.
fn console_names(consoles: &str) -> impl Iterator<Item = &str> {
    consoles.lines().filter_map(|line| {
        let (name, rest) = line.split_once(char::is_whitespace)?;
        let operations = rest.split_whitespace().next()?;
        (operations.contains('W') && rest.contains("(E")).then_some(name)
    })
}

/// `/dev/console` is the last console of the command line under a second number.
const DEV_CONSOLE: u64 = 5 << 8 | 1;

fn standard_error_is_a_console(consoles: &[Console]) -> bool {
    let Ok(metadata) = fs::metadata("/proc/self/fd/2") else { return true };
    let device = metadata.rdev();
    metadata.file_type().is_char_device()
        && (device == DEV_CONSOLE || consoles.iter().any(|console| console.device == device))
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

    #[test]
    fn consoles_are_those_that_are_enabled_and_can_be_written() {
        let consoles = "tty0                 -WU (E     p  )    4:7\n\
                        ttyS0                -W- (EC    p a)    4:64\n\
                        ttyS1                -W- (      p a)    4:65\n\
                        netcon0              --- (E        )\n";
        assert_eq!(console_names(consoles).collect::<Vec<_>>(), ["tty0", "ttyS0"]);
    }
}
