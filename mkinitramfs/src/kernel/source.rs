//! The kernel's source: a tarball, unpacked once into the cache, or a directory as it is.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use agent_types::digest::Sha256Digest;
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::file::{FileError, cannot};

/// Where Debian's package `linux-source-6.12` puts it.
pub const DEBIAN_TARBALL: &str = "/usr/src/linux-source-6.12.tar.xz";

/// How a tree's name begins that is not whole yet.
const UNFINISHED: &str = "unpacking-";

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The default tarball is not installed.
    #[error(
        "cannot find {DEBIAN_TARBALL}: run `apt-get install linux-source-6.12`, or name a source \
         with --source"
    )]
    NotInstalled,
    /// Something cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// tar says why on its standard error.
    #[error("cannot unpack {}: {message}", path.display())]
    Unpack {
        /// The tarball.
        path: PathBuf,
        /// tar's last words.
        message: String,
    },
    /// The kernel's Makefile refuses such a path.
    #[error(
        "cannot build in {}, whose path has a blank or a colon: set STAGE2_CACHE, or name another \
         source, without one",
        .0.display()
    )]
    Path(PathBuf),
    /// There is no kernel in it.
    #[error("expected the source of a Linux kernel in {}", .0.display())]
    NotLinux(PathBuf),
}

/// A tree that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The tree.
    pub directory: PathBuf,
    /// What it is, for the cache: the tarball's digest or the directory's path.
    pub identity: String,
    /// The kernel's version, such as `6.12.117`.
    pub version: String,
    /// When its top Makefile was last changed, which a tarball fixes: the date that the kernel shows.
    /// `None` for a directory, where a checkout sets it.
    pub date: Option<u64>,
}

impl Source {
    /// Makes a tree ready: `None` is Debian's package.
    ///
    /// The caller sees to it that nobody else does so in this cache.
    ///
    /// # Errors
    /// There is no such source, it cannot be unpacked, or is no kernel.
    pub fn ready(given: Option<&Path>, cache: &Cache) -> Result<Self, Error> {
        let path = given.unwrap_or(Path::new(DEBIAN_TARBALL));
        if given.is_none() && !path.is_file() {
            return Err(Error::NotInstalled);
        }
        check_path(cache.kernels())?;
        if path.is_dir() {
            let directory = path.canonicalize().map_err(cannot("read", path))?;
            check_path(&directory)?;
            let identity = directory.display().to_string();
            return Self::of(directory, identity, false);
        }
        let digest = digest_of(path, cache)?;
        let directory = cache.sources().join(&digest.to_string()[..16]);
        if !directory.is_dir() {
            unpack(path, &directory)?;
        }
        Self::of(directory, digest.to_string(), true)
    }

    /// Whether it may be another one next time: a directory may have been worked on.
    #[must_use]
    pub fn may_change(&self) -> bool {
        self.date.is_none()
    }

    fn of(directory: PathBuf, identity: String, is_tarball: bool) -> Result<Self, Error> {
        let makefile = directory.join("Makefile");
        let not_linux = || Error::NotLinux(directory.clone());
        let text = fs::read_to_string(&makefile).map_err(|_| not_linux())?;
        let version = version(&text).ok_or_else(not_linux)?;
        let date = is_tarball.then(|| seconds_of(&makefile)).transpose()?;
        Ok(Self { directory, identity, version, date })
    }
}

/// The kernel's make splits paths at these.
fn check_path(path: &Path) -> Result<(), Error> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_refused = bytes.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b':');
    if is_refused { Err(Error::Path(path.to_owned())) } else { Ok(()) }
}

/// Reads the version from the top of the kernel's Makefile.
fn version(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        makefile.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let (version, patch, sub) = (value("VERSION")?, value("PATCHLEVEL")?, value("SUBLEVEL")?);
    Some(format!("{version}.{patch}.{sub}{}", value("EXTRAVERSION").unwrap_or_default()))
}

/// Unpacks into a temporary name and renames, so that a tree under its name is whole.
fn unpack(tarball: &Path, directory: &Path) -> Result<(), Error> {
    eprintln!("kernel: unpacking {} (once)", tarball.display());
    let parent = directory.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(cannot("create", parent))?;
    remove_unfinished(parent)?;
    let temporary = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent);
    let temporary = temporary.map_err(cannot("create a directory in", parent))?;
    let tar = Command::new("tar")
        .args(["-x", "--strip-components=1", "-f"])
        .arg(tarball)
        .arg("-C")
        .arg(temporary.path())
        .output()
        .map_err(cannot("run tar on", tarball))?;
    if !tar.status.success() {
        let message = String::from_utf8_lossy(&tar.stderr);
        let message = message.lines().last().unwrap_or("tar says nothing").to_owned();
        return Err(Error::Unpack { path: tarball.to_owned(), message });
    }
    fs::rename(temporary.path(), directory).map_err(cannot("rename to", directory))?;
    // The directory has moved away; there is nothing left to delete.
    let _moved = temporary.keep();
    Ok(())
}

