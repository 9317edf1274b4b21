//! Cards that their own drivers flash: the kernel's devlink interface.
//!
//! The driver takes a whole package, checks it as its maker wants it, and says how far it is on a
//! multicast group. Nothing of the card can be read, so there is no backup, and what it holds is
//! what it says. See `Documentation/networking/devlink/devlink-flash.rst` of the kernel.

mod link;
mod message;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub use link::Error as LinkError;
use link::{Link, Monitor};
use message::{Message, attribute, command};

/// Where the kernel looks for the file that it is told to flash.
pub const FIRMWARE: &str = "/lib/firmware";

/// How often the end is looked for between two messages.
const PATIENCE: Duration = Duration::from_millis(100);

/// A device of devlink: `pci/0000:03:00.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    bus: String,
    name: String,
}

impl FromStr for Device {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((bus, name)) if !bus.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { bus: bus.to_owned(), name: name.to_owned() })
            }
            _ => Err(()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bus, self.name)
    }
}

/// What the driver says while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub message: String,
    /// How much of it is done, of how much; both 0 where that is not known.
    pub done: (u64, u64),
}

/// Versions of a card's components, by name, as the card has them stored.
pub type Versions = BTreeMap<String, String>;

/// Why a card was not flashed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// devlink does not answer, or does not know the device.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The package cannot be put where the kernel finds it.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The driver did not come to an end.
    #[error("no end within {} s; its last word was {last:?}", limit.as_secs())]
    TimedOut {
        /// How long it was allowed to take.
        limit: Duration,
        /// The last thing that it said.
        last: String,
    },
    /// No thread for the request, in whose context the driver works.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// What the card has stored.
///
/// # Errors
/// There is no such device, or its driver does not tell.
pub fn versions(device: &Device) -> Result<Versions, Error> {
    let request = Message::about(command::INFO_GET, device);
    let answers = Link::open()?.request(&request)?;
    let stored = answers.iter().flat_map(|answer| answer.nested(attribute::VERSION_STORED));
    let named = stored.filter_map(|version| {
        Some((version.text(attribute::VERSION_NAME)?, version.text(attribute::VERSION_VALUE)?))
    });
    Ok(named.collect())
}

/// Has the driver flash `package`, or one component of it. `on_status` hears what it says.
///
/// # Errors
/// The driver failed; whether it had begun by then is what `on_status` heard.
pub fn flash(
    device: &Device,
    component: Option<&str>,
    package: &[u8],
    limit: Duration,
    on_status: &mut dyn FnMut(Status),
) -> Result<(), Error> {
    let file = Package::put(Path::new(FIRMWARE), package)?;
    let monitor = Link::open()?.monitor()?;
    let mut request = Message::about(command::FLASH_UPDATE, device);
    request.add_text(attribute::FILE_NAME, &file.name);
    if let Some(component) = component {
        request.add_text(attribute::COMPONENT, component);
    }
    let (sender, receiver) = mpsc::channel();
    // The kernel works in the context of who asks: `send` returns when all is done.
    thread::Builder::new()
        .name("devlink".to_owned())
        .spawn(move || {
            let result = Link::open().and_then(|link| link.request(&request));
            // Nobody listens any more after the time limit.
            let _gone = sender.send(result);
        })
        .map_err(Error::Thread)?;
    watch(&monitor, device, &receiver, limit, on_status)
}

fn watch(
    monitor: &Monitor,
    device: &Device,
    end: &mpsc::Receiver<Result<Vec<Message>, LinkError>>,
    limit: Duration,
    on_status: &mut dyn FnMut(Status),
) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let mut last = String::new();
    let mut tell = |message: &Message| {
        if let Some(status) = message.status_of(device) {
            last.clone_from(&status.message);
            on_status(status);
        }
    };
    loop {
        monitor.messages_within(PATIENCE)?.iter().for_each(&mut tell);
        match end.recv_timeout(Duration::ZERO) {
            Ok(result) => {
                // What was said before the end is there already.
                monitor.messages_within(Duration::ZERO)?.iter().for_each(&mut tell);
                return Ok(result.map(|_| ())?);
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(_) => return Err(Error::TimedOut { limit, last }),
        }
    }
}

/// The package where the kernel looks for it, as long as this lives.
struct Package {
    path: PathBuf,
    name: String,
}

impl Package {
    fn put(directory: &Path, content: &[u8]) -> Result<Self, Error> {
        let name = format!("flasher-{}.package", std::process::id());
        let path = directory.join(&name);
        let error = |source| Error::File { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(error)?;
        fs::write(&path, content).map_err(error)?;
        Ok(Self { path, name })
    }
}

impl Drop for Package {
    fn drop(&mut self) {
        // A file that stays does no harm: its name is used by nobody else.
        let _stays = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_bus_and_a_name() {
        let device: Device = "pci/0000:03:00.0".parse().unwrap();
        assert_eq!(device, Device { bus: "pci".to_owned(), name: "0000:03:00.0".to_owned() });
        assert_eq!(device.to_string(), "pci/0000:03:00.0");
        for wrong in ["", "pci", "pci/", "/0000:03:00.0", "a/b/c"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_package_is_gone_when_it_is_flashed() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("lib/firmware");
        let package = Package::put(&at, b"p").unwrap();
        assert_eq!(fs::read(at.join(&package.name)).unwrap(), b"p");
        drop(package);
        assert_eq!(fs::read_dir(at).unwrap().count(), 0);
    }
}
