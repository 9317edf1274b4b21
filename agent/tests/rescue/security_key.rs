//! An ssh agent that holds a security key made of software, for OpenSSH's client.
//!
//! Formats: <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.u2f> and
//! <https://datatracker.ietf.org/doc/html/draft-ietf-sshm-ssh-agent>.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use russh::keys::PublicKey;
use russh::keys::signature::Signer;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::Ed25519Keypair;
use sha2::{Digest, Sha256};

const KIND: &[u8] = b"sk-ssh-ed25519@openssh.com";
const APPLICATION: &[u8] = b"ssh:";

/// The operator touched the key.
const USER_PRESENT: u8 = 1;

#[derive(Clone)]
pub(crate) struct SecurityKey(Ed25519Keypair);

impl SecurityKey {
    pub(crate) fn new() -> Self {
        Self(Ed25519Keypair::from_seed(&[7; 32]))
    }

    fn blob(&self) -> Vec<u8> {
        [KIND, &self.0.public.0, APPLICATION].into_iter().flat_map(string).collect()
    }

    pub(crate) fn public_line(&self) -> String {
        PublicKey::from_bytes(&self.blob()).unwrap().to_openssh().unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let counter = 1_u32.to_be_bytes();
        let mut signed = Sha256::digest(APPLICATION).to_vec();
        signed.push(USER_PRESENT);
        signed.extend(counter);
        signed.extend(Sha256::digest(message));
        let signature: Signature = self.0.try_sign(&signed).unwrap();
        let mut blob = [string(KIND), string(signature.as_bytes())].concat();
        blob.push(USER_PRESENT);
        blob.extend(counter);
        blob
    }

    /// Serves one client at a time until the test ends.
    pub(crate) fn serve(self, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // The client goes when it is done.
                let _end = self.converse(client);
            }
        });
    }

    fn converse(&self, mut client: UnixStream) -> io::Result<()> {
        loop {
            let mut length = [0; 4];
            client.read_exact(&mut length)?;
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            client.read_exact(&mut request)?;
            let answer = self.answer(&request);
            client.write_all(&string(&answer))?;
        }
    }

    fn answer(&self, request: &[u8]) -> Vec<u8> {
        match request {
            [11, ..] => [&[12, 0, 0, 0, 1][..], &string(&self.blob()), &string(b"test")].concat(),
            [13, rest @ ..] => {
                let (_, rest) = take_string(rest);
                let (message, _) = take_string(rest);
                [&[14][..], &string(&self.sign(message))].concat()
            }
            _ => vec![5],
        }
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn take_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first_chunk().unwrap();
    rest.split_at(u32::from_be_bytes(*length) as usize)
}
