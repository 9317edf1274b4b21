//! Why a request failed, in the operator's words, and whether it is worth another try.

use super::names;
use super::redirect;
use crate::retry::Transient;
use crate::size::Size;
use crate::tls;
use reqwest::StatusCode;
use std::io;
use std::time::Duration;

/// A request that failed: `cannot GET https://host/path: HTTP 404 Not Found`.
#[derive(Debug, thiserror::Error)]
#[error("cannot {method} {url}")]
pub(crate) struct Error {
    /// The HTTP method, or `READ` for a file.
    pub(crate) method: String,
    /// The URL as it may be shown.
    pub(crate) url: String,
    /// What went wrong.
    #[source]
    pub(crate) cause: Cause,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// Not something that we can fetch.
    #[error("expected an http or https URL")]
    Url,
    /// The image's policy forbids it.
    #[error(
        "plain http is refused for boot documents: use https, or set plain_http_documents in the image's spec"
    )]
    PlainHttp,
    /// TLS cannot be used at all.
    #[error(transparent)]
    Tls(tls::Error),
    /// The HTTP client could not be made.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] io::Error),
    /// The server has not proved its name.
    #[error(transparent)]
    Certificate(tls::Refusal),
    /// The server and we do not agree about TLS.
    #[error("cannot agree on TLS")]
    Handshake(#[source] rustls::Error),
    /// The host has no address.
    #[error(transparent)]
    Resolve(names::Error),
    /// No connection.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// The server has taken the request and is silent.
    #[error("no answer within {0:.0?}")]
    NoAnswer(Duration),
    /// The connection ended before the answer.
    #[error("cannot get an answer")]
    Answer(#[source] io::Error),
    /// The server has answered that it will not.
    #[error("HTTP {0}")]
    Status(StatusCode),
    /// A piece of something, which was not asked for.
    #[error("expected all of it, got a part (HTTP 206)")]
    UnaskedPart,
    /// The server has sent us where we do not go.
    #[error(transparent)]
    Redirect(redirect::Refusal),
    /// More than a document may have.
    #[error("expected at most {0} of document, got more")]
    TooLong(Size),
    /// Not finished in all the time that it may take.
    #[error("not finished within {0:.0?}")]
    TooSlow(Duration),
    /// The body has stopped coming.
    #[error("no byte for {quiet:.0?} after {received}")]
    Stalled {
        /// How long.
        quiet: Duration,
        /// What has come.
        received: Received,
    },
    /// The body has ended early.
    #[error("body ended after {0}")]
    Short(Received),
    /// The connection broke in the middle of the body.
    #[error("connection broke after {received}")]
    Broken {
        /// What has come.
        received: Received,
        /// Why.
        source: io::Error,
    },
    /// A `file://` URL that cannot be read.
    #[error(transparent)]
    File(io::Error),
}

/// How much of a body has come: `10 of 64 bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// What has come.
    pub(crate) bytes: u64,
    /// What the server has promised, if it has.
    pub(crate) total_bytes: Option<u64>,
}

impl std::fmt::Display for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.total_bytes {
            Some(total) => write!(f, "{} of {total} bytes", self.bytes),
            None => write!(f, "{} bytes", self.bytes),
        }
    }
}

impl Error {
    /// Whether a server has answered at all.
    pub(crate) const fn is_answer(&self) -> bool {
        matches!(self.cause, Cause::Status(_))
    }
}

impl Transient for Error {
    fn is_transient(&self) -> bool {
        match &self.cause {
            Cause::Resolve(error) => error.is_transient(),
            Cause::Status(status) => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 429)
            }
            Cause::Connect { .. }
            | Cause::NoAnswer(_)
            | Cause::Answer(_)
            | Cause::TooSlow(_)
            | Cause::Stalled { .. }
            | Cause::Short(_)
            | Cause::Broken { .. } => true,
            Cause::Url
            | Cause::PlainHttp
            | Cause::Tls(_)
            | Cause::Setup(_)
            | Cause::Certificate(_)
            | Cause::Handshake(_)
            | Cause::UnaskedPart
            | Cause::Redirect(_)
            | Cause::TooLong(_)
            | Cause::File(_) => false,
        }
    }
}

/// The first error of type `T` in a chain of causes.
pub(super) fn find<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The last cause, as an error that can be kept; the layers above it only repeat the URL.
pub(super) fn root(error: &(dyn std::error::Error + 'static)) -> io::Error {
    if let Some(code) = causes(error).find_map(os_error) {
        return io::Error::from_raw_os_error(code);
    }
    let last = causes(error).last().map_or_else(String::new, ToString::to_string);
    io::Error::other(last)
}

fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    error.downcast_ref::<io::Error>()?.raw_os_error()
}

/// An error and its causes, with those that `io::Error` hides from `source()`.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match hidden {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_transient(cause: Cause) -> bool {
        Error { method: "GET".into(), url: "https://h/".into(), cause }.is_transient()
    }

    #[test]
    fn only_statuses_that_may_go_away_are_tried_again() {
        for (status, expected) in [
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (408, true),
            (410, false),
            (429, true),
            (500, true),
            (502, true),
            (503, true),
            (504, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_transient(Cause::Status(status)), expected, "{status}");
        }
    }

    #[test]
    fn a_hidden_cause_is_found() {
        let hidden = io::Error::other(io::Error::other(rustls::Error::DecryptError));
        assert_eq!(find::<rustls::Error>(&hidden), Some(&rustls::Error::DecryptError));
        assert_eq!(root(&hidden).to_string(), rustls::Error::DecryptError.to_string());
    }
}
