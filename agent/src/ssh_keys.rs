//! Fetches the public keys of operators from the address on the kernel command line.
//!
//! On return they are where the ssh server looks at each login: all that came, or what was there
//! before. Keys that came from one address stay until there are others from the next one, so that a
//! slip in the address locks nobody out; without an address there are none. Only https will do, whatever the image's policy says of boot documents: who can change
//! this file can log in.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_types::digest::{ParseDigestError, Sha256Digest};
use agent_types::params::{SSH_KEYS, SSH_KEYS_SHA256, SshKeys};
use sha2::{Digest as _, Sha256};

use crate::chain::Chain;
use crate::clock::Clock;
use crate::fetch::{self, Document, Fetch, shown_text};
use crate::keyring::{self, Change};
use crate::rescue::authorized_keys;
use crate::retry::{Backoff, Transient, Tries};

/// A machine that does not boot needs its operators most: there is no end.
const TRIES: Backoff = Backoff {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(60),
    deadline: Duration::MAX,
};

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("keys of operators come over https only: {0}")]
    NotHttps(String),
    #[error("cannot use {SSH_KEYS_SHA256}")]
    NoDigest(#[source] ParseDigestError),
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    #[error("{url}: expected sha256 {expected}, got {got}")]
    Digest { url: String, expected: Sha256Digest, got: Sha256Digest },
    #[error("{url}: expected public keys, got none")]
    NoKeys { url: String },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Transient for Error {
    /// Servers and their files get mended; a command line does not change.
    fn is_transient(&self) -> bool {
        !matches!(self, Self::NotHttps(_) | Self::NoDigest(_))
    }
}

/// Puts the keys into `file`, as soon as the server has them.
pub(crate) async fn bring(fetch: &impl Fetch, clock: &impl Clock, keys: &SshKeys, file: &Path) {
    let mut tries = Tries::new(clock, TRIES);
    let (mut result, url) = (bring_once(fetch, keys, file).await, shown_text(&keys.url));
    while let Err(error) = result {
        if let Err(error) = tries.pause_after("ssh keys", error).await {
            return log::error!("ssh keys: {}", Chain(&error));
        }
        result = bring_once(fetch, keys, file).await;
    }
    log::info!("ssh: {} from {url} may log in", counted(result.unwrap_or_default()));
}

/// No address is named any more: takes back the keys that an earlier one has brought.
pub(crate) fn take_back(file: &Path) {
    match keyring::remove(file) {
        Ok(Change::Changed) => log::warn!("ssh: the keys of an earlier {SSH_KEYS} are taken back"),
        Ok(Change::None) => {}
        Err(error) => log::warn!("ssh: cannot remove {}: {error}", file.display()),
    }
}

fn counted(keys: usize) -> String {
    format!("{keys} {}", if keys == 1 { "key" } else { "keys" })
}

/// How many keys there are now.
async fn bring_once(fetch: &impl Fetch, keys: &SshKeys, file: &Path) -> Result<usize, Error> {
    let url = shown_text(&keys.url);
    let scheme = keys.url.get(..6).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("https:") {
        return Err(Error::NotHttps(url));
    }
    let expected = keys.sha256.as_deref().map(str::parse).transpose().map_err(Error::NoDigest)?;
    // A redirect never leads from https to plain http.
    let bytes = fetch.document(Document::Chain, &keys.url).await?.bytes;
    let got = Sha256Digest::from(<[u8; 32]>::from(Sha256::digest(&bytes)));
    if let Some(expected) = expected.filter(|expected| *expected != got) {
        return Err(Error::Digest { url, expected, got });
    }
    let (usable, errors) = authorized_keys::parse(&String::from_utf8_lossy(&bytes));
    errors.iter().for_each(|error| log::warn!("ssh keys: {url}: {}", Chain(error)));
    if usable.is_empty() {
        return Err(Error::NoKeys { url });
    }
    keyring::replace(file, &bytes)
        .map_err(|source| Error::Write { path: file.to_owned(), source })?;
    Ok(usable.len())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::clock::FakeClock;
    use crate::fetch::test_server::{Flaw, Server, answer};
    use crate::fetch::{Https, Settings};
    use crate::policy::Policy;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDqtoD3k7XvyZTEZ1iVCG60UXR1bfDE5j9uoWTHBcLTV";

    fn https(server: &Server) -> Https {
        let policy = Policy { plain_http_documents: true, ..Policy::default() };
        Https::new(Settings::new("1.2", policy, server.roots.clone()))
    }

    fn keys(server: &Server, sha256: Option<&str>) -> SshKeys {
        SshKeys { url: format!("{}/keys", server.base), sha256: sha256.map(str::to_owned) }
    }

    fn sha256(text: &str) -> String {
        Sha256Digest::from(<[u8; 32]>::from(Sha256::digest(text))).to_string()
    }

    /// What the file holds afterwards, and what was said.
    async fn bring_over(old: &str, server: &Server, sha256: Option<&str>) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("authorized_keys");
        fs::write(&file, old).unwrap();
        let brought = bring_once(&https(server), &keys(server, sha256), &file).await;
        let said = match brought {
            Ok(count) => counted(count),
            Err(error) => Chain(&error).to_string().replace(&server.base, "BASE"),
        };
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
        (fs::read_to_string(file).unwrap(), said)
    }

    #[tokio::test]
    async fn the_keys_are_replaced_by_verified_ones_or_stay() {
        let two = format!("{KEY}\n# none\nverify-required {KEY}\nno-pty {KEY}\n");
        let page = "<html>log in first</html>";
        let right = sha256(&two);
        let wrong = format!("BASE/keys: expected sha256 {right}, got {}", sha256(page));
        let short = "cannot use epoxy.ssh_keys_sha256: expected 64 hexadecimal digits, \
                     got 2 characters";
        for (body, digest, is_taken, said) in [
            (two.as_str(), None, true, "2 keys"),
            (two.as_str(), Some(right.as_str()), true, "2 keys"),
            (page, None, false, "BASE/keys: expected public keys, got none"),
            (page, Some(right.as_str()), false, wrong.as_str()),
            (two.as_str(), Some("0a"), false, short),
        ] {
            let text = body.to_owned();
            let answered = move |_: &_| answer("200 OK", &[], text.as_bytes());
            let server = Server::tls(Flaw::None, answered).await;
            let expected = if is_taken { body } else { "old" };
            let brought = bring_over("old", &server, digest).await;
            assert_eq!(brought, (expected.to_owned(), said.to_owned()));
        }
    }

    #[tokio::test]
    async fn a_server_that_has_not_proved_its_name_gives_no_keys() {
        let key = |_: &_| answer("200 OK", &[], KEY.as_bytes());
        let plain = Server::plain(key).await;
        let said = "keys of operators come over https only: BASE/keys".to_owned();
        assert_eq!(bring_over("", &plain, Some(&sha256(KEY))).await, (String::new(), said));
        assert!(plain.asked().is_empty(), "it was not even asked");
        let other = Server::tls(Flaw::UnknownIssuer, key).await;
        let (file, said) = bring_over("", &other, None).await;
        assert!(file.is_empty() && said.contains("is signed by no authority"), "{said}");
    }

    #[tokio::test]
    async fn a_server_is_asked_until_it_has_the_keys_and_a_wrong_address_is_not() {
        let asked = AtomicUsize::new(0);
        let third_time_lucky = move |_: &_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => answer("404 Not Found", &[], b""),
            1 => answer("200 OK", &[], b"soon"),
            _ => answer("200 OK", &[], KEY.as_bytes()),
        };
        let server = Server::tls(Flaw::None, third_time_lucky).await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("run/authorized_keys");
        let clock = FakeClock::new();
        bring(&https(&server), &clock, &keys(&server, None), &file).await;
        assert_eq!(
            (fs::read_to_string(&file).unwrap().as_str(), clock.slept_secs()),
            (KEY, vec![2, 4])
        );
        let nowhere = SshKeys { url: "ftp://host/keys".to_owned(), sha256: None };
        bring(&https(&server), &clock, &nowhere, &file).await;
        assert_eq!(clock.slept_secs(), [2, 4]);
    }
}
