//! A flasher without libraries of its own, where there is a library to link into it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::path::Path;
use std::process::Command;

const STATIC: &str = "-C target-feature=+crt-static";

fn has_static_library() -> bool {
    let directories = ["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/local/lib"];
    directories.iter().any(|directory| Path::new(directory).join("libflashrom.a").exists())
}

#[test]
fn a_static_build_links_a_static_library_or_says_what_is_missing_and_what_to_do() {
    let target = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--locked", "--package", "flashrom-sys"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        .arg(target.path())
        .env("RUSTFLAGS", STATIC)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), has_static_library(), "{said}");
    let advice = "build without crt-static, and pack the flasher with its libraries";
    assert_eq!(said.contains(advice), !has_static_library(), "{said}");
}
