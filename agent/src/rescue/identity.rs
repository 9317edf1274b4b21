//! The host key in use: chosen at the start, told to operators, exchanged when a boot document
//! brings another one.
//!
//! Sessions that have begun keep the key that their client knows; each later connection gets the
//! newest.

use std::error::Error;
use std::io;
use std::path::Path;

use tokio::sync::watch;

use super::addresses::Addresses;
use super::host_key::{self, HostKey};
use super::listener;
use crate::chain::Chain;
use crate::keyring::DOCUMENT;
use crate::notice::Notice;
use crate::pid1::Pid1;
use crate::status::{Address, Status};

/// The key as it is now, and as it will be.
pub(super) struct Identity {
    key: watch::Sender<HostKey>,
    notice: io::Result<Notice>,
}

impl Identity {
    /// Chooses a key below `root`. An image's key that cannot be used must not lock operators out.
    pub(super) fn choose(root: &Path) -> Result<Self, host_key::Error> {
        // Watched before the first look, so that nothing is missed after it.
        let documents = root.join(DOCUMENT);
        let notice = std::fs::create_dir_all(&documents).and_then(|()| Notice::of(&[&documents]));
        let key = choose(root)?;
        log::info!("ssh: host key {}", key.fingerprint());
        Ok(Self { key: watch::Sender::new(key), notice })
    }

    /// For whoever needs the key in use.
    pub(super) fn subscribe(&self) -> watch::Receiver<HostKey> {
        self.key.subscribe()
    }

    /// Exchanges the key whenever there is another one below `root`, for ever.
    pub(super) async fn keep_up(self, root: &Path) {
        let Self { key, notice } = self;
        let kept_up = async {
            let notice = notice?;
            loop {
                notice.changed().await?;
                exchange(root, &key);
            }
        };
        let Err(error): io::Result<std::convert::Infallible> = kept_up.await;
        log::warn!("ssh: a boot document's host key will not be used: {error}");
        std::future::pending::<()>().await;
    }
}

fn exchange(root: &Path, key: &watch::Sender<HostKey>) {
    match choose(root) {
        Ok(other) if other != *key.borrow() => {
            log::info!("ssh: host key {}", other.fingerprint());
            key.send_replace(other);
        }
        Ok(_) => {}
        Err(error) => log::warn!("ssh: the host key stays: {}", Chain(&error)),
    }
    listener::let_go_of_start();
}

fn choose(root: &Path) -> Result<HostKey, host_key::Error> {
    match HostKey::load(root) {
        Ok(Some(key)) => return Ok(key),
        Ok(None) => {}
        Err(error) => log::warn!("ssh: making a new host key: {}", Chain(&error)),
    }
    let made = HostKey::make()?;
    if let Err(error) = made.keep(root) {
        log::warn!("ssh: the host key will change if rescue restarts: {}", Chain(&error));
    }
    Ok(made)
}

/// Tells operators what to put into their `known_hosts`, again whenever there is a new address or
/// another key.
pub(super) async fn introduce(keys: watch::Receiver<HostKey>, names: Vec<String>) {
    let told = match names.is_empty() {
        true => introduce_by_address(keys).await,
        false => introduce_by_name(keys, &names).await,
    };
    if let Err(error) = told {
        log::warn!("ssh: no line for known_hosts: {}", Chain(&*error));
    }
}

async fn introduce_by_name(
    mut keys: watch::Receiver<HostKey>,
    names: &[String],
) -> Result<(), Box<dyn Error>> {
    loop {
        tell(&keys.borrow_and_update(), names)?;
        keys.changed().await?;
    }
}

async fn introduce_by_address(mut keys: watch::Receiver<HostKey>) -> Result<(), Box<dyn Error>> {
    let mut addresses = Addresses::watch()?;
    let mut names = Vec::new();
    loop {
        tokio::select! {
            found = addresses.next() => names = found?.iter().map(ToString::to_string).collect(),
            changed = keys.changed() => changed?,
        }
        if !names.is_empty() {
            tell(&keys.borrow_and_update(), &names)?;
        }
    }
}

fn tell(host_key: &HostKey, names: &[String]) -> Result<(), Box<dyn Error>> {
    log::info!("ssh: known_hosts: {}", host_key.known_hosts(names)?);
    listener::let_go_of_start();
    Ok(())
}

/// What a report tells operators of our host key, if this machine is ours and has one: fields with
/// the key's fingerprint and with a line for `known_hosts`.
pub(crate) fn introduction() -> Vec<(&'static str, String)> {
    if Pid1::find() != Pid1::Ours {
        return vec![];
    }
    let addresses = Status::now().addresses;
    let name = |address: &Address| Some(address.address.split_once('/')?.0.to_owned());
    let names: Vec<_> = addresses.iter().filter_map(name).collect();
    introduced(Path::new("/"), &names)
}

fn introduced(root: &Path, names: &[String]) -> Vec<(&'static str, String)> {
    let Ok(Some(host_key)) = HostKey::load(root) else { return vec![] };
    let line = host_key.known_hosts(names).ok().filter(|_| !names.is_empty());
    let line = line.map(|line| ("debug.ssh_known_hosts", line));
    std::iter::once(("debug.ssh_host_key", host_key.fingerprint())).chain(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_introduces_the_key_that_operators_will_meet() {
        let root = tempfile::tempdir().unwrap();
        let names = ["192.168.0.2".to_owned(), "2001:db8::2".to_owned()];
        assert_eq!(introduced(root.path(), &names), [], "there is no key yet");
        let key = HostKey::make().unwrap();
        key.keep(root.path()).unwrap();
        let fingerprint = ("debug.ssh_host_key", key.fingerprint());
        assert_eq!(introduced(root.path(), &[]), std::slice::from_ref(&fingerprint));
        let line = ("debug.ssh_known_hosts", key.known_hosts(&names).unwrap());
        assert_eq!(introduced(root.path(), &names), [fingerprint, line]);
    }
}
