//! Reads the kernel's log, which is the machine's: `/dev/kmsg`, one record per read.
//!
//! Format: <https://docs.kernel.org/admin-guide/abi-testing-files.html> (`/dev/kmsg`).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use agent_types::redact::redact;
use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;

/// `CONSOLE_EXT_LOG_MAX`; the kernel refuses to cut a record.
const LONGEST_RECORD: usize = 8192;
/// The level of warnings; larger numbers are less important.
const WARNING: u8 = 4;
/// How our own lines begin.
const OWN_TAG: &str = "stage2: ";

const DEVICE: &str = "/dev/kmsg";

/// One line of the log, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    level: u8,
    at: Duration,
    text: String,
}

impl Record {
    /// A record is `level,sequence,microseconds,flags;text` and lines of details.
    fn parse(record: &str) -> Option<Self> {
        let (head, text) = record.split_once(';')?;
        let mut fields = head.split(',');
        let facility_and_level: u32 = fields.next()?.parse().ok()?;
        let at = Duration::from_micros(fields.nth(1)?.parse().ok()?);
        let text = unescaped(text.lines().next().unwrap_or_default());
        let level = u8::try_from(facility_and_level & 7).ok()?;
        Some(Self { level, at, text: redact(&text) })
    }

    /// Whether it is one of our own lines, or the kernel says that something is wrong.
    pub(crate) fn matters(&self) -> bool {
        self.level <= WARNING || self.text.starts_with(OWN_TAG)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:5}.{:06}] {}", self.at.as_secs(), self.at.subsec_micros(), self.text)
    }
}

/// The kernel shows every byte that is not printable ASCII as `\xhh`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The log, from its oldest record on.
#[derive(Debug)]
pub(crate) struct KernelLog(File);

impl KernelLog {
    /// Opens it; only root may.
    pub(crate) fn open() -> io::Result<Self> {
        Self::open_at(Path::new(DEVICE))
    }

    fn open_at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        Ok(Self(OpenOptions::new().read(true).custom_flags(flags).open(path)?))
    }

    /// The next record, or nothing if there is none yet.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record>> {
        let mut buffer = [0; LONGEST_RECORD];
        loop {
            let length = match self.0.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => length,
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                    Errno::EAGAIN => return Ok(None),
                    // Records were overwritten before we came: the next read has the oldest.
                    Errno::EPIPE | Errno::EINTR => continue,
                    _ => return Err(error),
                },
            };
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if let Some(record) = Record::parse(&text) {
                return Ok(Some(record));
            }
        }
    }

    /// Waits for the next record.
    pub(crate) fn wait(&self) -> io::Result<()> {
        rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: u8, micros: u64, text: &str) -> Option<Record> {
        Some(Record { level, at: Duration::from_micros(micros), text: text.to_owned() })
    }

    #[test]
    fn a_record_is_its_first_line_without_secrets() {
        for (text, expected) in [
            ("6,1,5500000,-;hello\n SUBSYSTEM=net\n", record(6, 5_500_000, "hello")),
            ("30,2,7,-;stage2: a\\xe2\\x80\\xa6b", record(6, 7, "stage2: a…b")),
            ("4,3,7,c;100\\x5c% \\xzz \\x", record(4, 7, "100\\% \\xzz \\x")),
            ("6,4,7,-;x=1 epoxy.token=abc y", record(6, 7, "x=1 epoxy.token=… y")),
            ("6,4,7", None),
            ("x,4,7,-;y", None),
        ] {
            assert_eq!(Record::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn our_lines_and_the_kernels_warnings_matter() {
        for (level, text, expected) in
            [(6, "stage2: x", true), (6, "virtio_net: x", false), (4, "e1000: x", true)]
        {
            assert_eq!(record(level, 0, text).map(|record| record.matters()), Some(expected));
        }
    }

    #[test]
    fn a_line_looks_as_on_the_console() {
        let shown = record(6, 12_000_345, "text").map(|record| record.to_string());
        assert_eq!(shown.as_deref(), Some("[   12.000345] text"));
    }
}
