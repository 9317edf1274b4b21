//! The program as people call it: exit codes, messages, and the same bits every time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

fn mkinitramfs(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mkinitramfs"))
        .args(arguments)
        .current_dir(directory)
        .env("STAGE2_CACHE", directory.join("cache"))
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .unwrap()
}

fn error_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Makes the files in the given order, which is what a directory listing may depend on.
fn fill(directory: &Path, names: &[&str]) {
    fs::create_dir(directory).unwrap();
    for name in names {
        fs::write(directory.join(name), name.repeat(1000)).unwrap();
    }
    symlink("a", directory.join("link")).unwrap();
}

#[test]
fn two_packs_in_different_places_and_orders_are_identical() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fill(&one.path().join("root"), &["a", "b", "c"]);
    fill(&other.path().join("tree"), &["c", "a", "b"]);
    for suffix in [".zst", ".xz", ".gz", ""] {
        let name = format!("x.cpio{suffix}");
        assert!(mkinitramfs(one.path(), &["pack", "root", "-o", &name]).status.success());
        assert!(mkinitramfs(other.path(), &["pack", "tree", "-o", &name]).status.success());
        let [first, second] =
            [one.path(), other.path()].map(|dir| fs::read(dir.join(&name)).unwrap());
        assert!(first == second, "{name}");
    }
}

#[test]
fn the_tools_that_people_have_unpack_what_was_packed() {
    let directory = tempfile::tempdir().unwrap();
    fill(&directory.path().join("root"), &["a"]);
    assert!(mkinitramfs(directory.path(), &["pack", "root", "-o", "x.cpio"]).status.success());
    let archive = fs::read(directory.path().join("x.cpio")).unwrap();
    for (name, unpack) in [("x.cpio.zst", "zstd"), ("x.cpio.xz", "xz"), ("x.cpio.gz", "gzip")] {
        assert!(mkinitramfs(directory.path(), &["pack", "root", "-o", name]).status.success());
        let unpacked =
            Command::new(unpack).args(["-d", "-c"]).arg(directory.path().join(name)).output();
        assert!(unpacked.unwrap().stdout == archive, "{name}");
    }
    let list =
        Command::new("xz").args(["-l", "--robot"]).arg(directory.path().join("x.cpio.xz")).output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    assert!(list.contains("\tCRC32\t"), "{list}");
}

#[test]
fn an_archive_shows_what_was_packed() {
    let directory = tempfile::tempdir().unwrap();
    fill(&directory.path().join("root"), &["a"]);
    assert!(mkinitramfs(directory.path(), &["pack", "root", "-o", "x.cpio"]).status.success());
    let output = mkinitramfs(directory.path(), &["inspect", "x.cpio"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("0:0       1000  /a\n"), "{text}");
    assert!(text.contains("0:0          1  /link -> a\n"), "{text}");
}

#[test]
fn errors_are_one_line_with_code_1_and_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("bad.toml"), "cmdlnie = \"quiet\"\n").unwrap();
    fs::write(path.join("good.toml"), "").unwrap();
    fs::write(path.join("newline.toml"), "cmdline = \"a\\nb\"\n").unwrap();
    fs::write(path.join("text"), "hello\n").unwrap();
    for (arguments, expected) in [
        (
            &["build", "none.toml", "--agent", "text"][..],
            "cannot read the image specification none.toml: No such",
        ),
        (&["build", "bad.toml", "--agent", "text"], "unknown field `cmdlnie`"),
        (&["build", "newline.toml", "--agent", "text"], "expected one line of printable ASCII"),
        (&["build", "good.toml", "--agent", "none"], "cannot read none: No such file"),
        (
            &["build", "good.toml", "--agent", "text"],
            "cannot pack text as /init: expected a 64-bit ELF program",
        ),
        (
            &["build", "good.toml", "--agent", "/bin/busybox", "--authorized-keys", "text"],
            "cannot take text:1 as an authorized key: expected a key type such as ssh-ed25519",
        ),
        (&["pack", "none", "-o", "x.cpio"], "cannot read none: No such file"),
        (&["inspect", "text"], "cannot inspect text: expected a cpio archive"),
        (&["kernel", "--source", "text"], "cannot unpack text"),
        (&["kernel", "--profile", "none"], "none.profile: No such file"),
    ] {
        let output = mkinitramfs(path, arguments);
        let error = error_of(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    for name in ["output", "x.cpio"] {
        assert!(!path.join(name).exists(), "{name}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_code_2() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["bake"][..], &["build"], &["pack", "root"], &["inspect"], &["--colour"]] {
        assert_eq!(
            mkinitramfs(directory.path(), arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    let help = mkinitramfs(directory.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"));
}

#[test]
fn a_date_that_is_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fill(&directory.path().join("root"), &["a"]);
    let output = Command::new(env!("CARGO_BIN_EXE_mkinitramfs"))
        .args(["pack", "root", "-o", "x.cpio"])
        .current_dir(directory.path())
        .env("SOURCE_DATE_EPOCH", "yesterday")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected =
        "mkinitramfs: expected seconds since 1970 in SOURCE_DATE_EPOCH, got \"yesterday\"\n";
    assert_eq!(error_of(&output), expected);
}
