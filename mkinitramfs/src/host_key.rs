//! The key by which operators know the machines that boot the image.
//!
//! It is checked as far as rescue needs it: an unencrypted ed25519 key in OpenSSH's own format, and
//! a certificate that is about this key. A wrong file fails the build and not the rescue.
//!
//! <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key> and `PROTOCOL.certkeys`.

use std::path::{Path, PathBuf};

use crate::keys::base64;
use crate::spec::SshSpec;

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const KEY_TYPE: &[u8] = b"ssh-ed25519";
const CERTIFICATE_TYPE: &str = "ssh-ed25519-cert-v01@openssh.com";
/// What a certificate is of; of a user it is 1.
const HOST: u32 = 2;

/// The files as they are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostKey {
    pub(crate) private: String,
    pub(crate) certificate: Option<String>,
}

/// Why a host key cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read the host key {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no private key that rescue can use.
    #[error("cannot take {} as a host key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The certificate is none, or not about the key.
    #[error("expected a certificate of the host key, made with `ssh-keygen -h`, in {}", .0.display())]
    Certificate(PathBuf),
    /// A certificate alone.
    #[error("expected ssh.host_key beside ssh.host_certificate")]
    CertificateAlone,
}

/// What is wrong with a private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another format.
    #[error("expected a private key that begins with {BEGIN}: ssh-keygen -t ed25519 makes one")]
    Format,
    /// Nobody can type a passphrase at boot.
    #[error("expected a private key without a passphrase")]
    Encrypted,
    /// Rescue has one kind of host key.
    #[error("expected an ed25519 key")]
    OtherType,
}

impl HostKey {
    /// Reads and checks what the specification names, if it does.
    pub(crate) fn read(spec: &SshSpec) -> Result<Option<Self>, Error> {
        let Some(path) = &spec.host_key else {
            return spec
                .host_certificate
                .as_ref()
                .map_or(Ok(None), |_| Err(Error::CertificateAlone));
        };
        let private = read(path)?;
        let public =
            public_key(&private).map_err(|source| Error::Key { path: path.clone(), source })?;
        let certificate = spec.host_certificate.as_deref().map(|path| certificate(path, &public));
        Ok(Some(Self { private, certificate: certificate.transpose()? }))
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// The 32 bytes of the public half, which is not encrypted in any case.
fn public_key(text: &str) -> Result<Vec<u8>, KeyError> {
    let text = text.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
    let text: String = text.ok_or(KeyError::Format)?.split_ascii_whitespace().collect();
    let bytes = base64(&text).ok_or(KeyError::Format)?;
    let rest = bytes.strip_prefix(MAGIC).ok_or(KeyError::Format)?;
    let (cipher, rest) = string(rest).ok_or(KeyError::Format)?;
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    let (_derivation, rest) = string(rest).ok_or(KeyError::Format)?;
    let (_options, rest) = string(rest).ok_or(KeyError::Format)?;
    // The number of keys in the file is always one.
    let rest = rest.strip_prefix(&1_u32.to_be_bytes()).ok_or(KeyError::Format)?;
    let (public, _) = string(rest).ok_or(KeyError::Format)?;
    match string(public) {
        Some((KEY_TYPE, rest)) => match string(rest) {
            Some((key, [])) => Ok(key.to_owned()),
            _ => Err(KeyError::Format),
        },
        _ => Err(KeyError::OtherType),
    }
}

fn certificate(path: &Path, public: &[u8]) -> Result<String, Error> {
    let text = read(path)?;
    let mut words = text.split_ascii_whitespace();
    let is_certificate = words.next() == Some(CERTIFICATE_TYPE);
    let bytes = words.next().and_then(base64).filter(|_| is_certificate).unwrap_or_default();
    match certified(&bytes) {
        Some((key, HOST)) if key == public => Ok(text),
        _ => Err(Error::Certificate(path.to_owned())),
    }
}

/// The key, and of what it is: a certificate is its type, a nonce, the key, a serial number, and what
/// is said about it.
fn certified(certificate: &[u8]) -> Option<(&[u8], u32)> {
    let (_kind, rest) = string(certificate)?;
    let (_nonce, rest) = string(rest)?;
    let (key, rest) = string(rest)?;
    let (_serial, rest) = rest.split_first_chunk::<8>()?;
    let (of, _) = rest.split_first_chunk::<4>()?;
    Some((key, u32::from_be_bytes(*of)))
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// Makes keys with OpenSSH's own program.
    fn keygen(words: &[&str], path: &Path) {
        let mut keygen = Command::new("ssh-keygen");
        assert!(keygen.arg("-q").args(words).arg(path).status().unwrap().success());
    }

    fn outcome(key: &Path, certificate: Option<&Path>) -> String {
        let spec = SshSpec {
            host_key: Some(key.to_owned()),
            host_certificate: certificate.map(Path::to_owned),
        };
        match HostKey::read(&spec) {
            Ok(key) => format!("{}", key.is_some_and(|key| key.certificate.is_some())),
            Err(Error::Key { source, .. }) => source.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_keys_that_rescue_can_use_are_packed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        keygen(&["-t", "ed25519", "-N", "", "-f"], &path("good"));
        keygen(&["-t", "ed25519", "-N", "secret", "-f"], &path("encrypted"));
        keygen(&["-t", "ecdsa", "-N", "", "-f"], &path("ecdsa"));
        keygen(&["-t", "ed25519", "-N", "", "-f"], &path("other"));
        let ca = path("other");
        for name in ["good", "ecdsa"] {
            let sign = ["-h", "-I", "fleet", "-s", ca.to_str().unwrap()];
            keygen(&sign, &path(&format!("{name}.pub")));
        }
        fs::copy(path("good.pub"), path("user.pub")).unwrap();
        keygen(&["-I", "fleet", "-s", ca.to_str().unwrap()], &path("user.pub"));
        let certificate_error = |name: &str| {
            format!(
                "expected a certificate of the host key, made with `ssh-keygen -h`, in {}",
                path(name).display()
            )
        };
        for (key, certificate, expected) in [
            ("good", None, "false".to_owned()),
            ("good", Some("good-cert.pub"), "true".to_owned()),
            ("good", Some("user-cert.pub"), certificate_error("user-cert.pub")),
            ("good", Some("good.pub"), certificate_error("good.pub")),
            ("good", Some("ecdsa-cert.pub"), certificate_error("ecdsa-cert.pub")),
            ("other", Some("good-cert.pub"), certificate_error("good-cert.pub")),
            ("encrypted", None, KeyError::Encrypted.to_string()),
            ("ecdsa", None, KeyError::OtherType.to_string()),
            ("good.pub", None, KeyError::Format.to_string()),
            ("none", None, format!("cannot read the host key {}", path("none").display())),
        ] {
            let certificate = certificate.map(path);
            assert_eq!(outcome(&path(key), certificate.as_deref()), expected, "{key}");
        }
    }

    #[test]
    fn a_certificate_needs_its_key_and_no_key_is_needed() {
        assert_eq!(HostKey::read(&SshSpec::default()).unwrap(), None);
        let alone = SshSpec { host_certificate: Some("c".into()), ..SshSpec::default() };
        assert!(matches!(HostKey::read(&alone), Err(Error::CertificateAlone)));
    }
}
