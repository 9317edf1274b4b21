//! What is offered to clients, and the limits of a connection.
//!
//! Only what today's clients need: each algorithm more is code that an attacker can reach.

use std::time::Duration;

use russh::keys::{Algorithm, HashAlg};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId};

use crate::rescue::flow::{PACKET_BYTES, WINDOW_BYTES};
use crate::rescue::host_key::HostKey;

/// Refused proofs before the connection ends; the first try of every client is `none`.
const MOST_TRIES: usize = 1 + 6;

/// Messages that wait for the task of a channel. If they were ever so many, the whole connection would
/// stand still; `Line::take` slows a client down long before that.
const MESSAGES_PER_CHANNEL: usize = 1 << 16;

/// Output that waits for the connection: a whole window of OpenSSH's client for four channels, so
/// that a channel waits for its client and not for the others.
const MESSAGES_OF_CONNECTION: usize = 256;

/// A client whose machine died has this many chances to say that it lives.
const MOST_MISSED: u32 = 10;

const KEY_EXCHANGES: &[russh::kex::Name] = &[
    russh::kex::MLKEM768X25519_SHA256,
    russh::kex::CURVE25519,
    russh::kex::CURVE25519_PRE_RFC_8731,
    russh::kex::EXTENSION_SUPPORT_AS_SERVER,
    russh::kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[russh::cipher::Name] =
    &[russh::cipher::CHACHA20_POLY1305, russh::cipher::AES_256_GCM];

/// Not used with our ciphers, but a client must find one it knows.
const MACS: &[russh::mac::Name] = &[russh::mac::HMAC_SHA512_ETM, russh::mac::HMAC_SHA256_ETM];

const COMPRESSIONS: &[russh::compression::Name] = &[russh::compression::NONE];

/// What clients may sign with; the host signs with the first.
fn signatures() -> Vec<Algorithm> {
    use russh::keys::EcdsaCurve::{NistP256, NistP384, NistP521};
    vec![
        Algorithm::Ed25519,
        Algorithm::SkEd25519,
        Algorithm::Ecdsa { curve: NistP256 },
        Algorithm::Ecdsa { curve: NistP384 },
        Algorithm::Ecdsa { curve: NistP521 },
        Algorithm::SkEcdsaSha2NistP256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

/// The configuration of a connection whose client may be silent for `patience`.
pub(super) fn config(host_key: HostKey, patience: Duration) -> Config {
    Config {
        server_id: SshId::Standard("SSH-2.0-stage2".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // There is no password that the time to refuse it could tell something about.
        auth_rejection_time: Duration::ZERO,
        keys: vec![host_key.key],
        certificates: host_key.certificate.into_iter().collect(),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        channel_buffer_size: MESSAGES_PER_CHANNEL,
        event_buffer_size: MESSAGES_OF_CONNECTION,
        preferred: Preferred {
            kex: KEY_EXCHANGES.into(),
            key: signatures().into(),
            cipher: CIPHERS.into(),
            mac: MACS.into(),
            compression: COMPRESSIONS.into(),
            ..Preferred::DEFAULT
        },
        max_auth_attempts: MOST_TRIES,
        inactivity_timeout: None,
        keepalive_interval: Some(patience / MOST_MISSED),
        keepalive_max: MOST_MISSED as usize,
        nodelay: true,
        ..Config::default()
    }
}
