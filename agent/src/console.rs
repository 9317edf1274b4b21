//! Standard input, output and error of PID 1 and of all that it starts.
//!
//! The kernel opens `/dev/console` for PID 1 from the initramfs, if it finds it there; what PID 1
//! opens itself is the console in any case.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// Where to talk to, the first that can be opened.
const PLACES: [&str; 2] = ["/dev/console", "/dev/null"];

/// Makes the console the standard input, output and error of this process.
pub(crate) fn open() -> io::Result<()> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for place in PLACES {
        result = open_terminal(place).and_then(|terminal| use_as_standard(&terminal));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Opens a terminal without making it ours and without waiting for a modem.
pub(crate) fn open_terminal(path: &str) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    // Only the open must not wait; programs expect reads that do.
    rustix::fs::fcntl_setfl(&terminal, OFlags::empty())?;
    Ok(terminal)
}

/// Puts the terminal in place of the three standard files.
pub(crate) fn use_as_standard(terminal: &File) -> io::Result<()> {
    rustix::stdio::dup2_stdin(terminal)?;
    rustix::stdio::dup2_stdout(terminal)?;
    rustix::stdio::dup2_stderr(terminal)?;
    Ok(())
}
