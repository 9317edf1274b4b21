//! Programs of Debian's packages as they are, without installing them.
//!
//! apt finds all that the packages need as if nothing were installed, downloads it, and dpkg unpacks
//! it into one directory of the cache. Nothing here needs root.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use mkinitramfs::kernel::cache::directory_from_environment;
use sha2::{Digest as _, Sha256};

use crate::{cache, command};

/// What the peers are made of.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "coreutils",
    "curl",
    "dropbear-bin",
    "kexec-tools",
    "openssh-server",
    "openssh-sftp-server",
];

/// Where libraries are installed.
pub const LIBRARIES: &[&str] = &["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];

/// Loads the libraries of every dynamic program; programs know it by this path.
pub const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// The same as a file: in the package, [`LOADER`] is an absolute link.
const LOADER_FILE: &str = "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/// The packages, unpacked.
pub struct Programs {
    root: PathBuf,
}

impl Programs {
    /// Takes the programs from the cache, or downloads them, telling `say` how it goes.
    pub fn prepare(say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let wanted = command::output(apt(Path::new("/nonexistent")).arg("--print-uris"))
            .context("cannot find out what the peers are made of: run apt-get update")?;
        let files = file_names(&wanted);
        let root = directory_from_environment().join("bench").join(key(&files));
        cache::directory_once(&root, |unfinished| {
            say(&format!("bench: downloading {} packages that the peers need", files.len()));
            unpack(unfinished)
        })?;
        Ok(Self { root })
    }

    /// A program's or library's bytes; `path` is where Debian installs it.
    pub fn read(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let file = self.on_host(path);
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// The libraries and the loader that a program needs, by the paths where Debian installs them.
    pub fn libraries(&self, program: &str) -> anyhow::Result<BTreeSet<String>> {
        let search: Vec<String> =
            LIBRARIES.iter().map(|path| self.on_host(path).display().to_string()).collect();
        let listed = command::output(
            Command::new(self.on_host(LOADER_FILE))
                .args(["--library-path", &search.join(":"), "--list"])
                .arg(self.on_host(program)),
        )?;
        let root = self.root.display().to_string();
        listed
            .lines()
            .filter_map(|line| line.split_once(" => "))
            .map(|(library, found)| {
                let path = installed_path(found, &root).map(str::to_owned);
                path.with_context(|| {
                    format!("no package of the peers has {library}, which {program} needs")
                })
            })
            .collect()
    }

    /// The loader's bytes.
    pub fn loader(&self) -> anyhow::Result<Vec<u8>> {
        self.read(LOADER_FILE)
    }

    /// Where a file is on this host; `path` is where Debian installs it.
    #[must_use]
    pub fn on_host(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// Installs [`PACKAGES`] into a system that has nothing, as far as the further arguments let it.
fn apt(archives: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("LC_ALL", "C")
        .args(["-qq", "--yes", "--no-install-recommends"])
        .args(["-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=1"])
        .args(["-o", "APT::Sandbox::User=", "-o"])
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        .arg("install")
        .args(PACKAGES);
    apt
}

/// The second word of each line `'URL' FILE SIZE DIGEST`.
fn file_names(uris: &str) -> Vec<&str> {
    let mut names: Vec<&str> =
        uris.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    names.sort_unstable();
    names
}

fn key(files: &[&str]) -> String {
    Sha256::digest(files.join("\n")).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn unpack(root: &Path) -> anyhow::Result<()> {
    let archives = tempfile::tempdir()?;
    fs::create_dir(archives.path().join("partial"))?;
    command::output(apt(archives.path()).arg("--download-only"))?;
    for entry in fs::read_dir(archives.path())? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            command::output(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(root))?;
        }
    }
    Ok(())
}

/// The path below `root` in `/root/lib/x86_64-linux-gnu/libc.so.6 (0x7f…)`.
fn installed_path<'a>(found: &'a str, root: &str) -> Option<&'a str> {
    found.split(" (").next()?.strip_prefix(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_apt_would_download_are_listed_in_order() {
        let uris = "'http://deb.example/curl_7.deb' curl_7_amd64.deb 315764 SHA256:00\n\
                    'http://deb.example/bash_5.deb' bash_5_amd64.deb 1 SHA256:00\n";
        assert_eq!(file_names(uris), ["bash_5_amd64.deb", "curl_7_amd64.deb"]);
    }

    #[test]
    fn a_library_is_known_by_the_path_where_it_is_installed() {
        for (found, expected) in [
            ("/cache/lib/libz.so.1 (0x00007f)", Some("/lib/libz.so.1")),
            ("/lib/of-the-host.so.1 (0x00007f)", None),
            ("not found", None),
        ] {
            assert_eq!(installed_path(found, "/cache"), expected);
        }
    }
}
