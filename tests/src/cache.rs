//! What is expensive to make and the same for every checkout, kept outside of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};

/// Names the directory; else it is `$XDG_CACHE_HOME/stage2` or `~/.cache/stage2`.
pub const DIRECTORY: &str = "STAGE2_CACHE";

/// The cache's directory.
pub fn directory() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = variable(DIRECTORY) {
        return Ok(directory.into());
    }
    if let Some(caches) = variable("XDG_CACHE_HOME") {
        return Ok(Path::new(&caches).join("stage2"));
    }
    let home =
        variable("HOME").with_context(|| format!("expected {DIRECTORY} or HOME to be set"))?;
    Ok(Path::new(&home).join(".cache/stage2"))
}

/// The directory `path`, made by `make` in a place beside it if it is not there yet. Of several
/// programs that want it at the same time one makes it, and the others wait.
pub fn directory_once(
    path: &Path,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let parent = path.parent().context("expected a path with a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let _lock = lock(&path.with_extension("lock"))?;
    if path.exists() {
        return Ok(());
    }
    let unfinished = tempfile::Builder::new().prefix("unfinished-").tempdir_in(parent)?;
    make(unfinished.path())?;
    let finished = unfinished.keep();
    fs::rename(&finished, path).with_context(|| format!("cannot make {}", path.display()))
}

/// Waits until this program is the only one that holds the lock.
pub fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let context = || format!("cannot lock {}", path.display());
    let file = File::create(path).with_context(context)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_once_and_never_seen_unfinished() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/thing");
        directory_once(&path, |_| anyhow::bail!("half way")).unwrap_err();
        assert!(!path.exists());
        directory_once(&path, |unfinished| Ok(fs::write(unfinished.join("a"), "1")?)).unwrap();
        directory_once(&path, |_| anyhow::bail!("made again")).unwrap();
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "1");
    }
}
