//! Certificates, for a machine whose clock is known to be behind.
//!
//! The time of the image's build is a guess: a server's certificate may have been issued since. An
//! authority that we trust has signed when: that time has come. So what is not yet valid, and is
//! all right otherwise, puts the clock forward. Nothing puts it back, and what expires does so by
//! this clock as by any other.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::utc::Utc;

/// A certificate, its issuer, and one more on the way to a root.
const MOST_STEPS: usize = 3;

/// rustls's own verifier, asked again for a later time.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) verifier: Arc<WebPkiServerVerifier>,
    /// Puts the clock forward.
    pub(super) advance: fn(Utc),
}

impl ServerCertVerifier for Behind {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |at| {
            let verifier = &self.verifier;
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
        };
        let (mut at, mut result) = (now, verify(now));
        for _ in 0..MOST_STEPS {
            let Some(later) = result.as_ref().err().and_then(valid_from) else { break };
            (at, result) = (later, verify(later));
        }
        if result.is_ok() && at > now {
            (self.advance)(Utc(at.as_secs()));
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// When what is not yet valid will be.
fn valid_from(error: &Error) -> Option<UnixTime> {
    match error {
        Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => {
            Some(*not_before)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::RootCertStore;
    use rustls::crypto::ring::default_provider;

    use super::*;

    thread_local! {
        static CLOCK: Cell<Option<u64>> = const { Cell::new(None) };
    }

    const DAY_S: u64 = 24 * 60 * 60;
    /// 2030-01-02, when the server's certificate begins.
    const ISSUED: u64 = 1_893_542_400;
    /// Ten days later it ends.
    const EXPIRES: u64 = ISSUED + 10 * DAY_S;

    struct Chain {
        root: CertificateDer<'static>,
        server: CertificateDer<'static>,
    }

    fn chain() -> Chain {
        let (authority, server) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut root = CertificateParams::new(vec![]).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (root.not_before, root.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2050, 1, 1));
        let mut params = CertificateParams::new(["boot.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2030, 1, 2);
        params.not_after = date_time_ymd(2030, 1, 12);
        let root_der = root.self_signed(&authority).unwrap().der().clone();
        let server = params.signed_by(&server, &Issuer::from_params(&root, &authority)).unwrap();
        Chain { root: root_der, server: server.der().clone() }
    }

    /// Verifies `server` as `name` for those who trust `root`; and what became of the clock.
    fn verify(
        root: &CertificateDer<'static>,
        server: &CertificateDer<'static>,
        name: &str,
        now: u64,
    ) -> (Result<(), Error>, Option<u64>) {
        CLOCK.set(None);
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        let advance = |to: Utc| CLOCK.set(Some(to.0));
        let behind = Behind { verifier: verifier.build().unwrap(), advance };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let result = behind.verify_server_cert(server, &[], &name, &[], now);
        (result.map(drop), CLOCK.get())
    }

    #[test]
    fn a_certificate_that_was_issued_since_puts_the_clock_forward() {
        let Chain { root, server } = chain();
        for (now, clock) in [(0, Some(ISSUED)), (ISSUED - 1, Some(ISSUED)), (ISSUED, None)] {
            assert_eq!(verify(&root, &server, "boot.test", now), (Ok(()), clock), "{now}");
        }
    }

    #[test]
    fn nothing_else_is_forgiven_and_nothing_else_touches_the_clock() {
        let Chain { root, server } = chain();
        let other = chain();
        for (root, name, now) in [
            (&other.root, "boot.test", 0),
            (&root, "other.test", 0),
            (&root, "boot.test", EXPIRES + 1),
        ] {
            let (result, clock) = verify(root, &server, name, now);
            assert!(result.is_err() && clock.is_none(), "{name} at {now}: {result:?}");
        }
    }
}
