//! SFTP version 3, the version that OpenSSH's `sftp` and `scp` speak.
//!
//! On entry a client is at the other end of `input` and `output`. On return it has closed its end.
//! This runs as a process of its own, so that a slow disk holds up nothing but the transfer. All
//! requests that have arrived are answered before the answers are sent: one write for many.
//!
//! Protocol: <https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02>, extensions:
//! <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL>.

mod answers;
mod attributes;
mod files;
mod packet;

use std::io::{self, BufRead, BufReader, Read, Write};

use files::Files;
use packet::{Fields, Malformed, Replies};

/// The longest read or write in one request; `limits@openssh.com` tells clients.
pub(crate) const LONGEST_TRANSFER: u32 = 255 * 1024;

/// The longest request: a write, its handle and its header.
const LONGEST_REQUEST: u32 = 256 * 1024;

/// Answers are sent when this much has gathered, even if more requests are waiting.
const ENOUGH: usize = 512 * 1024;

/// Why a conversation ended before the client ended it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot speak with the sftp client")]
    Io(#[from] io::Error),
    #[error("expected a request of 1 to {LONGEST_REQUEST} bytes, got {0}")]
    Length(u32),
    #[error("expected an sftp client that says hello first")]
    Hello(#[from] Malformed),
}

/// Answers requests until the client closes its end.
pub(crate) fn serve(input: &mut impl Read, output: &mut impl Write) -> Result<(), Error> {
    let mut input = BufReader::with_capacity(LONGEST_REQUEST as usize, input);
    let mut request = Vec::new();
    let mut replies = Replies::default();
    let mut files = Files::default();
    while read_request(&mut input, &mut request)? {
        files.answer(&mut Fields::of(&request), &mut replies)?;
        if input.buffer().is_empty() || replies.len() >= ENOUGH {
            output.write_all(replies.as_bytes())?;
            output.flush()?;
            replies.clear();
        }
    }
    Ok(())
}

fn read_request(input: &mut impl BufRead, request: &mut Vec<u8>) -> Result<bool, Error> {
    if input.fill_buf()?.is_empty() {
        return Ok(false);
    }
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if !(1..=LONGEST_REQUEST).contains(&length) {
        return Err(Error::Length(length));
    }
    request.resize(length as usize, 0);
    input.read_exact(request)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = &[0, 0, 0, 5, 1, 0, 0, 0, 3];

    fn converse(requests: &[u8]) -> (Result<(), Error>, Vec<u8>) {
        let mut output = Vec::new();
        let end = serve(&mut &*requests, &mut output);
        (end, output)
    }

    #[test]
    fn a_hello_is_answered_with_version_3() {
        let (end, output) = converse(HELLO);
        assert!(end.is_ok());
        assert_eq!(output[4..9], [2, 0, 0, 0, 3]);
    }

    #[test]
    fn a_client_that_announces_too_much_is_cut_off() {
        assert!(matches!(converse(&[0xff; 8]).0, Err(Error::Length(0xffff_ffff))));
        assert!(matches!(converse(&[0; 8]).0, Err(Error::Length(0))));
    }

    #[test]
    fn a_request_that_ends_early_is_an_error_and_not_a_panic() {
        // Every prefix of an open request, with a right length in front of it.
        let open = [3, 0, 0, 0, 7, 0, 0, 0, 4, b'/', b'n', b'o', b'n', 0, 0, 0, 1, 0, 0, 0, 0];
        for end in 1..open.len() {
            let mut requests = HELLO.to_vec();
            requests.extend(u32::try_from(end).unwrap().to_be_bytes());
            requests.extend(&open[..end]);
            let (result, output) = converse(&requests);
            let status_bad_message = output.ends_with(b"malformed request\0\0\0\0");
            assert!(result.is_err() || status_bad_message, "{end} bytes");
        }
    }
}
