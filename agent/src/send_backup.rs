//! The role *send-backup*: posts what a card held to a server, before a flasher erases any of it.
//!
//! The flasher starts it with a file and the digest of that file, and erases nothing unless it ends
//! well: then the server has accepted all of it. The card may be the one that the network goes
//! through: then its driver has it back for this moment, and the network is brought up here.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent_types::cmdline;
use agent_types::digest::{ParseDigestError, Sha256Digest};
use agent_types::params::BootParams;
use agent_types::rom::sha256;

use crate::chain::Chain;
use crate::clock::Monotonic;
use crate::fetch::{self, Fetch, Https, Settings, shown_text};
use crate::network::aloud;
use crate::packed;
use crate::policy::{POLICY, Policy};
use crate::retry::{Backoff, Tries};
use crate::tls::{self, PACKED_ROOTS};
use crate::uplink::Uplink;
use crate::wishes::Wishes;

/// The role's name in the image.
pub(crate) const SEND_BACKUP: &str = "/sbin/send-backup";
/// Names the address that files are posted below.
pub(crate) const VARIABLE: &str = "ROM_BACKUP_URL";

/// The flasher waits for ten minutes.
const TRIES: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
    deadline: Duration::from_secs(240),
};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("expected a file and its sha256")]
    Arguments,
    #[error("expected {VARIABLE} to say where backups go")]
    NoAddress,
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("expected sha256 {expected} of {}, got {got}", path.display())]
    Changed { path: PathBuf, expected: Sha256Digest, got: Sha256Digest },
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Policy(#[from] packed::Error),
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
}

/// Runs the role.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match send(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("cannot send the backup: {}", Chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn send(arguments: &[String]) -> Result<(), Error> {
    let [path, digest] = arguments else { return Err(Error::Arguments) };
    let base = std::env::var(VARIABLE).map_err(|_| Error::NoAddress)?;
    let path = Path::new(path);
    let url = format!("{base}/{}", path.file_name().unwrap_or_default().to_string_lossy());
    let content = backup(path, digest.parse()?)?;
    let policy = Policy::read(Path::new(POLICY))?;
    let roots = tls::roots_file(Path::new(PACKED_ROOTS), None);
    let fetch = Https::new(Settings::new(env!("CARGO_PKG_VERSION"), policy, roots));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::Runtime)?.block_on(post(&fetch, &url, &content))?;
    log::info!("backup sent to {}", shown_text(&url));
    Ok(())
}

/// The file, if it is still what the flasher stored.
fn backup(path: &Path, expected: Sha256Digest) -> Result<Vec<u8>, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let content = std::fs::read(path).map_err(read)?;
    let got = sha256(&content);
    if got != expected {
        return Err(Error::Changed { path: path.to_owned(), expected, got });
    }
    Ok(content)
}

async fn post(fetch: &Https, url: &str, content: &[u8]) -> Result<(), Error> {
    let mut uplink = Uplink::default();
    let mut tries = Tries::new(&Monotonic, TRIES);
    loop {
        let Err(error) = fetch.post_file(url, content).await else { return Ok(()) };
        let has_network = error.is_answer();
        tries.pause_after("backup", error).await?;
        if !has_network {
            bring_network_up(&mut uplink).await;
        }
    }
}

async fn bring_network_up(uplink: &mut Uplink) {
    let given = std::fs::read("/proc/cmdline").unwrap_or_default();
    // An operator may have mended it.
    let wished = Wishes::from_env().kargs();
    let params = BootParams::parse(&cmdline::replace(&String::from_utf8_lossy(&given), &wished));
    if let Err(error) = uplink.ready(&params.network.config, &aloud).await {
        log::warn!("{}", Chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_stored_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        std::fs::write(&path, b"old").unwrap();
        assert_eq!(backup(&path, sha256(b"old")).unwrap(), b"old");
        let error = backup(&path, sha256(b"other")).unwrap_err().to_string();
        assert!(error.starts_with("expected sha256"), "{error}");
    }
}
