//! `stage2 log`: the machine's log, as far as it matters.

use std::io::Write;

use super::Error;
use super::arguments::{Lines, Times};
use crate::kernel_log::KernelLog;

pub(super) fn show(lines: Lines, times: Times, out: &mut impl Write) -> Result<(), Error> {
    let mut log = KernelLog::open().map_err(Error::Log)?;
    loop {
        match log.next().map_err(Error::Log)? {
            Some(record) if lines == Lines::All || record.matters() => writeln!(out, "{record}")?,
            Some(_) => {}
            None if times == Times::Once => return Ok(out.flush()?),
            None => {
                out.flush()?;
                log.wait().map_err(Error::Log)?;
            }
        }
    }
}
