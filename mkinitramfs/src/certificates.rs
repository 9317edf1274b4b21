//! Reads the CA certificates that the agent trusts for TLS.
//!
//! Only the certificates are kept: comments, and with them most of a bundle's difference from
//! machine to machine, stay out of the image.

use std::path::{Path, PathBuf};

use crate::keys::base64;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Why certificates cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read CA certificates from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file without a certificate.
    #[error("expected at least one PEM certificate in {}, got none", .0.display())]
    Empty(PathBuf),
    /// A secret that must not be packed.
    #[error("expected certificates only in {}, got a private key", .0.display())]
    PrivateKey(PathBuf),
    /// A certificate is damaged.
    #[error("expected a whole PEM certificate at {}:{line}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line of its BEGIN, counted from one.
        line: usize,
    },
}

/// Reads PEM files into one PEM text of nothing but certificates.
///
/// # Errors
/// A file cannot be read, has no certificate, a damaged one, or a private key.
pub fn read(paths: &[PathBuf]) -> Result<String, Error> {
    let mut certificates = String::new();
    for path in paths {
        let read = |source| Error::Read { path: path.clone(), source };
        certificates.push_str(&parse(path, &std::fs::read_to_string(path).map_err(read)?)?);
    }
    Ok(certificates)
}

/// How many certificates a PEM text has.
#[must_use]
pub fn count(pem: &str) -> usize {
    pem.matches(BEGIN).count()
}

fn parse(path: &Path, text: &str) -> Result<String, Error> {
    if text.contains("PRIVATE KEY-----") {
        return Err(Error::PrivateKey(path.to_owned()));
    }
    let mut certificates = String::new();
    let mut lines = text.lines().map(str::trim).enumerate();
    while let Some((index, line)) = lines.next() {
        if line != BEGIN {
            continue;
        }
        let damaged = || Error::Damaged { path: path.to_owned(), line: index + 1 };
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != END).collect();
        is_whole(&body.concat()).then_some(()).ok_or_else(damaged)?;
        certificates.push_str(&format!("{BEGIN}\n{}\n{END}\n", body.join("\n")));
    }
    if certificates.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(certificates) }
}

/// Whether base64 holds one DER sequence, as long as its header says.
fn is_whole(text: &str) -> bool {
    // 0x30: SEQUENCE; 0x82: the length follows in two bytes, as it does for every real certificate.
    match base64(text).as_deref() {
        Some([0x30, 0x82, high, low, rest @ ..]) => {
            rest.len() == usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_certificates_are_kept() {
        let certificate = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        let pem = certificate.cert.pem().replace("\r\n", "\n");
        let text = format!("# name\nsubject=x\n{pem}trailing\n");
        assert_eq!(parse(Path::new("a.pem"), &text).unwrap(), pem);
    }

    #[test]
    fn files_that_hold_something_else_are_refused_by_name() {
        for (text, expected) in [
            ("", "expected at least one PEM certificate in a.pem, got none"),
            (
                "-----BEGIN PRIVATE KEY-----",
                "expected certificates only in a.pem, got a private key",
            ),
            (
                "\n-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n",
                "expected a whole PEM certificate at a.pem:2",
            ),
            ("-----BEGIN CERTIFICATE-----\nMIIB", "expected a whole PEM certificate at a.pem:1"),
        ] {
            assert_eq!(parse(Path::new("a.pem"), text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_hosts_own_bundle_is_taken_whole() {
        let path = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        assert_eq!(count(&read(&[path]).unwrap()), count(&text));
    }
}
