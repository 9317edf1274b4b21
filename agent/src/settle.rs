//! The role *settle*: writes everything back and unmounts, on the way out.
//!
//! A device that does not answer can hold `sync(2)` and `umount(2)` for ever, so only children of
//! PID 1 do this, and it waits for them only so long: the role *depart* on every way out, and this
//! one when a card has kept that from the disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::sys::{Linux, System};

const MOUNTS: &str = "/proc/self/mounts";
const BLOCK_DEVICES: &str = "/sys/block";

/// File systems that live in memory, or show the kernel's; nothing is lost with them.
const IN_MEMORY: &[&str] = &[
    "rootfs",
    "ramfs",
    "tmpfs",
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "pstore",
    "securityfs",
    "debugfs",
    "tracefs",
    "cgroup2",
    "efivarfs",
    "mqueue",
    "bpf",
    "configfs",
];

/// Writes back and unmounts.
pub(crate) fn run(_arguments: &[String]) -> ExitCode {
    settle(&mut Linux);
    ExitCode::SUCCESS
}

/// Writes back and unmounts what keeps data.
pub(crate) fn settle(system: &mut impl System) {
    settle_all(system, &fs::read_to_string(MOUNTS).unwrap_or_default());
}

/// Whether there is anything that keeps data: a machine without disks leaves faster.
pub(crate) fn is_needed() -> bool {
    let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
    let has_devices =
        fs::read_dir(Path::new(BLOCK_DEVICES)).is_ok_and(|mut devices| devices.next().is_some());
    has_devices || !persistent(&mounts).is_empty()
}

fn settle_all(system: &mut impl System, mounts: &str) {
    system.sync();
    for target in persistent(mounts) {
        if let Err(error) = system.unmount(&target) {
            log::warn!("cannot unmount {}: {error}", target.display());
        }
    }
}

/// What keeps data, the last mounted first.
fn persistent(mounts: &str) -> Vec<PathBuf> {
    mounts.lines().rev().filter_map(target_with_data).collect()
}

fn target_with_data(line: &str) -> Option<PathBuf> {
    let mut fields = line.split(' ').skip(1);
    let (target, fstype) = (fields.next()?, fields.next()?);
    (!IN_MEMORY.contains(&fstype)).then(|| unescape(target))
}

/// The kernel writes these as octal numbers, see `fs/proc_namespace.c`.
fn unescape(target: &str) -> PathBuf {
    const ESCAPES: [(&str, &str); 4] =
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let plain = ESCAPES.iter().fold(target.to_owned(), |text, (from, to)| text.replace(from, to));
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Call, FakeSystem};

    #[test]
    fn disks_are_written_back_and_unmounted_from_the_inside_out() {
        let mounts = "rootfs / rootfs rw 0 0\n\
                      proc /proc proc rw 0 0\n\
                      /dev/sda1 /mnt ext4 rw 0 0\n\
                      /dev/sdb1 /mnt/the\\040stick vfat rw 0 0\n";
        let inner = Call::Unmount("/mnt/the stick".into());
        let outer = Call::Unmount("/mnt".into());
        let mut system =
            FakeSystem { refusals: vec![(inner.clone(), 16)], ..FakeSystem::default() };
        settle_all(&mut system, mounts);
        assert_eq!(system.calls, [Call::Sync, inner, outer]);
    }
}
