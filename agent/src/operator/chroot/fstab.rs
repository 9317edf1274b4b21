//! What an installed system mounts beside its root: a reader of `fstab(5)`.
//!
//! Only the simple ones count: local file systems that a package manager or a boot loader writes to,
//! named by device or by UUID. Network file systems, swap and whatever is `noauto` are left out.

/// File systems that are worth mounting.
const TYPES: &[&str] = &["ext2", "ext3", "ext4", "xfs", "vfat", "auto"];

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) source: Source,
    /// Where in the installed system.
    pub(super) target: String,
}

/// How it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A path in `/dev`.
    Device(String),
    /// The file system's own name.
    Uuid(String),
    /// A label or a partition's name, which is not looked for.
    Other(String),
}

/// The entries below the root, those above others first.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = text.lines().filter_map(entry).collect();
    entries.sort_by(|a, b| a.target.cmp(&b.target));
    entries
}

fn entry(line: &str) -> Option<Entry> {
    let mut fields = line.split_whitespace();
    let (source, target, fstype) = (fields.next()?, fields.next()?, fields.next()?);
    let mut options = fields.next().unwrap_or("defaults").split(',');
    let is_simple = !source.starts_with('#')
        && target.len() > 1
        && target.starts_with('/')
        && !target.split('/').any(|part| part == "..")
        && TYPES.contains(&fstype)
        && !options.any(|option| matches!(option, "noauto" | "bind" | "rbind"));
    is_simple.then(|| Entry { source: named(source), target: target.to_owned() })
}

fn named(source: &str) -> Source {
    match source.split_once('=') {
        Some(("UUID", uuid)) => Source::Uuid(uuid.trim_matches('"').to_owned()),
        None if source.starts_with("/dev/") => Source::Device(source.to_owned()),
        _ => Source::Other(source.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_simple_file_systems_of_debians_installer_are_found() {
        let text = "\
# <file system> <mount point> <type> <options> <dump> <pass>
UUID=1234-ABCD  /boot/efi       vfat    umask=0077      0       1
/dev/mapper/vg-root /           ext4    errors=remount-ro 0     1
UUID=\"0d6a4f5e\" /boot           ext4    defaults        0       2
LABEL=var /var xfs defaults 0 2
/dev/sda3       none            swap    sw              0       0
/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto 0       0
/dev/sdb1 /mnt ext4 noauto 0 0
/dev/sdb2 /../etc ext4 defaults 0 0
server:/home /home nfs defaults 0 0
";
        let entry = |source, target: &str| Entry { source, target: target.to_owned() };
        let expected = [
            entry(Source::Uuid("0d6a4f5e".to_owned()), "/boot"),
            entry(Source::Uuid("1234-ABCD".to_owned()), "/boot/efi"),
            entry(Source::Other("LABEL=var".to_owned()), "/var"),
        ];
        assert_eq!(entries(text), expected);
    }
}
