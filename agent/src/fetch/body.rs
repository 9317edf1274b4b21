//! The body of an answer as it arrives.

use super::error::{Cause, Error, Received, root};
use bytes::Bytes;
use std::time::Duration;

/// Proof that each byte came from the server that was asked: every request since the first, and so
/// every redirect, went over verified TLS. Only this module's parent makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverTls(pub(super) ());

/// Where to go on with a file that was begun, if it is still the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    /// What is there already.
    pub(crate) from_bytes: u64,
    /// What the server called this version of the file: `ETag` or `Last-Modified`.
    pub(crate) validator: String,
}

/// The body of an answer: a file from `start_bytes` to its end.
#[derive(Debug)]
pub(crate) struct Body {
    /// The URL that has answered, as it may be shown.
    pub(crate) url: String,
    /// Where the body begins in the file; 0 unless the server agreed to resume.
    pub(crate) start_bytes: u64,
    /// Length of the whole file, if the server has told it.
    pub(crate) total_bytes: Option<u64>,
    /// What the server calls this version of the file, if it can resume.
    pub(crate) validator: Option<String>,
    /// Whether the server has proved its name.
    pub(crate) over_tls: Option<OverTls>,
    pub(super) received_bytes: u64,
    pub(super) stall: Duration,
    pub(super) response: reqwest::Response,
}

impl Body {
    /// The next bytes, or `None` when all that the server has promised have come.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = match tokio::time::timeout(self.stall, self.response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => return Err(self.error(self.broken(&error))),
            Err(_) => return Err(self.error(self.stalled())),
        };
        self.received_bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }

    fn error(&self, cause: Cause) -> Error {
        Error { method: "GET".to_owned(), url: self.url.clone(), cause }
    }

    fn received(&self) -> Received {
        let bytes = self.start_bytes + self.received_bytes;
        Received { bytes, total_bytes: self.total_bytes }
    }

    fn stalled(&self) -> Cause {
        Cause::Stalled { quiet: self.stall, received: self.received() }
    }

    /// A server that closes the connection early has sent a short body; everything else that can
    /// happen to a connection comes with an error of the kernel or of TLS.
    fn broken(&self, error: &reqwest::Error) -> Cause {
        let source = root(error);
        let received = self.received();
        match source.raw_os_error() {
            None if is_early_end(&source.to_string()) => Cause::Short(received),
            _ => Cause::Broken { received, source },
        }
    }
}

/// In the words of hyper (both kinds of body) and of rustls (no `close_notify`).
fn is_early_end(words: &str) -> bool {
    ["end of file before message length", "unexpected EOF during chunk", "close_notify"]
        .iter()
        .any(|known| words.contains(known))
}
