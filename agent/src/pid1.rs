//! Who is PID 1, and how it is told to enter the loaded kernel.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::sys::{Signal, System, Target};

const KEXEC_LOADED: &str = "/sys/kernel/kexec_loaded";

/// The process that may leave this kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pid1 {
    /// The same program file as this process: we are in our own ramdisk.
    Ours,
    /// systemd, which knows the same signal.
    Systemd,
    /// Another one, with its name; we do not know what signals do to it.
    Other(String),
}

/// Why PID 1 was not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It would take the signal for something else, or die of it.
    #[error("expected stage2 or systemd as PID 1, got {0:?}, which cannot be asked to enter it")]
    Unknown(String),
    /// The kernel did not deliver the signal.
    #[error("cannot send a signal to PID 1")]
    Signal(#[source] io::Error),
}

impl Pid1 {
    /// Looks who it is.
    pub(crate) fn find() -> Self {
        Self::find_in(Path::new("/proc"))
    }

    fn find_in(proc: &Path) -> Self {
        let name = fs::read_to_string(proc.join("1/comm")).unwrap_or_default();
        match name.trim() {
            _ if same_file(&proc.join("1/exe"), &proc.join("self/exe")) => Self::Ours,
            "systemd" => Self::Systemd,
            name => Self::Other(name.to_owned()),
        }
    }

    /// Itself, if it understands the signal.
    pub(crate) fn that_can_enter(self) -> Result<Self, Error> {
        match self {
            Self::Ours | Self::Systemd => Ok(self),
            Self::Other(name) => Err(Error::Unknown(name)),
        }
    }

    /// Asks it to stop everything and to enter the loaded kernel.
    pub(crate) fn enter_loaded_kernel(&self, system: &mut impl System) -> Result<(), Error> {
        self.clone().that_can_enter()?;
        system.signal(Target::Process(1), Signal::EnterLoadedKernel).map_err(Error::Signal)
    }
}

/// Whether a kernel is loaded that can be entered.
pub(crate) fn kernel_is_loaded() -> bool {
    fs::read_to_string(KEXEC_LOADED).is_ok_and(|loaded| loaded.trim() == "1")
}

impl fmt::Display for Pid1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => write!(f, "PID 1"),
            Self::Systemd => write!(f, "systemd"),
            Self::Other(name) => write!(f, "{name}"),
        }
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Call, FakeSystem};
    use std::os::unix::fs::symlink;

    /// A `/proc` with two processes, which run the files named.
    fn proc(name: &str, pid1: &str, ourselves: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        for (process, program) in [("1", pid1), ("self", ourselves)] {
            fs::create_dir(proc.path().join(process)).unwrap();
            fs::write(proc.path().join(program), "").unwrap();
            symlink(proc.path().join(program), proc.path().join(process).join("exe")).unwrap();
        }
        fs::write(proc.path().join("1/comm"), format!("{name}\n")).unwrap();
        proc
    }

    #[test]
    fn pid_1_is_ours_only_if_it_runs_the_same_file() {
        for (name, pid1, ourselves, expected) in [
            ("init", "agent", "agent", Pid1::Ours),
            ("systemd", "agent", "agent", Pid1::Ours),
            ("systemd", "systemd", "agent", Pid1::Systemd),
            ("init", "busybox", "agent", Pid1::Other("init".to_owned())),
        ] {
            let proc = proc(name, pid1, ourselves);
            assert_eq!(Pid1::find_in(proc.path()), expected, "{name} {pid1}");
        }
    }

    #[test]
    fn a_stranger_is_never_sent_a_signal() {
        let mut system = FakeSystem::default();
        Pid1::Other("init".to_owned()).enter_loaded_kernel(&mut system).unwrap_err();
        assert_eq!(system.calls, []);
        Pid1::Ours.enter_loaded_kernel(&mut system).unwrap();
        let sent = Call::Signal(Target::Process(1), Signal::EnterLoadedKernel);
        assert_eq!(system.calls, [sent]);
    }
}
