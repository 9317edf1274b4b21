//! What an operator wishes of the boot role: files in a directory that both know.
//!
//! | File | Means |
//! |---|---|
//! | `hold` | start no command and enter no kernel as long as this file is there |
//! | `retry` | begin a new attempt now; whoever begins one removes it |
//! | `kargs` | `KEY=VALUE` lines that replace parameters of the kernel command line |
//!
//! The operator's commands write, the boot role looks before each command and wakes up from every
//! pause when something changes. It starts and runs the same without this directory, and a wish
//! outlives the boot role that it was made to. A command of a boot document finds the directory in
//! [`VARIABLE`], so that the `kexec` role can stop before PID 1 is asked to enter a kernel.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::notice::Notice;

/// Where the wishes of this machine's operators are.
pub(crate) const WISHES: &str = "/run/stage2/wishes";
/// Names that directory to the commands of a boot document.
pub(crate) const VARIABLE: &str = "STAGE2_WISHES";

const HOLD: &str = "hold";
const RETRY: &str = "retry";
const KARGS: &str = "kargs";

/// How often it is looked where the kernel does not tell of changes.
const BLIND_LOOK: Duration = Duration::from_secs(1);

/// Kernel parameters that replace those of the command line.
pub(crate) type Replacements = BTreeMap<String, String>;

/// The wishes of the operators, or those of nobody.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    directory: Option<PathBuf>,
    /// The parameters that all began with.
    begun_with: RefCell<Replacements>,
}

impl Wishes {
    /// Nobody wishes anything.
    pub(crate) fn of_nobody() -> Self {
        Self::default()
    }

