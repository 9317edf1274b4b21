//! Who uses a disk, as far as the kernel tells. It has the last word, too: a disk in use cannot be
//! opened for us alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::sysfs::line;

/// Who uses the disk at `block`, a directory of `/sys/block`.
pub(super) fn user_of(block: &Path, procfs: &Path) -> Option<String> {
    let parts = parts_of(block);
    let mounts = fs::read_to_string(procfs.join("self/mountinfo")).unwrap_or_default();
    let swaps = fs::read_to_string(procfs.join("swaps")).unwrap_or_default();
    parts.iter().find_map(|part| {
        let name = part.file_name()?.to_str()?;
        mounted(part, name, &mounts)
            .or_else(|| is_swap(name, &swaps).then(|| format!("{name} holds swap")))
            .or_else(|| Some(format!("{name} is part of {}", holder(part)?)))
    })
}

/// The disk and its partitions.
fn parts_of(block: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = fs::read_dir(block)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("partition").exists())
        .collect();
    parts.sort();
    parts.insert(0, block.to_owned());
    parts
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: proc_pid_mountinfo(5).
fn mounted(part: &Path, name: &str, mounts: &str) -> Option<String> {
    let number = line(&part.join("dev"));
    let source = format!("/dev/{name}");
    let of_part = |mount: &&str| {
        let (before, after) = mount.split_once(" - ").unwrap_or((mount, ""));
        // btrfs has numbers of its own.
        before.split(' ').nth(2).map(str::to_owned) == number
            || after.split(' ').nth(1) == Some(&source)
    };
    let mount = mounts.lines().find(of_part)?;
    Some(format!("{name} is mounted on {}", mount.split(' ').nth(4)?))
}

fn is_swap(name: &str, swaps: &str) -> bool {
    let device = format!("/dev/{name}");
    swaps.lines().any(|line| line.split_whitespace().next() == Some(&device))
}

/// Arrays and volumes that are made of it.
fn holder(part: &Path) -> Option<String> {
    let mut holders = fs::read_dir(part.join("holders")).ok()?;
    holders.next()?.ok()?.file_name().into_string().ok()
}
