//! `stage2 chroot`: enters an installed system on a disk, to mend it.
//!
//! On entry the device's drivers are there, and LVM and RAID have been started if the root is on
//! them. The mounts are seen by the command alone: they end with it, whatever becomes of us. On
//! return they are undone and written back, or the error says which is still in use.

mod fstab;
mod superblock;

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use self::fstab::{Entry, Source};
use super::arguments::Chroot;
use crate::chain::Chain;
use crate::sys::System;

const BUSYBOX: &str = "/bin/busybox";
/// Where the installed system's root is mounted.
const ROOT: &str = "/mnt";
/// What an installed system expects from its kernel, and what runs beside it.
const PSEUDO: &[&str] = &["/dev", "/proc", "/sys", "/run"];
/// What an operator wants, best first.
const SHELLS: &[&str] = &["/bin/bash", "/bin/sh"];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const BLOCK_DEVICES: &str = "/sys/class/block";

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "cannot find {}: `stage2 inventory` lists the disks; only an image of the flavour disk \
         has drivers for them", .0.display()
    )]
    NoDevice(PathBuf),
    #[error("expected a disk or a partition, got {}", .0.display())]
    NotBlock(PathBuf),
    #[error("cannot read {}", device.display())]
    Read { device: PathBuf, source: io::Error },
    #[error(
        "expected ext2, ext3, ext4, xfs or vfat on {}, got none of them: a whole disk has it in a \
         partition, `vgchange -ay` and `mdadm --assemble --scan` start LVM and RAID", .0.display()
    )]
    NotAFileSystem(PathBuf),
    #[error("cannot keep the mounts to ourselves")]
    Unshare(#[source] io::Error),
    #[error("cannot mount {} on {}", what.display(), target.display())]
    Mount { what: PathBuf, target: PathBuf, source: io::Error },
    #[error("expected the root of a system on {}, got a file system without {missing}", device.display())]
    NotARoot { device: PathBuf, missing: &'static str },
    #[error("expected a shell on {}, got neither /bin/bash nor /bin/sh: name a command", .0.display())]
    NoShell(PathBuf),
    #[error("cannot start {BUSYBOX}")]
    Start(#[source] io::Error),
    #[error("cannot unmount {}: something that was started inside still runs", target.display())]
    Unmount { target: PathBuf, source: io::Error },
    #[error("the command ended with {0}")]
    Ended(ExitStatus),
}

/// Mounts, enters, waits, and undoes it all.
pub(super) fn enter(system: &mut impl System, chroot: &Chroot) -> Result<(), Error> {
    let device = Path::new(&chroot.device);
    check(device)?;
    let fstype = file_system(device)?.fstype;
    system.own_mounts().map_err(Error::Unshare)?;
    let mut mounted = Mounted { system, targets: Vec::new() };
    let ended = mounted
        .root(device, fstype)
        .and_then(|()| run(device, chroot))
        .and_then(|status| if status.success() { Ok(()) } else { Err(Error::Ended(status)) });
    let undone = mounted.undo();
    ended.and(undone)
}

fn check(device: &Path) -> Result<(), Error> {
    match fs::metadata(device) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NoDevice(device.to_owned()))
        }
        Err(source) => Err(Error::Read { device: device.to_owned(), source }),
        Ok(metadata) if metadata.file_type().is_block_device() => Ok(()),
        Ok(_) => Err(Error::NotBlock(device.to_owned())),
    }
}

fn file_system(device: &Path) -> Result<superblock::FileSystem, Error> {
    let found = superblock::read(device);
    let found = found.map_err(|source| Error::Read { device: device.to_owned(), source })?;
    found.ok_or_else(|| Error::NotAFileSystem(device.to_owned()))
}

/// What has been mounted so far.
struct Mounted<'a, S> {
    system: &'a mut S,
    targets: Vec<PathBuf>,
}

