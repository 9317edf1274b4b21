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

/// A process is judged by its memory alone.
const COMMON_OOM_SCORE: i32 = 0;

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
    if !is_child_of_init() {
        return Ok(());
    }
    rustix::thread::set_name(&CString::new(name)?)?;
    rustix::process::setsid()?;
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Whether PID 1 has started this process.
pub(crate) fn is_child_of_init() -> bool {
    const PID_1: u32 = 1;
    parent_id() == PID_1
}

/// Does `start` with the common score, which what it starts inherits.
///
/// Only lowered: a score below is a protection that somebody else has given.
pub(crate) fn with_common_oom_score<T>(start: impl FnOnce() -> T) -> T {
    let Some(own) = own_oom_score().filter(|score| *score > COMMON_OOM_SCORE) else {
        return start();
    };
    let set = |score| {
        if let Err(error) = set_oom_score("self", score) {
            log::debug!("cannot tell the kernel whom to kill when memory is short: {error}");
        }
    };
    set(COMMON_OOM_SCORE);
    let started = start();
    set(own);
    started
}

fn own_oom_score() -> Option<i32> {
    fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}

/// How much rather than others a process is killed when memory is short: -1000 never, 1000 first.
pub(crate) fn set_oom_score(process: &str, score: i32) -> io::Result<()> {
    fs::write(format!("/proc/{process}/oom_score_adj"), score.to_string())
}
