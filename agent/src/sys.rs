//! The kernel seam: whatever changes the machine goes through [`System`].
//!
//! [`Linux`] is the real kernel, `FakeSystem` writes down what it was asked to do. This is the only
//! file of the agent with `unsafe` code: rustix and nix have no `kexec_file_load(2)`, no
//! `SIOCSIFFLAGS` and no real-time signals, and `madvise(2)` is never safe.
#![expect(unsafe_code, reason = "system calls without a safe wrapper")]

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::libc;
use nix::sys::signal;
use nix::unistd::Pid;
use rustix::fs::Timespec;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::system::RebootCommand;
use rustix::time::ClockId;

use crate::mounts::Mount;

/// The ways to leave this kernel, `reboot(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reboot {
    /// Enter the kernel that `kexec_file_load(2)` loaded.
    Kexec,
    /// Restart through the firmware.
    Restart,
    /// Turn the power off.
    PowerOff,
    /// Stop, with the power on.
    Halt,
}

/// The signals that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// `SIGTERM`
    Terminate,
    /// `SIGHUP`: interactive shells ignore SIGTERM but end on this one. Asks PID 1 to look at
    /// the operators' wishes.
    HangUp,
    /// `SIGUSR2`: asks PID 1 to turn the power off, as busybox has it.
    PowerOff,
    /// `SIGCONT`: a stopped process must run to see the others.
    Continue,
    /// `SIGKILL`
    Kill,
    /// `SIGRTMIN+6`: asks PID 1 to enter the loaded kernel, as systemd has it.
    EnterLoadedKernel,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// One process.
    Process(u32),
    /// Every process but PID 1 and the caller.
    Everybody,
}

/// What the agent asks of the kernel.
pub(crate) trait System {
    /// Mounts a file system, `mount(2)`.
    fn mount(&mut self, mount: &Mount) -> io::Result<()>;
    /// Unmounts a file system, `umount2(2)`.
    fn unmount(&mut self, target: &Path) -> io::Result<()>;
    /// Takes the caller and its children out of what others mount from now on, `unshare(2)`.
    fn own_mounts(&mut self) -> io::Result<()>;
    /// Mounts what a device has on it.
    fn mount_device(&mut self, device: &Path, target: &Path, fstype: &str) -> io::Result<()>;
    /// Shows a directory, with all that is mounted below it, at another place too.
    fn bind(&mut self, source: &Path, target: &Path) -> io::Result<()>;
    /// Unmounts a file system; of one that [`System::bind`] has shown, whatever is below it, too.
    fn unmount_all(&mut self, target: &Path) -> io::Result<()>;
    /// Writes all dirty pages to their devices, `sync(2)`.
    fn sync(&mut self);
    /// Names this machine, `sethostname(2)`.
    fn set_hostname(&mut self, name: &str) -> io::Result<()>;
    /// Sets the wall clock, `clock_settime(2)`.
    fn set_clock(&mut self, now: SystemTime) -> io::Result<()>;
    /// Turns an interface off: the card stops writing received frames into memory. This takes the
    /// kernel's network lock, for which a driver that hangs makes everybody wait.
    fn turn_off_link(&mut self, name: &str) -> io::Result<()>;
    /// Loads the next kernel, `kexec_file_load(2)`.
    fn kexec_load(
        &mut self,
        kernel: &File,
        initramfs: Option<&File>,
        cmdline: &CStr,
    ) -> io::Result<()>;
    /// Forgets the loaded kernel.
    fn kexec_unload(&mut self) -> io::Result<()>;
    /// Sends a signal, `kill(2)`.
    fn signal(&mut self, target: Target, signal: Signal) -> io::Result<()>;
    /// Lets PID 1 hear ctrl-alt-del as SIGINT, instead of a restart on the spot.
    fn hear_ctrl_alt_del(&mut self) -> io::Result<()>;
    /// Leaves this kernel; returns only when that did not work.
    fn reboot(&mut self, way: Reboot) -> io::Result<Infallible>;
}

