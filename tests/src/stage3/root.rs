//! The root's files: those of Debian's packages that matter in memory, and ours.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail};
use mkinitramfs::tree::{Node, Tree};
use tar::EntryType;

/// Everything below these is left out: nobody reads it in a ramdisk, or it is the build host's.
pub(super) const LEFT_OUT: &[&str] = &[
    "/dev/",
    "/etc/.pwd.lock",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/usr/lib/udev/hwdb",
    "/usr/lib/x86_64-linux-gnu/gconv/",
    "/usr/share/bug/",
    "/usr/share/doc/",
    "/usr/share/i18n/",
    "/usr/share/info/",
    "/usr/share/lintian/",
    "/usr/share/locale/",
    "/usr/share/man/",
    "/usr/share/zoneinfo/",
    "/var/cache/",
    "/var/lib/apt/lists/",
    "/var/log/",
];

/// Units that would only cost time in a root that lives in memory.
pub(super) const MASKED_UNITS: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "modprobe@dm_mod.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-journal-flush.service",
    "systemd-machine-id-commit.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

/// A file that is ours.
pub(super) struct OurFile {
    pub(super) path: &'static str,
    pub(super) mode: u32,
    pub(super) contents: &'static str,
}

/// What is ours in the root.
pub(super) const OUR_FILES: &[OurFile] = &[
    OurFile { path: "/etc/hostname", mode: 0o644, contents: "stage3\n" },
    OurFile {
        path: "/usr/lib/stage3/epoxy-network",
        mode: 0o755,
        contents: include_str!("../../stage3/epoxy-network"),
    },
    OurFile {
        path: "/etc/systemd/system/epoxy-network.service",
        mode: 0o644,
        contents: include_str!("../../stage3/epoxy-network.service"),
    },
    OurFile {
        path: "/etc/systemd/system/epoxy-client.service",
        mode: 0o644,
        contents: include_str!("../../stage3/epoxy-client.service"),
    },
];

/// Reads the archive that mmdebstrap wrote, without what is left out.
pub(super) fn read(archive: &Path) -> anyhow::Result<Tree> {
    let file = File::open(archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let mut tree = Tree::default();
    for entry in tar::Archive::new(file).entries()? {
        let mut entry = entry?;
        let path = absolute(&entry.path()?)?;
        if path == "/" || LEFT_OUT.iter().any(|left_out| path.starts_with(left_out)) {
            continue;
        }
        let node = node(&mut entry, &tree).with_context(|| format!("cannot read {path}"))?;
        tree.add(&path, node)?;
    }
    Ok(tree)
}

/// Adds our files, starts our units and masks others.
pub(super) fn add_ours(tree: &mut Tree) -> anyhow::Result<()> {
    const UNITS: &str = "/etc/systemd/system";
    for file in OUR_FILES {
        tree.file(file.path, file.mode, file.contents)?;
    }
    for unit in ["epoxy-network.service", "epoxy-client.service"] {
        let link = format!("{UNITS}/multi-user.target.wants/{unit}");
        tree.symlink(&link, &format!("{UNITS}/{unit}"))?;
    }
    for unit in MASKED_UNITS {
        tree.symlink(&format!("{UNITS}/{unit}"), "/dev/null")?;
    }
    Ok(tree.symlink("/init", "/usr/lib/systemd/systemd")?)
}

fn node(entry: &mut tar::Entry<'_, File>, tree: &Tree) -> anyhow::Result<Node> {
    let mode = entry.header().mode()? & 0o7777;
    Ok(match entry.header().entry_type() {
        EntryType::Directory => Node::Directory { mode },
        EntryType::Symlink => Node::Symlink { target: target(entry)? },
        EntryType::Regular => {
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents)?;
            Node::File { mode, contents }
        }
        // The same file under another name, which came before.
        EntryType::Link => {
            let first = absolute(Path::new(&target(entry)?))?;
            tree.get(&first).with_context(|| format!("expected {first} before it"))?.clone()
        }
        other => bail!("expected a file, a directory or a link, got {other:?}"),
    })
}

fn target(entry: &tar::Entry<'_, File>) -> anyhow::Result<String> {
    let target = entry.link_name()?.context("expected the link to have a target")?;
    Ok(target.to_str().context("expected the target to be text")?.to_owned())
}

/// `./usr/bin/` becomes `/usr/bin`.
fn absolute(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("expected text, got {path:?}"))?;
    let relative = text.trim_start_matches('.').trim_matches('/');
    Ok(format!("/{relative}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_an_archive_become_absolute() {
        for (archived, path) in
            [("./", "/"), ("./usr/bin/", "/usr/bin"), ("./etc/.hidden", "/etc/.hidden")]
        {
            assert_eq!(absolute(Path::new(archived)).unwrap(), path);
        }
    }
}
