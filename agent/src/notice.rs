//! Notices that files of some directories come, go or are written: inotify, without polling.
//!
//! Begin to watch before you look at the files: then no change falls between look and wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::unix::AsyncFd;

/// Half-written files are of no interest: readers wait for the name or for the close.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_DELETE);

/// A watch over directories.
#[derive(Debug)]
pub(crate) struct Notice(Inotify);

impl Notice {
    /// Begins to watch.
    pub(crate) fn of(directories: &[&Path]) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        for directory in directories {
            inotify.add_watch(*directory, CHANGES)?;
        }
        Ok(Self(inotify))
    }

    /// Waits for a change, on the thread.
    pub(crate) fn wait(&self, limit: Option<Duration>) {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        match rustix::event::poll(&mut polled, limit.as_ref()) {
            // Whatever interrupts it, the caller looks at everything anyway.
            Ok(_) | Err(_) => self.forget(),
        }
    }

    /// Waits for a change, in a runtime.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        #[expect(deprecated, reason = "unsound for types that may change their descriptor only")]
        let inotify = AsyncFd::new(self.0.as_fd())?;
        inotify.readable().await?.clear_ready();
        self.forget();
        Ok(())
    }

    /// Changes so far are known.
    fn forget(&self) {
        while self.0.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}

impl AsFd for Notice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_before_the_wait_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let notice = Notice::of(&[directory.path()]).unwrap();
        fs::write(&file, "").unwrap();
        notice.wait(None);
        fs::remove_file(&file).unwrap();
        notice.wait(None);
    }

    #[tokio::test]
    async fn a_change_wakes_a_task_that_waits() {
        let directory = tempfile::tempdir().unwrap();
        let notice = Notice::of(&[directory.path()]).unwrap();
        let file = directory.path().join("file");
        let write = async { fs::write(&file, "").unwrap() };
        let (woken, ()) = tokio::join!(notice.changed(), write);
        woken.unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(Notice::of(&[Path::new("/no/such/directory")]).is_err());
    }
}
