//! The table of sizes at the end of a build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::compress::Compression;
use crate::tree::{Node, Tree};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    name: String,
    bytes: usize,
    /// A share of the compressed ramdisk.
    packed_bytes: usize,
}

/// What a flavour brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name in the table.
    pub name: String,
    /// Its files.
    pub paths: BTreeSet<String>,
}

/// Which files count as what; the first that fits counts,
/// unless a flavour brought the file.
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
pub fn table(tree: &Tree, parts: &[Part], initramfs_bytes: usize, vmlinuz_bytes: usize) -> String {
    let mut text = format!("{:<18}{:>12}{:>14}\n", "", "unpacked", "compressed");
    let lines = lines(tree, parts, initramfs_bytes);
    let unpacked = lines.iter().map(|line| line.bytes).sum();
    let whole = Line { name: "ramdisk".to_owned(), bytes: unpacked, packed_bytes: initramfs_bytes };
    for line in lines.iter().chain([&whole]) {
        push(&mut text, &line.name, &line.bytes.to_string(), line.packed_bytes);
    }
    push(&mut text, "kernel", "", vmlinuz_bytes.saturating_sub(initramfs_bytes));
    push(&mut text, "stage2_vmlinuz", "", vmlinuz_bytes);
    text
}

fn push(text: &mut String, name: &str, bytes: &str, packed_bytes: usize) {
    let line = writeln!(text, "{name:<18}{bytes:>12}{packed_bytes:>14}");
    debug_assert!(line.is_ok(), "a String takes everything");
}

fn lines(tree: &Tree, parts: &[Part], initramfs_bytes: usize) -> Vec<Line> {
    let names = COMPONENTS.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.chain(parts.iter().map(|part| part.name.as_str())).collect();
    let contents = contents(tree, parts);
    let alone = |name: &&str| {
        let bytes = contents.get(name).filter(|bytes| !bytes.is_empty())?;
        Some(((*name).to_owned(), bytes.len(), Compression::estimate(bytes)))
    };
    let alone: Vec<_> = names.iter().filter_map(alone).collect();
    let sum: usize = alone.iter().map(|(_, _, packed)| packed).sum();
    let share = |packed: usize| packed * initramfs_bytes / sum.max(1);
    alone
        .into_iter()
        .map(|(name, bytes, packed)| Line { name, bytes, packed_bytes: share(packed) })
        .collect()
}

/// The bytes of all files of each component.
fn contents<'a>(tree: &Tree, parts: &'a [Part]) -> BTreeMap<&'a str, Vec<u8>> {
    let mut contents: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (path, node) in tree.iter() {
        let of_file: &[u8] = match node {
            Node::File { contents, .. } => contents,
            Node::Symlink { target } => target.as_bytes(),
            Node::Directory { .. } | Node::Device { .. } => &[],
        };
        let bytes = contents.entry(component(path, parts)).or_default();
        bytes.extend_from_slice(of_file);
        bytes.extend_from_slice(path.as_bytes());
    }
    contents
}

fn component<'a>(path: &str, parts: &'a [Part]) -> &'a str {
    let part = parts.iter().find(|part| part.paths.contains(path)).map(|part| part.name.as_str());
    let fits = || COMPONENTS.iter().find(|(_, prefix)| path.starts_with(prefix));
    part.or_else(|| fits().map(|(name, _)| *name)).unwrap_or_default()
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
        tree.file("/sbin/lvm", 0o755, vec![3; 7000]).unwrap();
        let paths = BTreeSet::from(["/sbin/lvm".to_owned()]);
        let disk = Part { name: "flavour disk".to_owned(), paths };
        let lines = lines(&tree, &[disk], 1000);
        let of_disk = lines.iter().find(|line| line.name == "flavour disk").unwrap();
        assert_eq!(of_disk.bytes, 7000 + "/sbin/lvm".len());
        let paths: usize = tree.iter().map(|(path, _)| path.len()).sum();
        assert_eq!(
            lines.iter().map(|line| line.bytes).sum::<usize>(),
            5000 + 3000 + 20 + 7000 + paths
        );
        let shares: usize = lines.iter().map(|line| line.packed_bytes).sum();
        assert!((990..=1000).contains(&shares), "{lines:?}");
    }
}
