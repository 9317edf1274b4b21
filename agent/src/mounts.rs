//! The file systems of the ramdisk.
//!
//! On entry only the initramfs is mounted. On return every file system of the table is there, or
//! its error is in the answer: PID 1 goes on with what it has.

use std::ffi::CStr;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::sys::System;

/// One line of a mount table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mount {
    /// File system type; also shown as the source.
    pub(crate) fstype: &'static str,
    /// Where it is mounted; made if it is missing.
    pub(crate) target: &'static str,
    /// What its files may not do.
    pub(crate) flags: MountFlags,
    /// The file system's own options.
    pub(crate) data: &'static CStr,
    /// What does as well, if the kernel or the processor does not know these options.
    pub(crate) fallback: Option<&'static CStr>,
    /// Whether a kernel without it is as good.
    pub(crate) need: Need,
}

/// What it means when a file system cannot be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Something will not work, so the operator is told.
    Required,
    /// Kernels without it are expected.
    Optional,
}

/// Why a file system is missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no directory to mount it on.
    #[error("cannot make the directory {target}")]
    MakeDirectory {
        /// The directory.
        target: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused to mount it.
    #[error("cannot mount {fstype} on {target}")]
    Mount {
        /// File system type.
        fstype: &'static str,
        /// Where it was to be mounted.
        target: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

const DATA_ONLY: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const NO_DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

/// What the boot role needs before it can start.
///
/// `/tmp` may fill all memory: payloads land there, and each is held against the free memory before
/// it is downloaded. Half of the memory, the default, is too little for a large one. Pages of 2 MiB
/// where a file is known to need all of them make a download faster; small files stay small.
#[rustfmt::skip]
pub(crate) const EARLY_MOUNTS: &[Mount] = &[
    required("proc",     "/proc", DATA_ONLY,  c""),
    required("sysfs",    "/sys",  DATA_ONLY,  c""),
    required("devtmpfs", "/dev",  DEVICES,    c"mode=0755"),
    required("tmpfs",    "/run",  NO_DEVICES, c"mode=0755"),
    Mount {
        fallback: Some(c"mode=1777,size=100%"),
        ..required("tmpfs", "/tmp", NO_DEVICES, c"mode=1777,size=100%,huge=within_size")
    },
];

/// What can wait until the boot role runs.
#[rustfmt::skip]
pub(crate) const LATER_MOUNTS: &[Mount] = &[
    required("devpts",   "/dev/pts",       DEVICES,   c"mode=0620,ptmxmode=0666"),
    optional("pstore",   "/sys/fs/pstore", DATA_ONLY, c""),
];

const fn required(
    fstype: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static CStr,
) -> Mount {
    Mount { fstype, target, flags, data, fallback: None, need: Need::Required }
}

const fn optional(
    fstype: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static CStr,
) -> Mount {
    Mount { fstype, target, flags, data, fallback: None, need: Need::Optional }
}

/// Mounts every file system of the table and answers with what is missing.
///
/// Nothing is logged here: the log needs these file systems.
pub(crate) fn mount_all(system: &mut impl System, table: &[Mount]) -> Vec<Error> {
    table.iter().filter_map(|mount| mount_one(system, mount).err()).collect()
}

fn mount_one(system: &mut impl System, mount: &Mount) -> Result<(), Error> {
    match make_directory(mount.target).and_then(|()| mount_on(system, mount)) {
        Err(_) if mount.need == Need::Optional => Ok(()),
        result => result,
    }
}

fn make_directory(target: &'static str) -> Result<(), Error> {
    fs::create_dir_all(target).map_err(|source| Error::MakeDirectory { target, source })
}

fn mount_on(system: &mut impl System, mount: &Mount) -> Result<(), Error> {
    match mount_as_known(system, mount) {
        Err(error) if is_mounted_already(&error) => Ok(()),
        result => result.map_err(|source| Error::Mount {
            fstype: mount.fstype,
            target: mount.target,
            source,
        }),
    }
}

fn mount_as_known(system: &mut impl System, mount: &Mount) -> io::Result<()> {
    match (system.mount(mount), mount.fallback) {
        (Err(error), Some(data)) if error.kind() == io::ErrorKind::InvalidInput => {
            system.mount(&Mount { data, ..*mount })
        }
        (result, _) => result,
    }
}

fn is_mounted_already(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Call, FakeSystem};

    const TABLE: &[Mount] = &[
        required("proc", "/proc", DATA_ONLY, c""),
        optional("pstore", "/sys", DATA_ONLY, c""),
        required("tmpfs", "/tmp", NO_DEVICES, c""),
    ];

    fn mount_with_refusal(target: &'static str, errno: Errno) -> (Vec<Call>, Vec<String>) {
        let refusals = vec![(Call::Mount(target), errno.raw_os_error())];
        let mut system = FakeSystem { refusals, ..FakeSystem::default() };
        let errors = mount_all(&mut system, TABLE);
        (system.calls, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn all_of_the_table_is_mounted_in_order_whatever_fails() {
        let all = vec![Call::Mount("/proc"), Call::Mount("/sys"), Call::Mount("/tmp")];
        for (target, errno, errors) in [
            ("/nothing", Errno::PERM, vec![]),
            ("/proc", Errno::NODEV, vec!["cannot mount proc on /proc".to_owned()]),
            ("/proc", Errno::BUSY, vec![]),
            ("/sys", Errno::NODEV, vec![]),
        ] {
            assert_eq!(mount_with_refusal(target, errno), (all.clone(), errors), "{target}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_know_an_option_is_asked_without_it() {
        let refusals = vec![(Call::Mount("/tmp"), Errno::INVAL.raw_os_error())];
        for (fallback, calls) in [(None, 1), (Some(c""), 2)] {
            let mut system = FakeSystem { refusals: refusals.clone(), ..FakeSystem::default() };
            let table = [Mount { fallback, ..required("tmpfs", "/tmp", NO_DEVICES, c"huge=x") }];
            let errors = mount_all(&mut system, &table);
            assert_eq!((system.calls.len(), errors.len()), (calls, 1));
        }
    }

    #[test]
    fn nothing_in_the_ramdisk_gives_rights_by_a_set_uid_bit() {
        for mount in EARLY_MOUNTS.iter().chain(LATER_MOUNTS) {
            assert!(mount.flags.contains(MountFlags::NOSUID), "{}", mount.target);
        }
    }
}
