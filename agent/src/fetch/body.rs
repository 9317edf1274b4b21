//! The body of an answer as it arrives.

use super::error::{Cause, Error, Received, root};
use bytes::Bytes;
use reqwest::header::{ETAG, HeaderMap, LAST_MODIFIED};
use std::time::Duration;

/// Proof that each byte came from the server that was asked: every request since the first, and so
/// every redirect, went over verified TLS. Only this module's parent makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverTls(pub(super) ());

/// A boot document or another short text, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// What the server said.
    pub(crate) bytes: Vec<u8>,
    /// Proof that it was this server, if there is one.
    pub(crate) over_tls: Option<OverTls>,
}

/// Where to go on with a file that was begun, if it is still the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    /// What is there already.
    pub(crate) from_bytes: u64,
    /// What the server called this version of the file.
    pub(crate) validator: Validator,
    /// Its length, if the server has told it.
    pub(crate) total_bytes: Option<u64>,
}

/// What a server calls one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Validator {
    /// A strong `ETag`: the same bytes, always.
    ETag(String),
    /// A date, which another version of the same second has too.
    LastModified(String),
}

impl Validator {
    /// RFC 9110 section 13.1.5: a weak `ETag` cannot be used to resume.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
        let tag = value(ETAG).filter(|tag| tag.starts_with('"'));
        tag.map(Self::ETag).or_else(|| value(LAST_MODIFIED).map(Self::LastModified))
    }

    /// As it is written in a header.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::ETag(value) | Self::LastModified(value) => value,
        }
    }

    /// Whether the headers of a part speak of this version, RFC 9110 section 15.3.7: the `ETag` of
    /// the whole is there again; the date may be left out.
    pub(super) fn is_of_part(&self, headers: &HeaderMap) -> bool {
        match (self, Self::of(headers)) {
            (Self::LastModified(_), None) => true,
            (_, part) => part.as_ref() == Some(self),
        }
    }
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
    pub(crate) validator: Option<Validator>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderName;

    const DATE: &str = "Thu, 20 Nov 2025 13:14:05 GMT";

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn tag(text: &str) -> Validator {
        Validator::ETag(text.to_owned())
    }

    fn date() -> Validator {
        Validator::LastModified(DATE.to_owned())
    }

    #[test]
    fn a_weak_etag_does_not_name_a_version() {
        for (given, expected) in [
            (&[(ETAG, "\"a\"")][..], Some(tag("\"a\""))),
            (&[(ETAG, "\"a\""), (LAST_MODIFIED, DATE)], Some(tag("\"a\""))),
            (&[(ETAG, "W/\"a\"")], None),
            (&[(ETAG, "W/\"a\""), (LAST_MODIFIED, DATE)], Some(date())),
            (&[], None),
        ] {
            assert_eq!(Validator::of(&headers(given)), expected);
        }
    }

    #[test]
    fn a_part_names_the_version_that_was_begun() {
        for (begun, part, expected) in [
            (tag("\"a\""), &[(ETAG, "\"a\"")][..], true),
            (tag("\"a\""), &[(ETAG, "\"b\"")], false),
            (tag("\"a\""), &[(ETAG, "W/\"a\"")], false),
            (tag("\"a\""), &[(LAST_MODIFIED, DATE)], false),
            (tag("\"a\""), &[], false),
            (date(), &[(LAST_MODIFIED, DATE)], true),
            (date(), &[(LAST_MODIFIED, "Thu, 20 Nov 2025 13:14:06 GMT")], false),
            (date(), &[(ETAG, "\"a\""), (LAST_MODIFIED, DATE)], false),
            (date(), &[], true),
        ] {
            assert_eq!(begun.is_of_part(&headers(part)), expected, "{begun:?} {part:?}");
        }
    }
}
