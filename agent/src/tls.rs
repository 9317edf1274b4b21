//! TLS for the fetching half: rustls with ring, and the roots that the image was packed with.
//!
//! Nothing here can be switched off: a server either proves its name or is refused. A refusal says
//! in the operator's words what is wrong and what to do about it.

mod behind;

use crate::utc::Utc;
use crate::wallclock;
use rustls::client::{ClientConfig, VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, CipherSuite, ConfigBuilder, RootCertStore, WantsVerifier};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use behind::Behind;

/// Where the image builder puts the certificates of the authorities to trust.
pub(crate) const PACKED_ROOTS: &str = "/etc/stage2/roots.pem";

/// Debian's and Ubuntu's bundle, for `epoxy_client` on a host.
const HOST_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why no server can be trusted at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file of roots cannot be read.
    #[error("cannot read the CA certificates in {}", roots.display())]
    Read {
        /// The file of roots.
        roots: PathBuf,
        /// Why not.
        source: PemError,
    },
    /// The file of roots has no usable certificate.
    #[error("expected CA certificates in {}, got none", roots.display())]
    Empty {
        /// The file of roots.
        roots: PathBuf,
    },
    /// rustls refuses our choice of algorithms.
    #[error("cannot set up TLS")]
    Setup {
        /// Why not.
        source: rustls::Error,
    },
    /// rustls refuses the roots.
    #[error("cannot set up TLS")]
    Verifier {
        /// Why not.
        source: VerifierBuilderError,
    },
}

/// Why one server is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Too late for this certificate, or the clock is wrong.
    #[error(
        "the certificate of {host} expired at {not_after} and this machine's clock shows {now}: renew the certificate, or set the clock"
    )]
    Expired {
        /// The server.
        host: String,
        /// When it expired.
        not_after: Utc,
        /// What our clock shows.
        now: Utc,
    },
    /// Too early for this certificate: nearly always the clock is wrong.
    #[error(
        "the certificate of {host} is not valid before {not_before} and this machine's clock shows {now}: set the clock"
    )]
    NotYetValid {
        /// The server.
        host: String,
        /// When it becomes valid.
        not_before: Utc,
        /// What our clock shows.
        now: Utc,
    },
    /// Nobody we trust has signed it.
    #[error(
        "the certificate of {host} is signed by no authority in {roots}: pack its CA certificate into the image"
    )]
    UnknownIssuer {
        /// The server.
        host: String,
        /// The file of roots that was used.
        roots: String,
    },
    /// It is another server's.
    #[error(
        "the certificate of {host} is valid for {names} only: use such a name in the URL, or have the certificate issued for {host}"
    )]
    WrongName {
        /// The server.
        host: String,
        /// The names in the certificate.
        names: String,
    },
    /// A CA's own certificate, as `openssl req -x509` makes it, used by a server.
    #[error(
        "the certificate of {host} is a CA's own: have it issue one for the server, and pack the CA certificate into the image"
    )]
    CaAsServer {
        /// The server.
        host: String,
    },
    /// Any other objection of rustls.
    #[error("cannot trust the certificate of {host}: {problem}")]
    Other {
        /// The server.
        host: String,
        /// In rustls's words.
        problem: String,
    },
}

/// The file of roots to use: the packed one; on a host the one that its administrator has chosen.
pub(crate) fn roots_file(packed: &Path, ssl_cert_file: Option<PathBuf>) -> PathBuf {
    if packed.exists() {
        return packed.to_owned();
    }
    ssl_cert_file.unwrap_or_else(|| HOST_ROOTS.into())
}

/// A client that trusts the authorities in `roots`, and nobody else.
///
/// Parsing the roots of a whole distribution takes a while on an emulated machine: call it when an
/// https URL is really used.
pub(crate) fn client_config(roots: &Path) -> Result<ClientConfig, Error> {
    let roots = read_roots(roots)?;
    if wallclock::is_a_guess() { behind_the_time(roots) } else { with_roots(roots) }
}

/// A client that trusts nobody, for a connection that never uses TLS.
pub(crate) fn trusting_nobody() -> Result<ClientConfig, Error> {
    with_roots(RootCertStore::empty())
}

