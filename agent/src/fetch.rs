//! The network, as a seam: boot documents, reports and files over HTTP and HTTPS.
//!
//! [`Https`] is the real one. Every call is bounded in time and makes one try; trying again is the
//! caller's ([`crate::retry`]). What a URL may be is decided here: https, or plain http where the
//! policy allows it. Semantics are those of ePoxy's original client, which is Go's `net/http`.

mod body;
mod error;
mod https;
mod names;
mod redirect;
mod shown;
mod silence;
#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

pub(crate) use body::{Body, OverTls, Resume, Text, Validator};
pub(crate) use error::Error;
pub(crate) use https::{Https, Settings};
pub(crate) use shown::shown_text;

/// How a boot document is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Document {
    /// The action URL of the command line: POST with an empty form.
    Action,
    /// The `chain` of another document: GET.
    Chain,
}

/// What the agent asks the network for.
pub(crate) trait Fetch {
    /// Gets a boot document: from http, https, or `file://` with a path as it stands.
    async fn document(&self, kind: Document, url: &str) -> Result<Text, Error>;

    /// Sends a report; what the server says to it, other than its status, is ignored.
    async fn post_form(&self, url: &str, fields: &[(&str, &str)]) -> Result<(), Error>;

    /// Sends a file as it is; what the server says to it, other than its status, is ignored.
    async fn post_file(&self, url: &str, content: &[u8]) -> Result<(), Error>;

    /// Begins to get a file.
    async fn open(&self, url: &str) -> Result<Body, Error>;

    /// Begins to get the rest of a file, or all of it if it has changed; `None` if the server's
    /// answer is of no use for that.
    async fn reopen(&self, url: &str, resume: &Resume) -> Result<Option<Body>, Error>;
}
