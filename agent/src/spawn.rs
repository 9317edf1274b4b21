//! How PID 1 starts its roles: each is this same program in a session of its own.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::SigSet;

/// Ourselves, also after the file has been replaced.
const OURSELVES: &str = "/proc/self/exe";
/// Ourselves, where there is no `/proc`.
const INIT: &str = "/init";

/// Where the ramdisk keeps its programs; the kernel gives PID 1 none.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The command that becomes this role.
pub(crate) fn role(name: &str) -> Command {
    let program = if Path::new(OURSELVES).exists() { OURSELVES } else { INIT };
    let mut command = Command::new(program);
    command.arg0("init").arg(name).env("PATH", PATH);
    command
}

/// First thing in every role: a child of PID 1 gets its own name and session, and hears signals.
///
/// PID 1 blocks all signals, and children inherit that: nothing but SIGKILL would end them. The
/// session is what PID 1 kills when the role has to go, with all that it started.
pub(crate) fn begin(name: &str) -> io::Result<()> {
    const PID_1: u32 = 1;
    if parent_id() != PID_1 {
        return Ok(());
    }
    rustix::thread::set_name(&CString::new(name)?)?;
    rustix::process::setsid()?;
    Ok(SigSet::empty().thread_set_mask()?)
}

/// How much rather than others a process is killed when memory is short: -1000 never, 1000 first.
pub(crate) fn set_oom_score(process: &str, score: i32) -> io::Result<()> {
    fs::write(format!("/proc/{process}/oom_score_adj"), score.to_string())
}
