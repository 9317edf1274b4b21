//! Debian's packages, unpacked and not installed.
//!
//! apt finds what the packages need as if nothing were installed, downloads it, verifies it against
//! its signed lists, and dpkg unpacks it into one directory of the cache. Nothing here needs root.
//! The directory's name stands for every package with its version: other lists, another directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::kernel::cache::{self, Cache, Lock, LockError};

/// Packages that no program of a ramdisk needs, though some package depends on them.
const INTERPRETERS: &[&str] = &["perl", "python"];

/// Why there are no packages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program of Debian cannot be started.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("{program} {verb}: {complaint}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it was to do.
        verb: &'static str,
        /// Its own words.
        complaint: String,
    },
    /// apt does not know a package.
    #[error("cannot find the package {0}: run `apt-get update`")]
    Unknown(String),
    /// A directory of the cache cannot be made.
    #[error("cannot make {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another build could not be waited for.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Unpacked packages.
#[derive(Debug)]
pub struct Packages {
    /// Has the packages' files by the paths where Debian installs them.
    pub root: PathBuf,
    /// The packages that were asked for, with their versions.
    pub versions: Vec<String>,
}

/// One package, as apt names its file: `NAME_VERSION_ARCHITECTURE.deb`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
}

impl Packages {
    /// Finds the packages in the cache or downloads them, with the libraries that they need.
    ///
    /// # Errors
    /// apt does not know them, cannot download them, or they cannot be unpacked.
    pub fn ready(wanted: &[&str], cache: &Cache) -> Result<Self, Error> {
        let packages = resolve(wanted)?;
        let names: Vec<String> = packages.iter().map(Package::pinned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let root = cache.packages().join(cache::key(&names));
        let _lock = Lock::wait(&root.with_extension("lock"))?;
        if !root.is_dir() {
            eprintln!("packages: downloading {} to {}", names.len(), root.display());
            download(&names, &root)?;
        }
        let asked = packages.iter().filter(|package| wanted.contains(&package.name.as_str()));
        let versions = asked.map(|package| format!("{} {}", package.name, package.version));
        Ok(Self { root, versions: versions.collect() })
    }
}

impl Package {
    fn of_file(name: &str) -> Option<Self> {
        let mut parts = name.split('_');
        let (name, version) = (parts.next()?, parts.next()?);
        Some(Self { name: name.to_owned(), version: version.replace("%3a", ":") })
    }

    /// As `apt-get download` takes it.
    fn pinned(&self) -> String {
        format!("{}={}", self.name, self.version)
    }

    fn is_of_use(&self, wanted: &[&str]) -> bool {
        let interprets = INTERPRETERS.iter().any(|interpreter| self.name.contains(interpreter));
        wanted.contains(&self.name.as_str()) || self.name.starts_with("lib") && !interprets
    }
}

/// The packages and their libraries, sorted. apt does not name what lies in its own archives.
fn resolve(wanted: &[&str]) -> Result<Vec<Package>, Error> {
    let mut install = apt();
    install.args(["-o", "Dir::Cache::Archives=/nonexistent"]);
    install.args(["-qq", "--yes", "--no-install-recommends", "--print-uris"]);
    install.args(["-o", "Dir::State::status=/dev/null"]).arg("install").args(wanted);
    let packages = of_use(&output(&mut install, "apt-get", "install")?, wanted);
    let is_there = |name: &str| packages.iter().any(|package| package.name == name);
    match wanted.iter().find(|name| !is_there(name)) {
        Some(name) => Err(Error::Unknown((*name).to_owned())),
        None => Ok(packages),
    }
}

/// From lines of `'URL' FILE SIZE DIGEST`.
fn of_use(uris: &str, wanted: &[&str]) -> Vec<Package> {
    let files = uris.lines().filter_map(|line| line.split_whitespace().nth(1));
    let mut packages: Vec<Package> =
        files.filter_map(Package::of_file).filter(|package| package.is_of_use(wanted)).collect();
    packages.sort();
    packages
}

/// The directory appears when everything is in it.
fn download(names: &[&str], root: &Path) -> Result<(), Error> {
    let directory = root.parent().unwrap_or(Path::new("."));
    let cannot = |source| Error::Directory { path: root.to_owned(), source };
    let unfinished = tempfile::tempdir_in(directory).map_err(cannot)?;
    let (archives, files) = (unfinished.path().join("archives"), unfinished.path().join("files"));
    fs::create_dir(&archives).and_then(|()| fs::create_dir(&files)).map_err(cannot)?;
    // apt's lines about each package are the progress.
    let mut download = apt();
    download.arg("-q").arg("download").args(names).current_dir(&archives);
    run(download.stdout(io::stderr()), "apt-get", "download")?;
    for entry in fs::read_dir(&archives).map_err(cannot)? {
        let archive = entry.map_err(cannot)?.path();
        let mut extract = Command::new("dpkg-deb");
        run(extract.arg("--extract").arg(archive).arg(&files), "dpkg-deb", "--extract")?;
    }
    fs::rename(files, root).map_err(cannot)
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("LC_ALL", "C").args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]);
    apt
}

fn output(
    command: &mut Command,
    program: &'static str,
    verb: &'static str,
) -> Result<String, Error> {
    run(command.stdout(Stdio::piped()), program, verb)
}

/// Runs a program and returns what it wrote, as far as that is piped.
fn run(command: &mut Command, program: &'static str, verb: &'static str) -> Result<String, Error> {
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let output = child.and_then(std::process::Child::wait_with_output);
    let output = output.map_err(|source| Error::Run { program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::Failed { program, verb, complaint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_libraries_are_taken_and_interpreters_left() {
        let uris = "'http://d/zlib1g_1.2.deb' zlib1g_1%3a1.2_amd64.deb 8 MD5Sum:0\n\
                    'http://d/libudev1_2.deb' libudev1_252.39-1~deb12u2_amd64.deb 315764\n\
                    'http://d/perl-base_5.deb' perl-base_5.36_amd64.deb 1 MD5Sum:0\n\
                    'http://d/libperl5.36_5.deb' libperl5.36_5.36_amd64.deb 1 MD5Sum:0\n\
                    'http://d/lvm2_2.deb' lvm2_2.03.16-2_amd64.deb 1 MD5Sum:0\n";
        let packages = of_use(uris, &["lvm2", "zlib1g"]);
        let pinned: Vec<String> = packages.iter().map(Package::pinned).collect();
        assert_eq!(pinned, ["libudev1=252.39-1~deb12u2", "lvm2=2.03.16-2", "zlib1g=1:1.2"]);
    }

    #[test]
    fn a_package_that_does_not_exist_is_named_in_apts_own_words() {
        let error = resolve(&["no-such-package"]).unwrap_err().to_string();
        assert!(error.contains("Unable to locate package no-such-package"), "{error}");
    }
}