/// What was broken off is large, and nobody comes back to it.
fn remove_unfinished(parent: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(parent).map_err(cannot("read", parent))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(UNFINISHED.as_bytes()) {
            fs::remove_dir_all(&path).map_err(cannot("remove", &path))?;
        }
    }
    Ok(())
}

/// A tarball's digest, kept under its name, size and time: 150 MB are not read for every image.
fn digest_of(tarball: &Path, cache: &Cache) -> Result<Sha256Digest, Error> {
    let metadata = fs::metadata(tarball).map_err(cannot("read", tarball))?;
    let path = tarball.canonicalize().map_err(cannot("read", tarball))?;
    let stamp = format!("{} {} {}", path.display(), metadata.len(), seconds_of(tarball)?);
    let memo = cache.sources().join(format!("{}.sha256", &super::cache::key(&[&stamp])));
    if let Some(known) = fs::read_to_string(&memo).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(known);
    }
    let digest = hash(tarball).map_err(cannot("read", tarball))?;
    fs::create_dir_all(cache.sources()).map_err(cannot("create", cache.sources()))?;
    fs::write(&memo, format!("{digest}\n")).map_err(cannot("write", &memo))?;
    Ok(digest)
}

fn hash(path: &Path) -> io::Result<Sha256Digest> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Digest::from(<[u8; 32]>::from(hasher.finalize()))),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn seconds_of(path: &Path) -> Result<u64, Error> {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let modified = modified.map_err(cannot("read", path))?;
    Ok(modified.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAKEFILE: &str = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 9\nEXTRAVERSION =\n";

    fn tarball_in(directory: &Path) -> PathBuf {
        let tree = directory.join("linux-6.12.9");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("Makefile"), MAKEFILE).unwrap();
        let tarball = directory.join("linux.tar.xz");
        let mut tar = Command::new("tar");
        tar.arg("-cJf").arg(&tarball).arg("-C").arg(directory).arg("linux-6.12.9");
        assert!(tar.status().unwrap().success());
        tarball
    }

    #[test]
    fn what_an_unpacking_has_left_that_was_broken_off_goes() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("cache"));
        let left = cache.sources().join("unpacking-x/kernel");
        fs::create_dir_all(&left).unwrap();
        Source::ready(Some(&tarball_in(directory.path())), &cache).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_path_that_the_kernel_cannot_be_built_in_is_named_before_it_is_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let tarball = tarball_in(directory.path());
        for name in ["two words", "colon:"] {
            let cache = Cache::at(directory.path().join(name));
            for source in [&tarball, &directory.path().join("linux-6.12.9")] {
                let error = Source::ready(Some(source), &cache).unwrap_err().to_string();
                assert!(error.contains(name) && error.contains("STAGE2_CACHE"), "{error}");
            }
            assert!(!directory.path().join(name).exists());
        }
    }

    #[test]
    fn a_tarball_is_unpacked_once_under_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("cache"));
        let tarball = tarball_in(directory.path());
        let first = Source::ready(Some(&tarball), &cache).unwrap();
        assert_eq!(first.version, "6.12.9");
        fs::write(first.directory.join("kept"), "").unwrap();
        let second = Source::ready(Some(&tarball), &cache).unwrap();
        assert_eq!(first, second);
        assert!(second.directory.join("kept").exists());
    }

    #[test]
    fn a_tarball_that_is_cut_short_leaves_no_tree_behind() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("cache"));
        let tarball = tarball_in(directory.path());
        let bytes = fs::read(&tarball).unwrap();
        fs::write(&tarball, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(Source::ready(Some(&tarball), &cache), Err(Error::Unpack { .. })));
        let trees = fs::read_dir(cache.sources())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir());
        assert_eq!(trees.count(), 0);
        fs::write(&tarball, bytes).unwrap();
        Source::ready(Some(&tarball), &cache).unwrap();
    }

    #[test]
    fn a_directory_without_a_kernel_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path().join("cache"));
        let error = Source::ready(Some(directory.path()), &cache).unwrap_err();
        assert!(matches!(error, Error::NotLinux(_)));
    }
}
