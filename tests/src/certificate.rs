//! A throw-away certificate authority, and the good and bad certificates that a server may present.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Which certificate a server presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// Signed by the authority, for the server's name, valid today.
    Good,
    /// As good, but its time is over.
    Expired,
    /// As good, but its time has not come.
    NotYetValid,
    /// Signed by the authority for another name.
    WrongName,
    /// Signed by nobody but itself.
    SelfSigned,
}

/// A certificate authority of our own.
pub struct Authority {
    key: KeyPair,
    certificate_pem: String,
}

impl Authority {
    /// Makes a new authority.
    pub fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let certificate_pem = authority_params().self_signed(&key)?.pem();
        Ok(Self { key, certificate_pem })
    }

    /// Opens the authority kept in `directory`, or makes one and keeps it there, so that images
    /// that trust it stay good.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let (key_path, pem_path) = (directory.join("ca.key"), directory.join("ca.pem"));
        if !pem_path.exists() {
            let new = Self::new()?;
            fs::create_dir_all(directory)?;
            fs::write(&key_path, new.key.serialize_pem())?;
            fs::write(&pem_path, &new.certificate_pem)?;
            return Ok(new);
        }
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self { key: KeyPair::from_pem(&read(&key_path)?)?, certificate_pem: read(&pem_path)? })
    }

    /// The authority's own certificate, for clients that are to trust it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A TLS server that presents this kind of certificate for `name`.
    pub(crate) fn server_config(
        &self,
        name: &str,
        presents: Presented,
    ) -> anyhow::Result<rustls::ServerConfig> {
        let key = KeyPair::generate()?;
        let certificate = self.certificate(name, presents, &key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?)
    }

    fn certificate(
        &self,
        name: &str,
        presents: Presented,
        key: &KeyPair,
    ) -> anyhow::Result<Certificate> {
        let name = if presents == Presented::WrongName { "another-host.test" } else { name };
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = match presents {
            Presented::Expired => (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1)),
            Presented::NotYetValid => (date_time_ymd(2098, 1, 1), date_time_ymd(2099, 1, 1)),
            _ => (date_time_ymd(2020, 1, 1), date_time_ymd(2099, 1, 1)),
        };
        Ok(match presents {
            Presented::SelfSigned => params.self_signed(key)?,
            _ => params.signed_by(key, &Issuer::from_params(&authority_params(), &self.key))?,
        })
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "stage2 test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
