//! The role *kexec*: loads the next kernel and asks PID 1 to enter it.
//!
//! Boot documents and operators call it with the arguments of kexec-tools. It never enters a kernel
//! behind PID 1's back: PID 1 stops everything and turns the cards off first. As a command of a boot
//! document it obeys an operator who holds the boot, up to the moment in which PID 1 is asked.

mod arguments;
mod load;
mod luggage;
mod release;
mod room;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent_types::redact::redact;
use rustix::event::Timespec;

use self::arguments::{CmdlineBase, NextKernel, Request, Then};
use self::load::Next;
use self::room::Mib;
use crate::chain::Chain;
use crate::evidence;
use crate::pid1::{self, Pid1, kernel_is_loaded};
use crate::reap;
use crate::sys::{self, Linux, System};
use crate::wishes::Wishes;

/// Names the directory whose files may be given up once the kernel has read them.
pub(crate) const DOWNLOADS_VARIABLE: &str = "STAGE2_DOWNLOADS";

/// PID 1 needs a few seconds to stop everything, or half a minute if disks hang.
const ENTER_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked whether a flasher still runs.
const FLASHER_LOOK: Duration = Duration::from_secs(1);

const CMDLINE: &str = "/proc/cmdline";

const HELP: &str = "\
usage: kexec [--force] [--command-line=TEXT] [--initrd=FILE] KERNEL   load and enter
       kexec -l [--command-line=TEXT] [--initrd=FILE] KERNEL          load
       kexec -e                                                       enter what is loaded
       kexec -u                                                       forget what is loaded

  --command-line=TEXT, --append=TEXT  the next kernel's command line
  --reuse-cmdline                     put the running kernel's command line before it
  --initrd=FILE, --ramdisk=FILE       the next kernel's initramfs

Values may be words of their own. Only x86 bzImages are loaded, with kexec_file_load(2). PID 1
enters the kernel after it has stopped all processes and turned the network cards off.
Files below the directory in $STAGE2_DOWNLOADS are emptied once they are loaded; an initramfs among
them gets one more file, /stage2/previous-boot.log, with the log of this boot.";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Usage(#[from] arguments::UsageError),
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error("cannot read {CMDLINE}")]
    RunningCmdline(#[source] io::Error),
    #[error("cannot forget the loaded kernel")]
    Unload(#[source] io::Error),
    #[error("cannot enter the next kernel: none is loaded")]
    NothingLoaded,
    #[error("given up for a new attempt, as the operator wishes")]
    NewAttempt,
    #[error("cannot enter the next kernel")]
    Enter(#[from] pid1::Error),
    #[error("expected {0} to enter the loaded kernel within {ENTER_LIMIT:?}, but it did not")]
    StillHere(Pid1),
}

/// Does what the arguments ask for.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match carry_out(&mut Linux, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{}", line(&error));
            ExitCode::FAILURE
        }
    }
}

/// A word too many is often a piece of a command line, with a session in it.
fn line(error: &Error) -> String {
    format!("kexec: {}", redact(&Chain(error).to_string()))
}

fn carry_out(system: &mut impl System, arguments: &[String]) -> Result<(), Error> {
    match Request::parse(arguments)? {
        Request::Help => println!("{HELP}"),
        Request::Version => println!("kexec (stage2) {}", env!("CARGO_PKG_VERSION")),
        Request::Unload => system.kexec_unload().map_err(Error::Unload)?,
        Request::Load(next, Then::Stay) => load_kernel(system, &next)?,
        Request::Enter => return enter(system, &Pid1::find()).map(|never| match never {}),
        Request::Load(next, Then::Enter) => {
            // Loading for nobody would only take memory.
            let pid1 = Pid1::find().that_can_enter()?;
            load_kernel(system, &next)?;
            return enter(system, &pid1).map(|never| match never {});
        }
    }
    Ok(())
}

fn load_kernel(system: &mut impl System, next: &NextKernel) -> Result<(), Error> {
    let begun = sys::uptime();
    let cmdline = complete_cmdline(next)?;
    let downloads = std::env::var_os(DOWNLOADS_VARIABLE).map(PathBuf::from);
    let sizes = sizes(next);
    let luggage = log_of_this_boot();
    let alone = luggage.as_deref().filter(|_| next.initramfs.is_none()).and_then(luggage::alone);
    let header = load::load(
        system,
        Next {
            kernel: &next.kernel,
            initramfs: next.initramfs.as_deref().or(alone.as_ref().map(luggage::Alone::path)),
            cmdline: &cmdline,
            downloads: downloads.as_deref(),
            luggage: luggage.as_deref(),
        },
    )?;
    let seconds = (sys::uptime() - begun).as_secs_f32();
    log::info!("loaded Linux {}, {sizes}, in {seconds:.2} s", header.release());
    Ok(())
}

/// In our own ramdisk nobody else keeps the log.
fn log_of_this_boot() -> Option<Vec<u8>> {
    if Pid1::find() != Pid1::Ours {
        return None;
    }
    match evidence::of_this_boot() {
        Ok(log) => Some(luggage::archive(evidence::LOG, log.as_bytes())),
        Err(error) => {
            log::debug!("leaving the log behind: {error}");
            None
        }
    }
}

