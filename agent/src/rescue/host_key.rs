//! The key that proves which machine this is.
//!
//! On return there is one: that of a boot document, or the image's, or the one made earlier since
//! the machine started, or a new one. A new one is kept, so that a restarted rescue role is still the same machine to its
//! operators. No key is ever the same on two machines unless the image's owner packed it.
//!
//! Formats: <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key>, sshd(8) for the
//! `known_hosts` line.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey};
use rustix::rand::GetRandomFlags;

use crate::chain::Chain;
use crate::keyring::DOCUMENTS_HOST_KEY;

const OF_THE_IMAGE: &str = "etc/stage2/ssh_host_ed25519_key";
const CERTIFICATE: &str = "etc/stage2/ssh_host_ed25519_key-cert.pub";
const SINCE_START: &str = "run/stage2/ssh_host_ed25519_key";

/// The last line of a key file; a certificate may follow it.
const END: &str = "-----END OPENSSH PRIVATE KEY-----\n";

/// The machine's key, and what its owner signed about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostKey {
    pub(crate) key: PrivateKey,
    pub(crate) certificate: Option<Certificate>,
}

/// Why there is no host key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot understand {path}")]
    Parse { path: PathBuf, source: russh::keys::ssh_key::Error },
    #[error("expected an unencrypted host key in {path}")]
    Encrypted { path: PathBuf },
    #[error("cannot get random numbers for a host key")]
    Seed(#[source] io::Error),
    #[error("cannot write a host key down")]
    Make(#[source] russh::keys::ssh_key::Error),
    #[error("cannot keep the host key in {path}")]
    Keep { path: PathBuf, source: io::Error },
    #[error("expected a host key, got something else")]
    HandOver(#[source] Option<russh::keys::ssh_key::Error>),
    #[error("expected an ed25519 key without a passphrase: ssh-keygen -t ed25519 -N '' makes one")]
    Kind,
    #[error("expected a certificate of the host key behind it")]
    Certificate,
}

impl HostKey {
    /// The key that a boot document brought below `root`, or that of the image, or the one in use
    /// since the machine started.
    pub(crate) fn load(root: &Path) -> Result<Option<Self>, Error> {
        match read(&root.join(DOCUMENTS_HOST_KEY)) {
            Ok(Some(text)) => match Self::of_a_document(&text) {
                Ok(key) => return Ok(Some(key)),
                Err(error) => log::warn!("ssh: {DOCUMENTS_HOST_KEY}: {}", Chain(&error)),
            },
            Ok(None) => {}
            Err(error) => log::warn!("ssh: {}", Chain(&error)),
        }
        if let Some(key) = read_key(&root.join(OF_THE_IMAGE))? {
            let certificate = read_certificate(&root.join(CERTIFICATE))?;
            return Ok(Some(Self { key, certificate }));
        }
        let key = read_key(&root.join(SINCE_START))?;
        Ok(key.map(|key| Self { key, certificate: None }))
    }

    /// A key as a boot document brings it, perhaps with its certificate behind it: one that clients
    /// can know the machine by.
    pub(crate) fn of_a_document(text: &str) -> Result<Self, Error> {
        let key = Self::take_over(text)?;
        if key.key.is_encrypted() || key.key.algorithm() != Algorithm::Ed25519 {
            return Err(Error::Kind);
        }
        let public = key.key.public_key().key_data();
        match &key.certificate {
            Some(certificate) if certificate.public_key() != public => Err(Error::Certificate),
            _ => Ok(key),
        }
    }

    /// A new key.
    pub(crate) fn make() -> Result<Self, Error> {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed().map_err(Error::Seed)?));
        Ok(Self { key, certificate: None })
    }

    /// Keeps a new key below `root` until the machine restarts.
    pub(crate) fn keep(&self, root: &Path) -> Result<(), Error> {
        let path = root.join(SINCE_START);
        let text = self.key.to_openssh(LineEnding::LF).map_err(Error::Make)?;
        write_private(&path, text.as_bytes()).map_err(|source| Error::Keep { path, source })
    }

    /// As operators compare it: `SHA256:...`.
    pub(crate) fn fingerprint(&self) -> String {
        self.key.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// One line for an operator's `known_hosts`.
    pub(crate) fn known_hosts(&self, names: &[String]) -> Result<String, Error> {
        let mut key = self.key.public_key().clone();
        key.set_comment("");
        let key = key.to_openssh().map_err(Error::Make)?;
        Ok(format!("{} {}", names.join(","), key.trim_end()))
    }

    /// For a child of ours, through a pipe.
    pub(crate) fn hand_over(&self) -> Result<String, Error> {
        let mut text = self.key.to_openssh(LineEnding::LF).map_err(Error::Make)?.to_string();
        if let Some(certificate) = &self.certificate {
            text.push_str(&certificate.to_openssh().map_err(Error::Make)?);
        }
        Ok(text)
    }

    /// What [`HostKey::hand_over`] wrote.
    pub(crate) fn take_over(text: &str) -> Result<Self, Error> {
        let parse = |error| Error::HandOver(Some(error));
        let end = text.find(END).ok_or(Error::HandOver(None))? + END.len();
        let (key, certificate) = text.split_at(end);
        let certificate = match certificate.trim() {
            "" => None,
            line => Some(Certificate::from_openssh(line).map_err(parse)?),
        };
        Ok(Self { key: PrivateKey::from_openssh(key).map_err(parse)?, certificate })
    }
}

/// Not `PrivateKey::random`, which would make keys of all kinds, with 50 KiB of tables for RSA's.
///
/// The kernel waits here if it has no entropy yet; from Linux 5.6 it makes some within a second.
fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    // Up to 256 bytes come whole: getrandom(2).
    match rustix::rand::getrandom(&mut seed[..], GetRandomFlags::empty())? {
        32 => Ok(seed),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn read_key(path: &Path) -> Result<Option<PrivateKey>, Error> {
    let Some(text) = read(path)? else { return Ok(None) };
    let parse = |source| Error::Parse { path: path.to_owned(), source };
    let key = PrivateKey::from_openssh(text).map_err(parse)?;
    if key.is_encrypted() {
        return Err(Error::Encrypted { path: path.to_owned() });
    }
    Ok(Some(key))
}

fn read_certificate(path: &Path) -> Result<Option<Certificate>, Error> {
    let Some(text) = read(path)? else { return Ok(None) };
    let parse = |source| Error::Parse { path: path.to_owned(), source };
    Certificate::from_openssh(text.trim()).map(Some).map_err(parse)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Whole or not at all, and never readable by others.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let temporary = path.with_extension(format!("{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_key_is_kept_until_the_machine_restarts_and_nobody_else_reads_it() {
        let root = tempfile::tempdir().unwrap();
        assert!(HostKey::load(root.path()).unwrap().is_none());
        let made = HostKey::make().unwrap();
        made.keep(root.path()).unwrap();
        let loaded = HostKey::load(root.path()).unwrap().unwrap();
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        let mode = fs::metadata(root.path().join(SINCE_START)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn two_machines_have_two_keys() {
        assert_ne!(HostKey::make().unwrap().fingerprint(), HostKey::make().unwrap().fingerprint());
    }

    #[test]
    fn a_child_gets_the_same_key() {
        let made = HostKey::make().unwrap();
        let taken = HostKey::take_over(&made.hand_over().unwrap()).unwrap();
        assert_eq!(taken.key, made.key);
        assert!(HostKey::take_over("").is_err());
    }

    #[test]
    fn the_known_hosts_line_names_the_machine_and_has_no_comment() {
        let made = HostKey::make().unwrap();
        let line = made.known_hosts(&["192.168.0.2".into(), "node1".into()]).unwrap();
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words[..2], ["192.168.0.2,node1", "ssh-ed25519"]);
        assert_eq!(words.len(), 3);
    }
}