/// The kernel that we run on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linux;

impl System for Linux {
    fn mount(&mut self, mount: &Mount) -> io::Result<()> {
        Ok(rustix::mount::mount(
            mount.fstype,
            mount.target,
            mount.fstype,
            mount.flags,
            Some(mount.data),
        )?)
    }

    fn unmount(&mut self, target: &Path) -> io::Result<()> {
        Ok(rustix::mount::unmount(target, UnmountFlags::empty())?)
    }

    fn own_mounts(&mut self) -> io::Result<()> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        Ok(rustix::mount::mount_change("/", private)?)
    }

    fn mount_device(&mut self, device: &Path, target: &Path, fstype: &str) -> io::Result<()> {
        let flags = MountFlags::empty();
        Ok(rustix::mount::mount(device, target, fstype, flags, None)?)
    }

    fn bind(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        Ok(rustix::mount::mount_bind_recursive(source, target)?)
    }

    fn unmount_all(&mut self, target: &Path) -> io::Result<()> {
        let table = std::fs::read_to_string("/proc/self/mounts")?;
        let below = table.lines().rev().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
        for mounted in below.filter(|path| path.starts_with(target)) {
            self.unmount(mounted)?;
        }
        Ok(())
    }

    fn sync(&mut self) {
        rustix::fs::sync();
    }

    fn set_hostname(&mut self, name: &str) -> io::Result<()> {
        Ok(rustix::system::sethostname(name.as_bytes())?)
    }

    fn set_clock(&mut self, now: SystemTime) -> io::Result<()> {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?;
        let time = Timespec::try_from(since_epoch).map_err(io::Error::other)?;
        Ok(rustix::time::clock_settime(ClockId::Realtime, time)?)
    }

    fn turn_off_link(&mut self, name: &str) -> io::Result<()> {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::DGRAM,
            None,
        )?;
        let mut request = interface_request(name)?;
        interface_ioctl(&socket, libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS has just filled in `ifru_flags`, and every bit pattern is a c_short.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags & !(libc::IFF_UP as libc::c_short);
        interface_ioctl(&socket, libc::SIOCSIFFLAGS, &mut request)
    }

    fn kexec_load(
        &mut self,
        kernel: &File,
        initramfs: Option<&File>,
        cmdline: &CStr,
    ) -> io::Result<()> {
        let (initramfs, flags) = match initramfs {
            Some(file) => (file.as_raw_fd(), 0),
            None => (-1, KEXEC_FILE_NO_INITRAMFS),
        };
        kexec_file_load(kernel.as_raw_fd(), initramfs, cmdline, flags)
    }

    fn kexec_unload(&mut self) -> io::Result<()> {
        kexec_file_load(-1, -1, c"", KEXEC_FILE_UNLOAD)
    }

    fn signal(&mut self, target: Target, signal: Signal) -> io::Result<()> {
        match (target, named(signal)) {
            (Target::Process(pid), Some(named)) => Ok(signal::kill(known_pid(pid)?, named)?),
            (Target::Everybody, Some(named)) => Ok(signal::kill(Pid::from_raw(-1), named)?),
            (Target::Process(pid), None) => kill_real_time(known_pid(pid)?, enter_kernel_signal()),
            (Target::Everybody, None) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn hear_ctrl_alt_del(&mut self) -> io::Result<()> {
        Ok(rustix::system::reboot(RebootCommand::CadOff)?)
    }

    fn reboot(&mut self, way: Reboot) -> io::Result<Infallible> {
        let command = match way {
            Reboot::Kexec => RebootCommand::Kexec,
            Reboot::Restart => RebootCommand::Restart,
            Reboot::PowerOff => RebootCommand::PowerOff,
            Reboot::Halt => RebootCommand::Halt,
        };
        rustix::system::reboot(command)?;
        Err(io::Error::other("reboot(2) returned"))
    }
}

/// Lets the signals of a terminal do again what they do by default: whoever started us in the
/// background of a script has them ignored, and programs inherit that.
pub(crate) fn obey_terminal_signals() -> io::Result<()> {
    use signal::{SigHandler, Signal, signal};
    for number in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP] {
        // SAFETY: the default action runs no code of this process.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// `include/uapi/linux/kexec.h`
const KEXEC_FILE_UNLOAD: libc::c_ulong = 1;
const KEXEC_FILE_NO_INITRAMFS: libc::c_ulong = 4;

fn kexec_file_load(
    kernel: RawFd,
    initramfs: RawFd,
    cmdline: &CStr,
    flags: libc::c_ulong,
) -> io::Result<()> {
    // SAFETY: the kernel only reads the `len` bytes at `cmdline`, which live until it returns; it
    // checks the file descriptors itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel,
            initramfs,
            cmdline.to_bytes_with_nul().len(),
            cmdline.as_ptr(),
            flags,
        )
    };
    zero_or_errno(result)
}

