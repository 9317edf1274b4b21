//! Gives up the pages of a downloaded file as soon as the kernel has read it.
//!
//! The kernel reads a file with one `kernel_read()` per 2 GiB and then sends `IN_ACCESS`; while it
//! reads, it denies writing (`fs/kernel_read_file.c`), so a truncation that comes too early is
//! refused with ETXTBSY and tried again. The order is therefore safe: not before the first bytes
//! were read (inotify), not before the last were (ETXTBSY).
//!
//! On entry no other process reads the files. On return of [`Release::finish`] they are empty, or
//! untouched if the kernel did not read them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;

use crate::chain::Chain;

/// `MAX_RW_COUNT`: up to here one read is the whole file.
const LARGEST_FILE: u64 = 0x7fff_f000;

/// Between two attempts to truncate a file that is being read.
const RETRY_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Why the pages stay until the file is deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel does not tell when it reads.
    #[error("cannot watch {path}")]
    Watch {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No inotify, no pipe or no thread.
    #[error("cannot prepare to release memory")]
    Prepare(#[source] io::Error),
}

/// A thread that waits for the kernel to read the files.
#[derive(Debug)]
pub(crate) struct Release {
    stop: OwnedFd,
    thread: JoinHandle<()>,
}

impl Release {
    /// Begins to watch; the kernel must be asked to read the files after this.
    pub(crate) fn of(files: &[PathBuf]) -> Result<Self, Error> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|errno| Error::Prepare(errno.into()))?;
        let watched = files.iter().map(|file| watch(&inotify, file)).collect::<Result<_, _>>()?;
        let (stopped, stop) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map_err(|errno| Error::Prepare(errno.into()))?;
        let releaser = Releaser { inotify, watched, stopped };
        let thread = std::thread::Builder::new()
            .name("release".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || releaser.run())
            .map_err(Error::Prepare)?;
        Ok(Self { stop, thread })
    }

    /// Ends the watch, when the kernel has read all or will not.
    pub(crate) fn finish(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::debug!("the thread that releases memory has panicked");
        }
    }
}

/// Whether the file's pages may go when they have been read.
pub(crate) fn is_disposable(file: &Path, size: u64, downloads: Option<&Path>) -> bool {
    let (Some(Ok(downloads)), Ok(file)) = (downloads.map(Path::canonicalize), file.canonicalize())
    else {
        return false;
    };
    size <= LARGEST_FILE && file.starts_with(downloads)
}

fn watch(inotify: &Inotify, file: &Path) -> Result<(WatchDescriptor, PathBuf), Error> {
    let path = file.to_owned();
    match inotify.add_watch(file, AddWatchFlags::IN_ACCESS) {
        Ok(descriptor) => Ok((descriptor, path)),
        Err(errno) => Err(Error::Watch { path, source: errno.into() }),
    }
}

struct Releaser {
    inotify: Inotify,
    watched: Vec<(WatchDescriptor, PathBuf)>,
    /// Closed at the other end when it is over.
    stopped: OwnedFd,
}

impl Releaser {
    fn run(mut self) {
        while !self.watched.is_empty() && self.wait_for_reading() {
            for event in self.inotify.read_events().unwrap_or_default() {
                self.release(&event);
            }
        }
    }

    /// Whether there is something to read; otherwise it is over.
    fn wait_for_reading(&self) -> bool {
        let mut polled =
            [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.stopped, PollFlags::IN)];
        let woken = rustix::event::poll(&mut polled, None);
        // The kernel's reading comes before its end, so it is looked at first.
        woken.is_ok() && polled.first().is_some_and(|inotify| !inotify.revents().is_empty())
    }

    fn release(&mut self, event: &InotifyEvent) {
        let Some(index) = self.watched.iter().position(|(watch, _)| *watch == event.wd) else {
            return;
        };
        let (_, path) = self.watched.swap_remove(index);
        match self.truncate(&path) {
            Ok(()) => log::debug!("released the memory of {}", path.display()),
            Err(error) => log::debug!("cannot release {}: {}", path.display(), Chain(&error)),
        }
    }

    /// Tries until the kernel has read the file to its end.
    fn truncate(&self, path: &Path) -> io::Result<()> {
        loop {
            match nix::unistd::truncate(path, 0) {
                Err(Errno::ETXTBSY) if !self.is_over_after(RETRY_PAUSE) => {}
                result => return Ok(result?),
            }
        }
    }

    fn is_over_after(&self, pause: Timespec) -> bool {
        let mut polled = [PollFd::new(&self.stopped, PollFlags::IN)];
        !matches!(rustix::event::poll(&mut polled, Some(&pause)), Ok(0) | Err(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_that_has_been_read_gives_its_memory_back_and_another_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let [read, unread] = ["read", "unread"].map(|name| directory.path().join(name));
        for file in [&read, &unread] {
            fs::write(file, "payload").unwrap();
        }
        let release = Release::of(&[read.clone(), unread.clone()]).unwrap();
        fs::read(&read).unwrap();
        release.finish();
        assert_eq!([read, unread].map(|file| fs::metadata(file).unwrap().len()), [0, 7]);
    }

    #[test]
    fn only_downloads_of_one_read_are_disposable() {
        let downloads = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let payload = downloads.path().join("payload");
        let precious = outside.path().join("precious");
        let link = downloads.path().join("link");
        fs::write(&payload, "").unwrap();
        fs::write(&precious, "").unwrap();
        symlink(&precious, &link).unwrap();
        let directory = Some(downloads.path());
        for (file, size, directory, expected) in [
            (&payload, LARGEST_FILE, directory, true),
            (&payload, LARGEST_FILE + 1, directory, false),
            (&payload, 1, None, false),
            (&precious, 1, directory, false),
            (&link, 1, directory, false),
            (&downloads.path().join("nothing"), 1, directory, false),
        ] {
            assert_eq!(is_disposable(file, size, directory), expected, "{}", file.display());
        }
    }
}
