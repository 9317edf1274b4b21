//! What GNU cpio makes of our archives.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mkinitramfs::cpio;
use mkinitramfs::tree::{DeviceKind, Node, Tree};

fn tree() -> Tree {
    let mut tree = Tree::default();
    tree.directory("/tmp", 0o1777).unwrap();
    tree.file("/init", 0o755, vec![0x7f; 4097]).unwrap();
    tree.file("/etc/empty", 0o600, "").unwrap();
    tree.file("/etc/odd size", 0o4711, "12345").unwrap();
    tree.symlink("/sbin/kexec", "/init").unwrap();
    tree
}

fn gnu_cpio(arguments: &[&str], directory: &Path, archive: &[u8]) -> String {
    let mut cpio = Command::new("cpio")
        .args(arguments)
        .current_dir(directory)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    cpio.stdin.take().unwrap().write_all(archive).unwrap();
    let output = cpio.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn gnu_cpio_lists_what_was_written() {
    let mut tree = tree();
    let kind = DeviceKind::Character;
    tree.add("/dev/console", Node::Device { kind, mode: 0o600, number: (5, 1) }).unwrap();
    let archive = cpio::archive(&tree, 86_400).unwrap();
    let listing = gnu_cpio(&["-itv", "--quiet", "-n"], Path::new("/"), &archive);
    let words: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        words,
        [
            "drwxr-xr-x 2 0 0 0 Jan 2 1970 dev",
            "crw------- 1 0 0 5, 1 Jan 2 1970 dev/console",
            "drwxr-xr-x 2 0 0 0 Jan 2 1970 etc",
            "-rw------- 1 0 0 0 Jan 2 1970 etc/empty",
            "-rws--x--x 1 0 0 5 Jan 2 1970 etc/odd size",
            "-rwxr-xr-x 1 0 0 4097 Jan 2 1970 init",
            "drwxr-xr-x 2 0 0 0 Jan 2 1970 sbin",
            "lrwxrwxrwx 1 0 0 5 Jan 2 1970 sbin/kexec -> /init",
            "drwxrwxrwt 2 0 0 0 Jan 2 1970 tmp",
        ]
    );
}

#[test]
fn what_gnu_cpio_unpacks_is_what_was_packed() {
    let directory = tempfile::tempdir().unwrap();
    let archive = cpio::archive(&tree(), 0).unwrap();
    gnu_cpio(&["-id", "--quiet", "--no-preserve-owner"], directory.path(), &archive);
    assert_eq!(Tree::read(directory.path()).unwrap(), tree());
}

#[test]
fn our_reader_reads_what_gnu_cpio_wrote() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("etc")).unwrap();
    fs::write(directory.path().join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    let archive = Command::new("sh")
        .args(["-c", "printf 'etc\\netc/hosts\\n' | cpio -o -H newc --quiet"])
        .current_dir(directory.path())
        .output()
        .unwrap()
        .stdout;
    let entries: Vec<_> = cpio::read::entries(&archive).map(Result::unwrap).collect();
    let summary: Vec<_> = entries.iter().map(|entry| (entry.name, entry.data)).collect();
    assert_eq!(summary, [("etc", b"".as_slice()), ("etc/hosts", b"127.0.0.1 localhost\n")]);
}
