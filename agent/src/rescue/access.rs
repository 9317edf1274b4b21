//! Decides who gets in: a pure function of the keys, the proof offered, the source and the time.
//!
//! On entry the client has proved that it holds the key (for [`Access::certificate`]: and the
//! certificate's signature is good, which [`Access::certificate`] checks once more). What a
//! certificate and its authority's line allow, both, is allowed.
//!
//! Certificates: <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.certkeys>.

use std::net::IpAddr;
use std::time::SystemTime;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate};

use super::authorized_keys::{Authority, AuthorizedKey, KeyOptions, Switch};
use super::pattern::{Destination, SourceList};

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
    /// Whether a certificate could be good at all.
    pub(crate) fn knows_an_authority(&self) -> bool {
        self.keys.iter().any(|key| key.options.authority != Authority::Operator)
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
            match line.options.admit(visit) {
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
            let admitted =
                line.options.admit(visit).and_then(|()| names_one_of(certificate, principals));
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

/// A certificate that names nobody is refused: it would be good for every account of the fleet.
fn names_one_of(certificate: &Certificate, principals: &[String]) -> Result<(), Refusal> {
    let wanted = |name: &String| match principals {
        [] => name == USER,
        principals => principals.contains(name),
    };
    if certificate.valid_principals().iter().any(wanted) { Ok(()) } else { Err(Refusal::Principal) }
}

/// What a certificate itself says about its use.
struct Demands {
    command: Option<String>,
    pty: Switch,
    forwarding: Switch,
}

impl Demands {
    fn read(certificate: &Certificate, visit: Visit) -> Result<Self, Refusal> {
        if certificate.cert_type() != CertType::User {
            return Err(Refusal::NotForUsers);
        }
        certificate.verify_signature().map_err(|_| Refusal::Signature)?;
        in_its_time(certificate, visit.now)?;
        let extension = |name| match certificate.extensions().contains_key(name) {
            true => Switch::On,
            false => Switch::Off,
        };
        let mut demands = Self {
            command: None,
            pty: extension("permit-pty"),
            forwarding: extension("permit-port-forwarding"),
        };
        for (name, value) in certificate.critical_options().iter() {
            match name.as_str() {
                "force-command" => demands.command = Some(value.clone()),
                "source-address" => from_one_of(value, visit.source)?,
                _ => return Err(Refusal::CriticalOption(name.clone())),
            }
        }
        Ok(demands)
    }

    fn narrow(self, line: Permissions) -> Result<Permissions, Refusal> {
        let command = match (line.command, self.command) {
            (Some(ours), Some(theirs)) if ours != theirs => return Err(Refusal::TwoCommands),
            (ours, theirs) => ours.or(theirs),
        };
        Ok(Permissions {
            pty: both(line.pty, self.pty),
            forwarding: both(line.forwarding, self.forwarding),
            permit_open: line.permit_open,
            command,
        })
    }
}

fn in_its_time(certificate: &Certificate, now: SystemTime) -> Result<(), Refusal> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds < certificate.valid_after() {
        return Err(Refusal::NotYetValid);
    }
    if seconds >= certificate.valid_before() {
        return Err(Refusal::Expired);
    }
    Ok(())
}

fn from_one_of(networks: &str, source: IpAddr) -> Result<(), Refusal> {
    let networks: SourceList =
        networks.parse().map_err(|_| Refusal::CriticalOption("source-address".to_owned()))?;
    if networks.contains(source) { Ok(()) } else { Err(Refusal::Source) }
}

fn both(one: Switch, other: Switch) -> Switch {
    if one == Switch::On && other == Switch::On { Switch::On } else { Switch::Off }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;
    use russh::keys::ssh_key::private::Ed25519Keypair;

    use super::*;
    use crate::rescue::authorized_keys;

    const NOW: u64 = 1_800_000_000;

    fn private(seed: u8) -> PrivateKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
    }

    fn visit() -> Visit {
        Visit {
            source: [192, 0, 2, 7].into(),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
        }
    }

    fn access(options: &str, key: &PrivateKey) -> Access {
        let line = format!("{options} {}", key.public_key().to_openssh().unwrap());
        let (keys, errors) = authorized_keys::parse(line.trim());
        assert_eq!(errors, []);
        Access { keys, revoked: vec![] }
    }

    fn everything() -> Permissions {
        Permissions { pty: Switch::On, forwarding: Switch::On, permit_open: vec![], command: None }
    }

    fn builder() -> Builder {
        let public = private(2).public_key().key_data().clone();
        let mut builder = Builder::new(vec![1; 16], public, NOW - 10, NOW + 10).unwrap();
        builder.key_id("operator").unwrap();
        builder
    }

    fn signed(build: impl FnOnce(&mut Builder)) -> Certificate {
        let mut builder = builder();
        build(&mut builder);
        builder.sign(&private(1)).unwrap()
    }

    #[test]
    fn a_key_is_judged_by_its_line() {
        let ours = private(1);
        let table = [
            ("", Ok(everything())),
            ("no-pty", Ok(Permissions { pty: Switch::Off, ..everything() })),
            ("from=\"192.0.2.0/24\"", Ok(everything())),
            ("from=\"198.51.100.0/24\"", Err(Refusal::Source)),
            ("expiry-time=20200101", Err(Refusal::Expired)),
            ("cert-authority", Err(Refusal::Unknown)),
        ];
        for (options, expected) in table {
            let access = access(options, &ours);
            let key = ours.public_key().key_data();
            assert_eq!(access.key(key, &Algorithm::Ed25519, visit()), expected, "{options}");
        }
    }

    #[test]
    fn a_key_that_no_line_names_is_refused_and_so_is_a_revoked_one() {
        let (ours, other) = (private(1), private(3));
        let mut access = access("", &ours);
        let verdict = |access: &Access, key: &PrivateKey| {
            access.key(key.public_key().key_data(), &Algorithm::Ed25519, visit())
        };
        assert_eq!(verdict(&access, &other), Err(Refusal::Unknown));
        access.revoked.push(ours.public_key().key_data().clone());
        assert_eq!(verdict(&access, &ours), Err(Refusal::Revoked));
    }

    #[test]
    fn the_first_line_that_admits_a_key_decides() {
        let ours = private(1);
        let mut both = access("from=\"198.51.100.1\"", &ours);
        both.keys.extend(access("no-pty", &ours).keys);
        let expected = Ok(Permissions { pty: Switch::Off, ..everything() });
        assert_eq!(both.key(ours.public_key().key_data(), &Algorithm::Ed25519, visit()), expected);
    }

    #[test]
    fn a_sha1_signature_is_refused() {
        let ours = private(1);
        let sha1 = Algorithm::Rsa { hash: None };
        let verdict = access("", &ours).key(ours.public_key().key_data(), &sha1, visit());
        assert_eq!(verdict, Err(Refusal::Sha1));
    }

    #[test]
    fn a_certificate_allows_what_it_and_its_authority_allow() {
        let nothing = Permissions { pty: Switch::Off, forwarding: Switch::Off, ..everything() };
        type Build = fn(&mut Builder) -> &mut Builder;
        let root: Build = |b| b.valid_principal("root").unwrap();
        let table: [(&str, Build, Result<Permissions, Refusal>); 12] = [
            ("cert-authority", root, Ok(nothing.clone())),
            (
                "cert-authority",
                |b| b.valid_principal("root").unwrap().extension("permit-pty", "").unwrap(),
                Ok(Permissions { pty: Switch::On, ..nothing.clone() }),
            ),
            (
                "cert-authority,no-pty",
                |b| b.valid_principal("root").unwrap().extension("permit-pty", "").unwrap(),
                Ok(nothing.clone()),
            ),
            (
                "cert-authority",
                |b| {
                    b.valid_principal("root")
                        .unwrap()
                        .critical_option("force-command", "id")
                        .unwrap()
                },
                Ok(Permissions { command: Some("id".into()), ..nothing.clone() }),
            ),
            (
                "cert-authority,command=\"uptime\"",
                |b| {
                    b.valid_principal("root")
                        .unwrap()
                        .critical_option("force-command", "id")
                        .unwrap()
                },
                Err(Refusal::TwoCommands),
            ),
            (
                "cert-authority",
                |b| {
                    b.valid_principal("root")
                        .unwrap()
                        .critical_option("source-address", "10.0.0.0/8")
                        .unwrap()
                },
                Err(Refusal::Source),
            ),
            (
                "cert-authority",
                |b| {
                    b.valid_principal("root")
                        .unwrap()
                        .critical_option("verify-required", "")
                        .unwrap()
                },
                Err(Refusal::CriticalOption("verify-required".into())),
            ),
            ("cert-authority", |b| b.valid_principal("alice").unwrap(), Err(Refusal::Principal)),
            ("cert-authority", |b| b.all_principals_valid().unwrap(), Err(Refusal::Principal)),
            (
                "cert-authority,principals=\"ops\"",
                |b| b.valid_principal("ops").unwrap(),
                Ok(nothing.clone()),
            ),
            ("cert-authority,principals=\"ops\"", root, Err(Refusal::Principal)),
            ("", root, Err(Refusal::UnknownAuthority)),
        ];
        for (row, (options, build, expected)) in table.into_iter().enumerate() {
            let certificate = signed(|builder| {
                build(builder);
            });
            let verdict = access(options, &private(1)).certificate(&certificate, visit());
            assert_eq!(verdict, expected, "row {row}: {options}");
        }
    }

    #[test]
    fn a_certificate_is_good_only_in_its_time() {
        let certificate = signed(|builder| {
            builder.valid_principal("root").unwrap();
        });
        let access = access("cert-authority", &private(1));
        let at = |seconds| Visit {
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            ..visit()
        };
        let verdict = |seconds| access.certificate(&certificate, at(seconds)).map(|_| ());
        assert_eq!(verdict(NOW - 11), Err(Refusal::NotYetValid));
        assert_eq!(verdict(NOW - 10), Ok(()));
        assert_eq!(verdict(NOW + 9), Ok(()));
        assert_eq!(verdict(NOW + 10), Err(Refusal::Expired));
    }

    #[test]
    fn a_host_certificate_and_those_of_revoked_keys_are_refused() {
        let host = signed(|builder| {
            builder.cert_type(CertType::Host).unwrap().valid_principal("root").unwrap();
        });
        let user = signed(|builder| {
            builder.valid_principal("root").unwrap();
        });
        let mut access = access("cert-authority", &private(1));
        assert_eq!(access.certificate(&host, visit()), Err(Refusal::NotForUsers));
        for revoked in [private(1), private(2)] {
            access.revoked = vec![revoked.public_key().key_data().clone()];
            assert_eq!(access.certificate(&user, visit()), Err(Refusal::Revoked));
        }
    }
}