/// The sizes of the files, which may be empty after they have been loaded.
fn sizes(next: &NextKernel) -> String {
    let size = |path: &PathBuf| Mib(fs::metadata(path).map_or(0, |file| file.len()));
    match &next.initramfs {
        Some(initramfs) => format!("{} and initramfs {}", size(&next.kernel), size(initramfs)),
        None => format!("{} without initramfs", size(&next.kernel)),
    }
}

fn complete_cmdline(next: &NextKernel) -> Result<String, Error> {
    match next.base {
        CmdlineBase::Empty => Ok(next.cmdline.clone()),
        CmdlineBase::Running => fs::read_to_string(CMDLINE)
            .map(|running| reused_cmdline(&running, &next.cmdline))
            .map_err(Error::RunningCmdline),
    }
}

/// Boot loaders add `BOOT_IMAGE=`, which is not true any more.
fn reused_cmdline(running: &str, added: &str) -> String {
    let reused = running.trim().split(' ').filter(|word| !word.starts_with("BOOT_IMAGE="));
    reused.chain([added]).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Asks PID 1, which ends this process on its way out.
fn enter(system: &mut impl System, pid1: &Pid1) -> Result<Infallible, Error> {
    if !kernel_is_loaded() {
        return Err(Error::NothingLoaded);
    }
    let wishes = Wishes::from_env();
    obey(system, &wishes)?;
    wait_for_flasher(system, &wishes)?;
    log::info!("asking {pid1} to enter the loaded kernel");
    pid1.enter_loaded_kernel(system)?;
    let deadline = sys::uptime() + ENTER_LIMIT;
    while let Some(left) = deadline.checked_sub(sys::uptime()) {
        wait_for_the_end(left);
    }
    Err(Error::StillHere(pid1.clone()))
}

/// Waits until no flasher runs: PID 1 would refuse. The command's own time is the limit.
fn wait_for_flasher(system: &mut impl System, wishes: &Wishes) -> Result<(), Error> {
    let mut is_said = false;
    while let Some(flasher) = reap::running_flasher(Path::new("/proc")) {
        if !std::mem::replace(&mut is_said, true) {
            log::warn!("{flasher} may be writing to a card: entering the next kernel after it");
        }
        wait_for_the_end(FLASHER_LOOK);
        obey(system, wishes)?;
    }
    Ok(())
}

/// Waits while the boot is held; a loaded kernel that nobody wants any more is forgotten.
fn obey(system: &mut impl System, wishes: &Wishes) -> Result<(), Error> {
    if wishes.is_held() {
        log::warn!(
            "the next kernel is loaded, and held by the operator: `stage2 resume` enters it"
        );
        wishes.wait_until(|wishes| !wishes.is_held() || wishes.is_retry_wanted());
    }
    if wishes.is_new_attempt_wanted() {
        system.kexec_unload().map_err(Error::Unload)?;
        return Err(Error::NewAttempt);
    }
    Ok(())
}

/// What an earlier attempt has loaded, and nobody entered, only takes memory from the next one.
pub(crate) fn forget_loaded(system: &mut impl System) {
    if !kernel_is_loaded() {
        return;
    }
    match system.kexec_unload() {
        Ok(()) => log::info!("forgot the kernel that an earlier attempt had loaded"),
        Err(error) => log::warn!("cannot forget the loaded kernel: {error}"),
    }
}

fn wait_for_the_end(limit: Duration) {
    let limit = Timespec::try_from(limit).unwrap_or_default();
    match rustix::event::poll(&mut [], Some(&limit)) {
        // Only the end of this process or of the time interrupts it.
        Ok(_) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Call, FakeSystem};

    #[test]
    fn a_loaded_kernel_is_entered_forgotten_or_held_as_the_operator_wishes() {
        let directory = tempfile::tempdir().unwrap();
        let wishes = Wishes::at(directory.path());
        let mut system = FakeSystem::default();
        obey(&mut system, &wishes).unwrap();
        assert_eq!(system.calls, []);
        wishes.hold().unwrap();
        wishes.retry().unwrap();
        assert!(matches!(obey(&mut system, &wishes), Err(Error::NewAttempt)));
        assert_eq!(system.calls, [Call::KexecUnload]);
    }

    #[test]
    fn a_piece_of_a_command_line_tells_no_session() {
        let arguments = ["vmlinuz", "epoxy.stage3=https://s/v1/boot/h/5e5510n/stage3"];
        let error = carry_out(&mut FakeSystem::default(), &arguments.map(str::to_owned));
        assert_eq!(
            line(&error.unwrap_err()),
            "kexec: expected one kernel, got vmlinuz and epoxy.stage3=https://s/v1/boot/h/…/stage3"
        );
    }

    #[test]
    fn the_running_command_line_comes_first_without_what_the_boot_loader_added() {
        for (running, added, expected) in [
            ("BOOT_IMAGE=/vmlinuz a=1 b=\"x  y\"\n", "debug", "a=1 b=\"x  y\" debug"),
            ("a=1\n", "", "a=1"),
            ("BOOT_IMAGE=/vmlinuz\n", "", ""),
        ] {
            assert_eq!(reused_cmdline(running, added), expected);
        }
    }
}