fn zero_or_errno(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An `ifreq` that names one interface.
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain C data for which all bytes zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn interface_ioctl(
    socket: &OwnedFd,
    operation: libc::c_ulong,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    // SAFETY: both operations that we use take a pointer to one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), operation, request) };
    zero_or_errno(result.into())
}

/// The signal's name in nix, which knows no real-time signals.
fn named(signal: Signal) -> Option<signal::Signal> {
    match signal {
        Signal::Terminate => Some(signal::Signal::SIGTERM),
        Signal::HangUp => Some(signal::Signal::SIGHUP),
        Signal::PowerOff => Some(signal::Signal::SIGUSR2),
        Signal::Continue => Some(signal::Signal::SIGCONT),
        Signal::Kill => Some(signal::Signal::SIGKILL),
        Signal::EnterLoadedKernel => None,
    }
}

/// Zero and negative numbers mean whole groups to `kill(2)`.
fn known_pid(pid: u32) -> io::Result<Pid> {
    match i32::try_from(pid) {
        Ok(raw) if raw > 0 => Ok(Pid::from_raw(raw)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The number of `SIGRTMIN+6`; the C library keeps the first two real-time signals for itself.
pub(crate) fn enter_kernel_signal() -> i32 {
    libc::SIGRTMIN() + 6
}

fn kill_real_time(pid: Pid, number: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes two integers and touches none of our memory.
    let result = unsafe { libc::kill(pid.as_raw(), number) };
    zero_or_errno(result.into())
}

/// Takes over a file descriptor that the parent process left open for us.
///
/// Call it once per number, before anything else could have opened it.
pub(crate) fn inherited_pipe(number: RawFd) -> Option<OwnedFd> {
    const STANDARD_ERROR: RawFd = 2;
    let kind = std::fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
    if number <= STANDARD_ERROR || !std::os::unix::fs::FileTypeExt::is_fifo(&kind.file_type()) {
        return None;
    }
    // SAFETY: the descriptor is open (it has metadata) and is a pipe that nothing in this process
    // opened: std opens none, and the caller asks before it opens any.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The smallest page of every machine that we run on.
const PAGE_BYTES: usize = 4096;

/// Lets go of the pages of our own program; those that are needed come back by themselves.
///
/// The kernel maps sixteen pages around each one that is touched, and the start touches many: they
/// would count as ours for as long as we run.
pub(crate) fn let_go_of_program() -> io::Result<()> {
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let begin = &raw const __executable_start;
    // Whole pages only: what follows the code may be data.
    let bytes = (&raw const etext).addr().saturating_sub(begin.addr()) & !(PAGE_BYTES - 1);
    // SAFETY: the linker puts headers, constants and code between the two, which are mapped from the
    // file, read-only, and never written: whatever is dropped is read again when it is touched.
    let result = unsafe {
        rustix::mm::madvise(begin.cast_mut().cast(), bytes, rustix::mm::Advice::LinuxDontNeed)
    };
    match result {
        // There are holes between the parts; the parts are done all the same.
        Err(rustix::io::Errno::NOMEM) => Ok(()),
        result => Ok(result?),
    }
}

/// Time since the kernel started, the clock of all deadlines; it never jumps.
pub(crate) fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
pub(crate) use fake::{Call, FakeSystem};

#[cfg(test)]
mod fake {
    use super::*;
    use std::path::PathBuf;

    /// What [`FakeSystem`] was asked to do.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) enum Call {
        Mount(&'static str),
        Unmount(PathBuf),
        OwnMounts,
        MountDevice(PathBuf, PathBuf),
        Bind(PathBuf, PathBuf),
        Sync,
        SetHostname(String),
        SetClock(SystemTime),
        TurnOffLink(String),
        KexecLoad { initramfs: bool, cmdline: String },
        KexecUnload,
        Signal(Target, Signal),
        HearCtrlAltDel,
        Reboot(Reboot),
    }

    /// Writes down every call, and refuses those that it was told to refuse.
    #[derive(Debug, Default)]
    pub(crate) struct FakeSystem {
        pub(crate) calls: Vec<Call>,
        pub(crate) refusals: Vec<(Call, i32)>,
    }

    impl FakeSystem {
        fn answer(&mut self, call: Call) -> io::Result<()> {
            let refusal = self.refusals.iter().find(|(refused, _)| *refused == call);
            let errno = refusal.map(|(_, errno)| *errno);
            self.calls.push(call);
            errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
        }
    }

    impl System for FakeSystem {
        fn mount(&mut self, mount: &Mount) -> io::Result<()> {
            self.answer(Call::Mount(mount.target))
        }
        fn unmount(&mut self, target: &Path) -> io::Result<()> {
            self.answer(Call::Unmount(target.to_owned()))
        }
        fn own_mounts(&mut self) -> io::Result<()> {
            self.answer(Call::OwnMounts)
        }
        fn mount_device(&mut self, device: &Path, target: &Path, _: &str) -> io::Result<()> {
            self.answer(Call::MountDevice(device.to_owned(), target.to_owned()))
        }
        fn bind(&mut self, source: &Path, target: &Path) -> io::Result<()> {
            self.answer(Call::Bind(source.to_owned(), target.to_owned()))
        }
        fn unmount_all(&mut self, target: &Path) -> io::Result<()> {
            self.answer(Call::Unmount(target.to_owned()))
        }
        fn sync(&mut self) {
            self.calls.push(Call::Sync);
        }
        fn set_hostname(&mut self, name: &str) -> io::Result<()> {
            self.answer(Call::SetHostname(name.to_owned()))
        }
        fn set_clock(&mut self, now: SystemTime) -> io::Result<()> {
            self.answer(Call::SetClock(now))
        }
        fn turn_off_link(&mut self, name: &str) -> io::Result<()> {
            self.answer(Call::TurnOffLink(name.to_owned()))
        }
        fn kexec_load(
            &mut self,
            _kernel: &File,
            initramfs: Option<&File>,
            cmdline: &CStr,
        ) -> io::Result<()> {
            let cmdline = cmdline.to_string_lossy().into_owned();
            self.answer(Call::KexecLoad { initramfs: initramfs.is_some(), cmdline })
        }
        fn kexec_unload(&mut self) -> io::Result<()> {
            self.answer(Call::KexecUnload)
        }
        fn signal(&mut self, target: Target, signal: Signal) -> io::Result<()> {
            self.answer(Call::Signal(target, signal))
        }
        fn hear_ctrl_alt_del(&mut self) -> io::Result<()> {
            self.answer(Call::HearCtrlAltDel)
        }
        fn reboot(&mut self, way: Reboot) -> io::Result<Infallible> {
            self.answer(Call::Reboot(way))?;
            Err(io::Error::other("the fake never leaves"))
        }
    }
}
