//! Decides who gets in: a pure function of the keys, the proof offered, the source and the time.
//!
//! On entry the client has proved that it holds the key (for [`Access::certificate`]: and the
//! certificate's signature is good, which [`Access::certificate`] checks once more). What a
//! certificate and its authority's line allow, both, is allowed.
//!
//! Certificates: <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.certkeys>.

mod certificate;

use std::net::IpAddr;
use std::time::SystemTime;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate};

use super::authorized_keys::{Authority, AuthorizedKey, KeyOptions, Switch};
use super::pattern::Destination;
use certificate::{Demands, names_one_of};

/// The only user there is.
pub(crate) const USER: &str = "root";

/// Shorter RSA keys can be factored.
const SHORTEST_RSA_BITS: u32 = 2048;

/// The keys that the image and its documents name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    pub(crate) keys: Vec<AuthorizedKey>,
    pub(crate) revoked: Vec<KeyData>,
}

/// Where a proof comes from, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    pub(crate) source: IpAddr,
    pub(crate) now: SystemTime,
}

/// What a login may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Permissions {
    pub(crate) pty: Switch,
    pub(crate) forwarding: Switch,
    /// Empty means everywhere.
    pub(crate) permit_open: Vec<Destination>,
    /// Runs whatever the client asked for.
    pub(crate) command: Option<String>,
}

/// Why a proof was not enough.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    #[error("this key is not authorized")]
    Unknown,
    #[error("this key is revoked")]
    Revoked,
    #[error("this key is not authorized from here")]
    Source,
    #[error("this key has expired")]
    Expired,
    #[error("expected an RSA key of at least {SHORTEST_RSA_BITS} bits, got {0}")]
    Short(u32),
    #[error("ssh-rsa signatures use SHA-1")]
    Sha1,
    #[error(
        "rescue cannot see whether a security key was touched: it logs in only with \
         no-touch-required before it in authorized_keys, or in its certificate"
    )]
    Touch,
    #[error("this certificate's authority is not authorized")]
    UnknownAuthority,
    #[error("expected a user certificate")]
    NotForUsers,
    #[error("this certificate's signature is bad")]
    Signature,
    #[error("this certificate is not valid yet")]
    NotYetValid,
    #[error("this certificate names none of the principals that may log in")]
    Principal,
    #[error("this certificate demands \"{0}\", which we cannot honour")]
    CriticalOption(String),
    #[error("this certificate and its authority's line demand different commands")]
    TwoCommands,
}

impl Access {
    /// Whether a client that has this key may prove it. Whether the key comes in a certificate is
    /// not known yet: where there are authorities, any strong key may be worth proving.
    pub(crate) fn offer(
        &self,
        key: &KeyData,
        algorithm: &Algorithm,
        visit: Visit,
    ) -> Result<(), Refusal> {
        self.strong_enough(key, algorithm)?;
        match self.keys.iter().any(|key| key.options.authority != Authority::Operator) {
            true => Ok(()),
            false => self.key(key, algorithm, visit).map(drop),
        }
    }

    /// What the holder of this key may do.
    pub(crate) fn key(
        &self,
        key: &KeyData,
        algorithm: &Algorithm,
        visit: Visit,
    ) -> Result<Permissions, Refusal> {
        self.strong_enough(key, algorithm)?;
        let mut refusal = Refusal::Unknown;
        for line in self.lines(key).filter(|line| line.options.authority == Authority::Operator) {
            let admitted =
                line.options.admit(visit).and_then(|()| untouched(key, line.options.touch));
            match admitted {
                Ok(()) => return Ok(line.options.permissions()),
                Err(reason) => refusal = reason,
            }
        }
        Err(refusal)
    }

    /// What the holder of this certificate may do.
    pub(crate) fn certificate(
        &self,
        certificate: &Certificate,
        visit: Visit,
    ) -> Result<Permissions, Refusal> {
        let signed_with = certificate.signature().algorithm();
        self.strong_enough(certificate.public_key(), &signed_with)?;
        self.strong_enough(certificate.signature_key(), &signed_with)?;
        let demands = Demands::read(certificate, visit)?;
        let mut refusal = Refusal::UnknownAuthority;
        for line in self.lines(certificate.signature_key()) {
            let Authority::Certificates { principals } = &line.options.authority else { continue };
            let touch = either(line.options.touch, demands.touch());
            let admitted = line
                .options
                .admit(visit)
                .and_then(|()| names_one_of(certificate, principals))
                .and_then(|()| untouched(certificate.public_key(), touch));
            match admitted {
                Ok(()) => return demands.narrow(line.options.permissions()),
                Err(reason) => refusal = reason,
            }
        }
        Err(refusal)
    }

    fn lines(&self, key: &KeyData) -> impl Iterator<Item = &AuthorizedKey> {
        self.keys.iter().filter(move |line| line.key == *key)
    }

    fn strong_enough(&self, key: &KeyData, algorithm: &Algorithm) -> Result<(), Refusal> {
        if self.revoked.contains(key) {
            return Err(Refusal::Revoked);
        }
        if *algorithm == (Algorithm::Rsa { hash: None }) {
            return Err(Refusal::Sha1);
        }
        match key {
            KeyData::Rsa(rsa) if rsa.key_size() < SHORTEST_RSA_BITS => {
                Err(Refusal::Short(rsa.key_size()))
            }
            _ => Ok(()),
        }
    }
}

impl KeyOptions {
    fn admit(&self, visit: Visit) -> Result<(), Refusal> {
        if self.from.as_ref().is_some_and(|from| !from.contains(visit.source)) {
            return Err(Refusal::Source);
        }
        if self.expiry.is_some_and(|expiry| visit.now >= expiry) {
            return Err(Refusal::Expired);
        }
        Ok(())
    }

    fn permissions(&self) -> Permissions {
        Permissions {
            pty: self.pty,
            forwarding: self.forwarding,
            permit_open: self.permit_open.clone(),
            command: self.command.clone(),
        }
    }
}

/// russh (0.65) verifies a security key's signature and keeps to itself whether the key was touched,
/// see <https://github.com/Eugeny/russh/issues/760>. So such a key is good only where that does not
/// matter.
fn untouched(key: &KeyData, touch: Switch) -> Result<(), Refusal> {
    match key {
        KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) if touch == Switch::On => {
            Err(Refusal::Touch)
        }
        _ => Ok(()),
    }
}

fn either(one: Switch, other: Switch) -> Switch {
    if one == Switch::On || other == Switch::On { Switch::On } else { Switch::Off }
}

#[cfg(test)]
mod tests;
