//! The terminals that are consoles: those that the kernel uses, and those that the command line names
//! beside them.
//!
//! The kernel uses one console of each kind, and so one serial line of several that are named:
//! <https://docs.kernel.org/admin-guide/serial-console.html>. A console that takes no bytes (serial
//! flow control, a terminal server that hangs) costs at most [`CONSOLE_PATIENCE`], once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use agent_types::cmdline::Cmdline;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::{TAG, open_for_writing};

const CONSOLES: &str = "/proc/consoles";
const CMDLINE: &str = "/proc/cmdline";

/// A serial line at 9600 baud moves a full buffer of 4 KiB in about 4 s; one line takes 0.1 s.
const CONSOLE_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// Who prints the kernel's log on a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Printer {
    /// The kernel does.
    Kernel,
    /// Nobody does: the command line names it, and the kernel uses another one of its kind.
    Nobody,
}

/// One terminal that is a console.
pub(super) struct Console {
    terminal: File,
    device: u64,
    printer: Printer,
    stuck: AtomicBool,
}

/// The consoles of this machine.
pub(super) fn open() -> Vec<Console> {
    open_named(
        &fs::read_to_string(CONSOLES).unwrap_or_default(),
        &fs::read_to_string(CMDLINE).unwrap_or_default(),
    )
}

fn open_named(consoles: &str, cmdline: &str) -> Vec<Console> {
    let used: Vec<_> = console_names(consoles).collect();
    let unused = named_consoles(cmdline).into_iter().filter(|named| !used.contains(&named.name));
    let opened = used.iter().filter_map(|name| Console::open(name, Printer::Kernel));
    opened.chain(unused.filter_map(NamedConsole::open)).collect()
}

impl NamedConsole<'_> {
    /// Nobody has set its speed before us.
    fn open(self) -> Option<Console> {
        let console = Console::open(self.name, Printer::Nobody)?;
        if let Some(speed) = self.speed {
            set_speed(&console.terminal, speed).ok()?;
        }
        Some(console)
    }
}

fn set_speed(terminal: &File, bits_per_second: u32) -> rustix::io::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    settings.set_speed(bits_per_second)?;
    tcsetattr(terminal, OptionalActions::Now, &settings)
}

impl Console {
    fn open(name: &str, printer: Printer) -> Option<Self> {
        let terminal = open_for_writing(&Path::new("/dev").join(name)).ok()?;
        let device = terminal.metadata().ok()?.rdev();
        Some(Self { terminal, device, printer, stuck: AtomicBool::new(false) })
    }

    /// Who prints the kernel's log on it.
    pub(super) fn printer(&self) -> Printer {
        self.printer
    }

    /// Whether it is the terminal with this device number.
    pub(super) fn is(&self, device: u64) -> bool {
        self.device == device
    }

    /// Writes one line, as far as the console takes it.
    pub(super) fn write(&self, line: &str) {
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

/// The consoles that take text, from `/proc/consoles`: `ttyS0  -W- (EC p a)  4:64`.
fn console_names(consoles: &str) -> impl Iterator<Item = &str> {
    consoles.lines().filter_map(|line| {
        let (name, rest) = line.split_once(char::is_whitespace)?;
        let operations = rest.split_whitespace().next()?;
        (operations.contains('W') && rest.contains("(E")).then_some(name)
    })
}

/// A console of the command line: `ttyS1,115200n8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NamedConsole<'a> {
    name: &'a str,
    /// In bits per second.
    speed: Option<u32>,
}

/// Every terminal that the command line names, once: the kernel takes the last word for each.
fn named_consoles(cmdline: &str) -> Vec<NamedConsole<'_>> {
    let mut consoles: Vec<NamedConsole<'_>> = Vec::new();
    for value in Cmdline::parse(cmdline).values_of("console") {
        let (name, options) = value.split_once(',').unwrap_or((value, ""));
        let digits = options.find(|c: char| !c.is_ascii_digit()).unwrap_or(options.len());
        let speed = options.get(..digits).and_then(|digits| digits.parse().ok());
        consoles.retain(|known| known.name != name);
        if name.starts_with("tty") || name.starts_with("hvc") {
            consoles.push(NamedConsole { name, speed });
        }
    }
    consoles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_those_that_are_enabled_and_can_be_written() {
        let consoles = "tty0                 -WU (E     p  )    4:7\n\
                        ttyS0                -W- (EC    p a)    4:64\n\
                        ttyS1                -W- (      p a)    4:65\n\
                        netcon0              --- (E        )\n";
        assert_eq!(console_names(consoles).collect::<Vec<_>>(), ["tty0", "ttyS0"]);
    }
    #[test]
    fn consoles_of_the_command_line_have_a_name_and_maybe_a_speed() {
        let console = |name, speed| NamedConsole { name, speed };
        for (cmdline, expected) in [
            ("quiet", vec![]),
            ("console= console=null console=uart8250,io,0x3f8", vec![]),
            ("console=tty0 console=ttyS1", vec![console("tty0", None), console("ttyS1", None)]),
            ("console=ttyS1,115200n8", vec![console("ttyS1", Some(115_200))]),
            ("console=ttyS1,n8", vec![console("ttyS1", None)]),
            (
                "console=ttyS1 console=hvc0 console=ttyS1,9600",
                vec![console("hvc0", None), console("ttyS1", Some(9600))],
            ),
        ] {
            assert_eq!(named_consoles(cmdline), expected, "{cmdline}");
        }
    }
}
