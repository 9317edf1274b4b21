//! What is expensive to make and the same for every checkout, kept outside of them.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use mkinitramfs::kernel::cache::Lock;

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
    let _lock = Lock::wait(&path.with_extension("lock"))?;
    if path.exists() {
        return Ok(());
    }
    let unfinished = tempfile::Builder::new().prefix("unfinished-").tempdir_in(parent)?;
    make(unfinished.path())?;
    let finished = unfinished.keep();
    fs::rename(&finished, path).with_context(|| format!("cannot make {}", path.display()))
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