impl<S: System> Mounted<'_, S> {
    /// The root, what else its table of file systems names, and the kernel's own.
    fn root(&mut self, device: &Path, fstype: &str) -> Result<(), Error> {
        let root = Path::new(ROOT);
        let cannot =
            |source| Error::Mount { what: device.to_owned(), target: root.to_owned(), source };
        fs::create_dir_all(root).map_err(cannot)?;
        self.device(device, root, fstype)?;
        let is_missing = |name: &&&str| !inside(root, name).is_dir();
        if let Some(missing) = PSEUDO.iter().find(is_missing) {
            return Err(Error::NotARoot { device: device.to_owned(), missing });
        }
        let table = fs::read_to_string(root.join("etc/fstab")).unwrap_or_default();
        for entry in fstab::entries(&table) {
            // The root can be mended without them.
            if let Err(error) = self.entry(&entry) {
                log::warn!("left out {}: {}", entry.target, Chain(&error));
            }
        }
        PSEUDO.iter().try_for_each(|name| self.pseudo(Path::new(name), &inside(root, name)))
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let device = match &entry.source {
            Source::Device(path) => PathBuf::from(path),
            Source::Uuid(uuid) => with_uuid(uuid),
            Source::Other(name) => return Err(Error::NoDevice(name.into())),
        };
        check(&device)?;
        let fstype = file_system(&device)?.fstype;
        self.device(&device, &inside(Path::new(ROOT), &entry.target), fstype)
    }

    fn device(&mut self, device: &Path, target: &Path, fstype: &str) -> Result<(), Error> {
        let done = self.system.mount_device(device, target, fstype);
        self.remember(done, device, target)
    }

    fn pseudo(&mut self, name: &Path, target: &Path) -> Result<(), Error> {
        let done = self.system.bind(name, target);
        self.remember(done, name, target)
    }

    fn remember(&mut self, done: io::Result<()>, what: &Path, target: &Path) -> Result<(), Error> {
        let (what, target) = (what.to_owned(), target.to_owned());
        match done {
            Ok(()) => self.targets.push(target),
            Err(source) => return Err(Error::Mount { what, target, source }),
        }
        Ok(())
    }

    /// Unmounts everything, the last first; the first error is told.
    fn undo(&mut self) -> Result<(), Error> {
        let mut undone = Ok(());
        for target in self.targets.drain(..).rev() {
            if let Err(source) = self.system.unmount_all(&target) {
                undone = undone.and(Err(Error::Unmount { target, source }));
            }
        }
        undone
    }
}

/// The device that has the file system with this UUID; without udev nobody has listed them.
fn with_uuid(uuid: &str) -> PathBuf {
    let has = |device: &PathBuf| {
        let found = superblock::read(device).ok().flatten();
        found.is_some_and(|found| found.uuid.eq_ignore_ascii_case(uuid))
    };
    let entries = fs::read_dir(BLOCK_DEVICES).into_iter().flatten().flatten();
    let devices = entries.map(|entry| Path::new("/dev").join(entry.file_name()));
    devices.into_iter().find(has).unwrap_or_else(|| format!("UUID={uuid}").into())
}

fn run(device: &Path, chroot: &Chroot) -> Result<ExitStatus, Error> {
    let mut command = Command::new(BUSYBOX);
    command.arg("chroot").arg(ROOT).env("PATH", PATH).env("HOME", "/root");
    match chroot.command.as_slice() {
        [] => command.arg(shell(device)?).arg("-l"),
        words => command.args(words),
    };
    command.status().map_err(Error::Start)
}

fn shell(device: &Path) -> Result<&'static str, Error> {
    // A shell may be a link that only leads somewhere inside.
    let is_there = |shell: &&&str| inside(Path::new(ROOT), shell).symlink_metadata().is_ok();
    SHELLS.iter().find(is_there).copied().ok_or_else(|| Error::NoShell(device.to_owned()))
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Call, FakeSystem};

    fn chroot(device: &str) -> Chroot {
        Chroot { device: device.to_owned(), command: vec![] }
    }

    #[test]
    fn what_is_no_disk_is_refused_before_anything_is_mounted() {
        for (device, expected) in [
            ("/dev/no-such-disk", "cannot find /dev/no-such-disk: `stage2 inventory` lists"),
            ("/dev/null", "expected a disk or a partition, got /dev/null"),
        ] {
            let mut system = FakeSystem::default();
            let error = enter(&mut system, &chroot(device)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert_eq!(system.calls, []);
        }
    }

    #[test]
    fn all_is_unmounted_in_reverse_whatever_is_busy() {
        let targets: Vec<PathBuf> = ["/mnt", "/mnt/boot", "/mnt/dev"].map(PathBuf::from).into();
        let busy = Call::Unmount("/mnt/boot".into());
        let mut system = FakeSystem { refusals: vec![(busy, 16)], ..FakeSystem::default() };
        let error = Mounted { system: &mut system, targets: targets.clone() }.undo().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot unmount /mnt/boot: something that was started inside still runs"
        );
        let expected: Vec<Call> = targets.into_iter().rev().map(Call::Unmount).collect();
        assert_eq!(system.calls, expected);
    }
}
