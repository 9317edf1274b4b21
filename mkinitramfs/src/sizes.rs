//! The table of sizes at the end of a build.

use std::fmt::Write as _;

use crate::compress::Compression;
use crate::tree::{Node, Tree};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    name: &'static str,
    bytes: usize,
    /// A share of the compressed ramdisk.
    packed_bytes: usize,
}

/// Which files count as what; the first that fits counts.
const COMPONENTS: &[(&str, &str)] = &[
    ("agent", "/init"),
    ("busybox", "/bin/"),
    ("flasher", "/sbin/flasher"),
    ("shared libraries", "/lib"),
    ("CA certificates", "/etc/stage2/roots.pem"),
    ("authorized keys", "/root/.ssh/"),
    ("everything else", "/"),
];

/// Shows what each component that is there takes, unpacked and as its share of the compressed ramdisk.
///
/// The shares are estimated: each component is compressed alone and fast, and the results are
/// scaled to the size of the whole.
#[must_use]
pub fn table(tree: &Tree, initramfs_bytes: usize, vmlinuz_bytes: usize) -> String {
    let mut text = format!("{:<18}{:>12}{:>14}\n", "", "unpacked", "compressed");
    let lines = lines(tree, initramfs_bytes);
    let unpacked = lines.iter().map(|line| line.bytes).sum();
    let whole = Line { name: "ramdisk", bytes: unpacked, packed_bytes: initramfs_bytes };
    for line in lines.iter().chain([&whole]) {
        push(&mut text, line.name, &line.bytes.to_string(), line.packed_bytes);
    }
    push(&mut text, "kernel", "", vmlinuz_bytes.saturating_sub(initramfs_bytes));
    push(&mut text, "stage2_vmlinuz", "", vmlinuz_bytes);
    text
}

fn push(text: &mut String, name: &str, bytes: &str, packed_bytes: usize) {
    let line = writeln!(text, "{name:<18}{bytes:>12}{packed_bytes:>14}");
    debug_assert!(line.is_ok(), "a String takes everything");
}

fn lines(tree: &Tree, initramfs_bytes: usize) -> Vec<Line> {
    let contents = COMPONENTS.iter().map(|(_, prefix)| contents_of(tree, prefix));
    let alone: Vec<(usize, usize)> =
        contents.map(|bytes| (bytes.len(), Compression::estimate(&bytes))).collect();
    let is_there = |(bytes, _): &&(usize, usize)| *bytes > 0;
    let sum: usize = alone.iter().filter(is_there).map(|(_, packed)| packed).sum();
    let share = |packed: usize| packed * initramfs_bytes / sum.max(1);
    COMPONENTS
        .iter()
        .zip(alone)
        .filter(|(_, (bytes, _))| *bytes > 0)
        .map(|((name, _), (bytes, packed))| Line { name, bytes, packed_bytes: share(packed) })
        .collect()
}

/// The bytes of all files of one component.
fn contents_of(tree: &Tree, prefix: &str) -> Vec<u8> {
    let is_of = |path: &str| {
        COMPONENTS.iter().find(|(_, p)| path.starts_with(p)).is_some_and(|(_, p)| *p == prefix)
    };
    let mut bytes = Vec::new();
    for (path, node) in tree.iter().filter(|(path, _)| is_of(path)) {
        match node {
            Node::File { contents, .. } => bytes.extend_from_slice(contents),
            Node::Symlink { target } => bytes.extend_from_slice(target.as_bytes()),
            Node::Directory { .. } | Node::Device { .. } => {}
        }
        bytes.extend_from_slice(path.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_counts_once_and_the_shares_add_up() {
        let mut tree = Tree::default();
        tree.file("/init", 0o755, vec![1; 5000]).unwrap();
        tree.file("/bin/busybox", 0o755, vec![2; 3000]).unwrap();
        tree.file("/etc/hosts", 0o644, "127.0.0.1 localhost\n").unwrap();
        let lines = lines(&tree, 1000);
        let paths: usize = tree.iter().map(|(path, _)| path.len()).sum();
        assert_eq!(lines.iter().map(|line| line.bytes).sum::<usize>(), 5000 + 3000 + 20 + paths);
        let shares: usize = lines.iter().map(|line| line.packed_bytes).sum();
        assert!((990..=1000).contains(&shares), "{lines:?}");
    }
}
