//! Packets that no client would send: all that an attacker without a key can say.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::server::{Bounded, PATIENCE, Server};

/// Repeats a run: the number that a failed one has shown.
const SEED: &str = "STAGE2_FUZZ_SEED";
/// Goes on for so long instead of [`CONNECTIONS`].
const SECONDS: &str = "STAGE2_FUZZ_SECONDS";
const CONNECTIONS: u64 = 200;

/// The lists of a KEXINIT, as OpenSSH's client sends them: RFC 4253 section 7.1.
const LISTS: [&str; 10] = [
    "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com",
    "ssh-ed25519",
    "chacha20-poly1305@openssh.com",
    "chacha20-poly1305@openssh.com",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-256-etm@openssh.com",
    "none",
    "none",
    "",
    "",
];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// The bytes with a few of them changed, removed or doubled.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at..),
                _ if bytes.is_empty() => {}
                2 => bytes[at] = [0, 0x7f, 0x80, 0xff][self.below(4)],
                _ => bytes[at] = self.byte(),
            }
        }
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn key_exchange_init() -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    LISTS.iter().for_each(|list| payload.extend(string(list.as_bytes())));
    payload.extend([0; 5]);
    payload
}

/// What may come next: a key, new keys, a service, a login, a channel, anything.
fn payload(random: &mut Random) -> Vec<u8> {
    let strings = |kind: u8, strings: &[&[u8]]| {
        let mut payload = vec![kind];
        strings.iter().for_each(|bytes| payload.extend(string(bytes)));
        payload
    };
    match random.below(7) {
        0 => strings(30, &[&[9; 32]]),
        1 => vec![21],
        2 => strings(5, &[b"ssh-userauth"]),
        3 => strings(50, &[b"root", b"ssh-connection", b"none"]),
        4 => strings(90, &[b"session"]),
        5 => strings(1, &[b"bye", b""]),
        _ => (0..random.below(200)).map(|_| random.byte()).collect(),
    }
}

/// RFC 4253 section 6, before there is a cipher.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8 + 4;
    let length = u32::try_from(payload.len() + padding + 1).unwrap();
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).unwrap());
    packet.extend(payload);
    packet.extend(vec![0; padding]);
    packet
}

fn conversation(random: &mut Random) -> Vec<u8> {
    let mut bytes = b"SSH-2.0-fuzz\r\n".to_vec();
    let mut first = key_exchange_init();
    random.spoil(&mut first);
    bytes.extend(packet(&first));
    for _ in 0..random.below(4) {
        let mut next = payload(random);
        random.spoil(&mut next);
        bytes.extend(packet(&next));
    }
    if random.below(4) == 0 {
        random.spoil(&mut bytes);
    }
    bytes
}

#[test]
fn no_packet_before_a_login_hurts_the_server() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number(SEED).unwrap_or_else(|| RandomState::new().hash_one(Instant::now())).max(1);
    eprintln!("{SEED}={seed}");
    let mut random = Random(seed);
    let mut server = Server::start("");
    let deadline = number(SECONDS).map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut connections = 0;
    while deadline.map_or(connections < CONNECTIONS, |deadline| Instant::now() < deadline) {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server may close the connection at any moment.
        let _said = stream.write_all(&conversation(&mut random));
        let _closed = stream.shutdown(std::net::Shutdown::Write);
        let _answers = stream.read_to_end(&mut Vec::new());
        connections += 1;
    }
    eprintln!("{connections} connections");
    assert_eq!(server.process.try_wait().unwrap(), None, "the listener lives");
    assert_eq!(server.ssh().arg("true").code(), Some(0));
    let log = server.log();
    let worst = log.lines().find(|line| line.contains("panicked"));
    assert_eq!(worst, None);
}