    /// Those of this directory.
    pub(crate) fn at(directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()), ..Self::default() }
    }

    /// Makes the directory, so that it can be watched.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.directory.as_ref().map_or(Ok(()), fs::create_dir_all)
    }

    /// Those that the boot role's commands obey; nobody's elsewhere.
    pub(crate) fn from_env() -> Self {
        let directory = std::env::var_os(VARIABLE).filter(|directory| !directory.is_empty());
        let wishes = Self { directory: directory.map(Into::into), ..Self::default() };
        wishes.begun_with.replace(wishes.kargs());
        wishes
    }

    /// For the environment of commands.
    pub(crate) fn variable(&self) -> Option<(String, String)> {
        let directory = self.directory.as_ref()?;
        Some((VARIABLE.to_owned(), directory.display().to_string()))
    }

    /// Whether nothing may be started or entered.
    pub(crate) fn is_held(&self) -> bool {
        self.path(HOLD).is_some_and(|path| path.exists())
    }

    /// Whether a new attempt is wished for: in so many words, or by other parameters.
    pub(crate) fn is_new_attempt_wanted(&self) -> bool {
        self.is_retry_wanted() || self.kargs() != *self.begun_with.borrow()
    }

    /// Whether a new attempt is wished for at once. What cannot be removed is no wish: it would be
    /// fulfilled for ever.
    pub(crate) fn is_retry_wanted(&self) -> bool {
        self.path(RETRY).is_some_and(|path| path.is_file())
    }

    /// All begins anew: what is to be replaced in the command line. A wish for it is fulfilled.
    pub(crate) fn begin_anew(&self) -> Replacements {
        self.forget_retry();
        let kargs = self.kargs();
        self.begun_with.replace(kargs.clone());
        kargs
    }

    /// Nobody wishes for a new attempt any more, or its time has not come.
    pub(crate) fn forget_retry(&self) {
        if let Some(retry) = self.path(RETRY) {
            remove(&retry).unwrap_or_else(|error| log::warn!("cannot remove the wish: {error}"));
        }
    }

    /// Kernel parameters that replace those of the command line.
    pub(crate) fn kargs(&self) -> Replacements {
        let text = self.path(KARGS).and_then(|path| fs::read_to_string(path).ok());
        let text = text.unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Wishes for a halt before the next command and before the hand-over.
    pub(crate) fn hold(&self) -> io::Result<()> {
        self.write(HOLD, "")
    }

    /// Takes the wish for a halt back.
    pub(crate) fn resume(&self) -> io::Result<()> {
        self.path(HOLD).map_or(Ok(()), |path| remove(&path))
    }

    /// Wishes for a new attempt.
    pub(crate) fn retry(&self) -> io::Result<()> {
        self.write(RETRY, "")
    }

    /// Wishes for other kernel parameters, beside those that were wished for earlier.
    pub(crate) fn set(&self, more: &Replacements) -> io::Result<()> {
        let mut kargs = self.kargs();
        kargs.extend(more.clone());
        let lines = kargs.iter().map(|(key, value)| format!("{key}={value}\n"));
        self.write(KARGS, &lines.collect::<String>())
    }

    /// Returns as soon as `holds` does.
    pub(crate) async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let Some(directory) = &self.directory else { return std::future::pending().await };
        let notice = Notice::of(&[directory]).ok();
        while !holds(self) {
            let told = match &notice {
                Some(notice) => notice.changed().await.is_ok(),
                None => false,
            };
            if !told {
                tokio::time::sleep(BLIND_LOOK).await;
            }
        }
    }

    /// The same on the thread.
    pub(crate) fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let Some(directory) = &self.directory else { return };
        let notice = Notice::of(&[directory]);
        while !holds(self) {
            match &notice {
                Ok(notice) => notice.wait(None),
                Err(_) => blind_pause(),
            }
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(name))
    }

    /// A reader sees the old contents or the new ones; they may be secrets.
    fn write(&self, name: &str, contents: &str) -> io::Result<()> {
        let Some(path) = self.path(name) else { return Err(io::ErrorKind::NotFound.into()) };
        self.prepare()?;
        let new = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(contents.as_bytes())?;
        fs::rename(new, path)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn blind_pause() {
    let limit = rustix::event::Timespec::try_from(BLIND_LOOK).unwrap_or_default();
    match rustix::event::poll(&mut [], Some(&limit)) {
        // Too early is as good.
        Ok(_) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes() -> (tempfile::TempDir, Wishes) {
        let directory = tempfile::tempdir().unwrap();
        let wishes = Wishes::at(&directory.path().join("wishes"));
        wishes.prepare().unwrap();
        (directory, wishes)
    }

    fn kargs(pairs: &[(&str, &str)]) -> Replacements {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_hold_lasts_until_it_is_taken_back() {
        let (_directory, wishes) = wishes();
        assert!(!wishes.is_held());
        wishes.hold().unwrap();
        wishes.hold().unwrap();
        assert!(wishes.is_held());
        wishes.resume().unwrap();
        wishes.resume().unwrap();
        assert!(!wishes.is_held());
    }

    #[test]
    fn a_retry_is_wanted_until_an_attempt_begins() {
        let (_directory, wishes) = wishes();
        wishes.retry().unwrap();
        assert!(wishes.is_retry_wanted() && wishes.is_new_attempt_wanted());
        assert_eq!(wishes.begin_anew(), kargs(&[]));
        assert!(!wishes.is_retry_wanted() && !wishes.is_new_attempt_wanted());
    }

    #[test]
    fn what_cannot_be_fulfilled_is_no_wish() {
        let (directory, wishes) = wishes();
        fs::create_dir(directory.path().join("wishes/retry")).unwrap();
        wishes.begin_anew();
        assert!(!wishes.is_new_attempt_wanted());
    }

    #[test]
    fn parameters_add_up_and_ask_for_an_attempt_that_begins_with_them() {
        let (_directory, wishes) = wishes();
        wishes.set(&kargs(&[("a", "1"), ("b", "x=y")])).unwrap();
        wishes.set(&kargs(&[("a", "2"), ("c", "")])).unwrap();
        assert!(wishes.is_new_attempt_wanted() && !wishes.is_retry_wanted());
        assert_eq!(wishes.begin_anew(), kargs(&[("a", "2"), ("b", "x=y"), ("c", "")]));
        assert!(!wishes.is_new_attempt_wanted());
    }

    #[test]
    fn wishes_may_be_secrets() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, wishes) = wishes();
        wishes.set(&kargs(&[("epoxy.k8s_token", "x")])).unwrap();
        let mode = fs::metadata(directory.path().join("wishes/kargs")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn nobody_wishes_nothing_and_cannot_be_asked() {
        let wishes = Wishes::of_nobody();
        assert_eq!(wishes.begin_anew(), kargs(&[]));
        assert!(!wishes.is_held() && !wishes.is_new_attempt_wanted());
        assert!(wishes.hold().is_err());
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_when_the_hold_is_taken_back() {
        let (_directory, wishes) = wishes();
        wishes.hold().unwrap();
        let resume = async { wishes.resume().unwrap() };
        tokio::join!(wishes.until(|wishes| !wishes.is_held()), resume);
        wishes.wait_until(|wishes| !wishes.is_held());
    }
}