fn with_roots(roots: RootCertStore) -> Result<ClientConfig, Error> {
    Ok(begun()?.with_root_certificates(roots).with_no_client_auth())
}

/// The same for a machine whose clock is behind.
fn behind_the_time(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()));
    let verifier = verifier.build().map_err(|source| Error::Verifier { source })?;
    let behind = Behind { verifier, advance: wallclock::advance };
    let config = begun()?.dangerous().with_custom_certificate_verifier(Arc::new(behind));
    Ok(config.with_no_client_auth())
}

fn begun() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Setup { source })
}

/// ring's algorithms, AES-128 first: it has four rounds less than AES-256, which an emulated
/// machine feels (64 MiB in 1.1 instead of 1.3 s).
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Certificates that rustls cannot use are left out, as every TLS library does with a bundle.
fn read_roots(file: &Path) -> Result<RootCertStore, Error> {
    let read_error = |source| Error::Read { roots: file.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(file)
        .map_err(read_error)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(read_error)?;
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    log::debug!("{}: {added} CA certificates, {ignored} not usable", file.display());
    match added {
        0 => Err(Error::Empty { roots: file.to_owned() }),
        _ => Ok(roots),
    }
}

/// Says why the certificate of `host` was refused; `None` if the error is about something else.
pub(crate) fn refusal(error: &rustls::Error, host: &str, roots: &Path) -> Option<Refusal> {
    let host = host.to_owned();
    let problem = match error {
        rustls::Error::InvalidCertificate(problem) => problem,
        rustls::Error::NoCertificatesPresented => {
            return Some(Refusal::Other { host, problem: "the server showed none".to_owned() });
        }
        _ => return None,
    };
    Some(match problem {
        CertificateError::ExpiredContext { time, not_after } => {
            Refusal::Expired { host, not_after: utc(*not_after), now: utc(*time) }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            Refusal::NotYetValid { host, not_before: utc(*not_before), now: utc(*time) }
        }
        CertificateError::UnknownIssuer => {
            Refusal::UnknownIssuer { host, roots: roots.display().to_string() }
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            Refusal::WrongName { host, names: names(presented) }
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => Refusal::CaAsServer { host },
        other => Refusal::Other { host, problem: other.to_string() },
    })
}

fn utc(time: UnixTime) -> Utc {
    Utc(time.as_secs())
}

/// rustls writes `DnsName("a.example")` and `IpAddress(10.0.0.1)`; people read the inner part.
fn names(presented: &[String]) -> String {
    let inner = |name: &String| {
        let value = name.split_once('(').map_or(name.as_str(), |(_, value)| value);
        value.trim_end_matches(')').trim_matches('"').to_owned()
    };
    match presented {
        [] => "no name".to_owned(),
        names => names.iter().map(inner).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;

    #[test]
    fn packed_roots_win_over_the_hosts() {
        let packed = tempfile::NamedTempFile::new().unwrap();
        let none = Path::new("/nonexistent/roots.pem");
        for (packed, variable, expected) in [
            (packed.path(), Some("/c.pem"), packed.path()),
            (none, Some("/c.pem"), Path::new("/c.pem")),
            (none, None, Path::new(HOST_ROOTS)),
        ] {
            assert_eq!(roots_file(packed, variable.map(PathBuf::from)), expected);
        }
    }

    #[test]
    fn roots_that_are_missing_or_empty_are_named() {
        let error = |path: &Path| Chain(&client_config(path).unwrap_err()).to_string();
        assert_eq!(
            error(Path::new("/nonexistent/roots.pem")),
            "cannot read the CA certificates in /nonexistent/roots.pem: \
             I/O error: No such file or directory (os error 2)"
        );
        assert_eq!(
            error(Path::new("/dev/null")),
            "expected CA certificates in /dev/null, got none"
        );
    }

    #[test]
    fn the_names_of_a_certificate_are_shown_as_people_write_them() {
        let presented = ["DnsName(\"a.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
        assert_eq!(names(&presented), "a.example, 10.0.0.1");
        assert_eq!(names(&[]), "no name");
    }
}
