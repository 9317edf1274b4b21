//! [`Fetch`] over real connections: reqwest, rustls and our own redirect rules.

use super::body::{Body, OverTls, Resume, Text, Validator};
use super::error::{Cause, Error, find, root};
use super::names::{self, Names};
use super::redirect::{self, Hop, Step};
use super::shown::{shown, shown_text};
use super::silence::Connections;
use super::{Document, Fetch};
use crate::policy::Policy;
use crate::size::Size;
use crate::tls;
use agent_types::redact::redact;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, IF_RANGE, LOCATION, RANGE,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use std::cell::OnceCell;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tower::util::MapFutureLayer;

/// What can be set about [`Https`].
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Version of the image, for `User-Agent`.
    pub(crate) version: String,
    /// What the image demands.
    pub(crate) policy: Policy,
    /// The file of CA certificates to trust.
    pub(crate) roots: PathBuf,
    /// How names become addresses.
    pub(crate) names: Names,
    /// A connection, with name and TLS, must stand within this.
    pub(crate) connect: Duration,
    /// A server may be silent for this long, before its answer and in it.
    pub(crate) stall: Duration,
    /// A whole document, with all redirects, must come within this.
    pub(crate) limit: Duration,
}

impl Settings {
    /// The bounds of the product: 30 s to connect, 30 s of silence, 10 minutes for a document.
    pub(crate) fn new(version: &str, policy: Policy, roots: PathBuf) -> Self {
        Self {
            version: version.to_owned(),
            policy,
            roots,
            names: Names::default(),
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            limit: Duration::from_secs(600),
        }
    }
}

/// No boot document is larger; one that is would only fill the memory.
const LONGEST_DOCUMENT_BYTES: usize = 1 << 20;

/// [`Fetch`] over real connections. Clients are made when they are first needed.
#[derive(Debug)]
pub(crate) struct Https {
    settings: Settings,
    plain: OnceCell<Client>,
    secure: OnceCell<Client>,
    connections: Connections,
}

/// What a request carries.
#[derive(Debug, Clone, Copy)]
enum Payload<'a> {
    Nothing,
    Form(&'a [(&'a str, &'a str)]),
    File(&'a [u8]),
    Resume(&'a Resume),
}

/// An answer with a good status, and all requests that led to it.
struct Answer {
    response: Response,
    hops: Vec<Hop>,
}

impl Https {
    /// Nothing is read and nobody is asked before the first request.
    pub(crate) fn new(settings: Settings) -> Self {
        let connections = Connections::new();
        Self { settings, plain: OnceCell::new(), secure: OnceCell::new(), connections }
    }

    /// Follows redirects to an answer whose status says that it is one.
    async fn ask(&self, first: Hop, payload: Payload<'_>) -> Result<Answer, Error> {
        let mut hops = vec![first];
        loop {
            let hop = hops.last().ok_or_else(|| no_url(""))?;
            let response = self.send(hop, payload).await?;
            let location = response.headers().get(LOCATION).map(|value| value.as_bytes());
            match redirect::next(&hops, response.status(), location) {
                Ok(Step::Follow(next)) => hops.push(next),
                Ok(Step::Answer) if is_unasked_part(response.status(), payload) => {
                    return Err(failed(hop, Cause::UnaskedPart));
                }
                Ok(Step::Answer) if response.status().is_success() => {
                    return Ok(Answer { response, hops });
                }
                Ok(Step::Answer) => return Err(failed(hop, Cause::Status(response.status()))),
                Err(refusal) => return Err(failed(hop, Cause::Redirect(refusal))),
            }
        }
    }

    async fn send(&self, hop: &Hop, payload: Payload<'_>) -> Result<Response, Error> {
        log::debug!("{} {}", hop.method, shown(&hop.url));
        let client = self.client(&hop.url).map_err(|cause| failed(hop, cause))?;
        let request = client.request(hop.method.clone(), hop.url.clone());
        let sent = with_payload(request, &hop.method, payload).send();
        let stall = match payload {
            // The server is silent as long as we are speaking.
            Payload::File(_) => self.settings.limit,
            _ => self.settings.stall,
        };
        tokio::select! {
            sent = sent => sent.map_err(|error| failed(hop, self.cause(&hop.url, &error))),
            () = self.connections.none_for(stall) => Err(failed(hop, Cause::NoAnswer(stall))),
        }
    }

    fn client(&self, url: &Url) -> Result<&Client, Cause> {
        let cell = if url.scheme() == "https" { &self.secure } else { &self.plain };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = self.new_client(url.scheme() == "https")?;
        Ok(cell.get_or_init(|| client))
    }

    fn new_client(&self, secure: bool) -> Result<Client, Cause> {
        let tls =
            if secure { tls::client_config(&self.settings.roots) } else { tls::trusting_nobody() };
        let connections = self.connections.clone();
        let counted = MapFutureLayer::new(move |connecting| connections.clone().count(connecting));
        Client::builder()
            .connector_layer(counted)
            .tls_backend_preconfigured(tls.map_err(Cause::Tls)?)
            .dns_resolver(Arc::new(self.settings.names.clone()))
            .user_agent(format!("stage2/{}", self.settings.version))
            .connect_timeout(self.settings.connect)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Cause::Setup(root(&error)))
    }

    /// Finds what the operator needs to know among the layers of the HTTP client's error.
    fn cause(&self, url: &Url, error: &reqwest::Error) -> Cause {
        let host = url.host_str().unwrap_or_default();
        if let Some(problem) = find::<rustls::Error>(error) {
            return match tls::refusal(problem, host, &self.settings.roots) {
                Some(refusal) => Cause::Certificate(refusal),
                None => Cause::Handshake(problem.clone()),
            };
        }
        if let Some(problem) = find::<names::Error>(error) {
            return Cause::Resolve(problem.clone());
        }
        if !error.is_connect() {
            return Cause::Answer(root(error));
        }
        let host = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        let source = if error.is_timeout() {
            io::Error::other(format!("not connected within {:.0?}", self.settings.connect))
        } else {
            root(error)
        };
        Cause::Connect { host, source }
    }

    async fn ask_for_document(&self, hop: Hop, payload: Payload<'_>) -> Result<Text, Error> {
        let answer = self.ask(hop, payload).await?;
        let mut body = self.body(answer);
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST_DOCUMENT_BYTES {
                let limit = Size(LONGEST_DOCUMENT_BYTES as u64);
                return Err(Error {
                    method: "GET".into(),
                    url: body.url,
                    cause: Cause::TooLong(limit),
                });
            }
        }
        Ok(Text { bytes, over_tls: body.over_tls })
    }

    fn body(&self, answer: Answer) -> Body {
        let Answer { response, hops } = answer;
        let over_tls = hops.iter().all(|hop| hop.url.scheme() == "https").then_some(OverTls(()));
        Body {
            url: hops.last().map(|hop| shown(&hop.url)).unwrap_or_default(),
            start_bytes: 0,
            total_bytes: response.content_length(),
            validator: Validator::of(response.headers()),
            over_tls,
            received_bytes: 0,
            stall: self.settings.stall,
            response,
        }
    }

    /// How long a file may take to begin: a few redirects, not ten slow ones.
    fn open_limit(&self) -> Duration {
        2 * (self.settings.connect + self.settings.stall)
    }
}

/// The whole of `asking` must be done within `limit`.
async fn within<T>(
    limit: Duration,
    hop: &Hop,
    asking: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, asking).await {
        Ok(result) => result,
        Err(_) => Err(failed(hop, Cause::TooSlow(limit))),
    }
}

impl Fetch for Https {
    async fn document(&self, kind: Document, url: &str) -> Result<Text, Error> {
        if let Some(path) = url.strip_prefix("file://") {
            return Ok(Text { bytes: read_document(path)?, over_tls: None });
        }
        let (method, payload) = match kind {
            Document::Action => (Method::POST, Payload::Form(&[])),
            Document::Chain => (Method::GET, Payload::Nothing),
        };
        let hop = Hop { method, url: http_url(url)? };
        if hop.url.scheme() == "http" && !self.settings.policy.plain_http_documents {
            return Err(failed(&hop, Cause::PlainHttp));
        }
        within(self.settings.limit, &hop, self.ask_for_document(hop.clone(), payload)).await
    }

    async fn post_form(&self, url: &str, fields: &[(&str, &str)]) -> Result<(), Error> {
        let hop = Hop { method: Method::POST, url: http_url(url)? };
        within(self.settings.limit, &hop, self.ask(hop.clone(), Payload::Form(fields))).await?;
        Ok(())
    }

    async fn post_file(&self, url: &str, content: &[u8]) -> Result<(), Error> {
        let hop = Hop { method: Method::POST, url: http_url(url)? };
        within(self.settings.limit, &hop, self.ask(hop.clone(), Payload::File(content))).await?;
        Ok(())
    }

    async fn open(&self, url: &str) -> Result<Body, Error> {
        let hop = Hop { method: Method::GET, url: http_url(url)? };
        let asked = self.ask(hop.clone(), Payload::Nothing);
        Ok(self.body(within(self.open_limit(), &hop, asked).await?))
    }

    async fn reopen(&self, url: &str, resume: &Resume) -> Result<Option<Body>, Error> {
        let hop = Hop { method: Method::GET, url: http_url(url)? };
        let asked = self.ask(hop.clone(), Payload::Resume(resume));
        let answer = match within(self.open_limit(), &hop, asked).await {
            Ok(answer) => answer,
            Err(Error { cause: Cause::Status(StatusCode::RANGE_NOT_SATISFIABLE), .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if answer.response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(Some(self.body(answer)));
        }
        let Some(total_bytes) = total_of_same_file(answer.response.headers(), resume) else {
            return Ok(None);
        };
        let mut body = self.body(answer);
        body.start_bytes = resume.from_bytes;
        body.total_bytes = Some(total_bytes);
        Ok(Some(body))
    }
}

/// Only who has asked for a part knows where it belongs.
fn is_unasked_part(status: StatusCode, payload: Payload<'_>) -> bool {
    status == StatusCode::PARTIAL_CONTENT && !matches!(payload, Payload::Resume(_))
}

fn with_payload(request: RequestBuilder, method: &Method, payload: Payload<'_>) -> RequestBuilder {
    match payload {
        // A redirect has made it a GET: the body is gone.
        Payload::Form(_) | Payload::File(_) if method != Method::POST => request,
        // Left alone, the client sends no length with an empty body, and servers may answer 411.
        Payload::Form([]) => request.form::<[(); 0]>(&[]).header(CONTENT_LENGTH, 0),
        Payload::Form(fields) => request.form(fields),
        Payload::File(content) => {
            request.header(CONTENT_TYPE, "application/octet-stream").body(content.to_vec())
        }
        Payload::Resume(resume) => request
            .header(RANGE, format!("bytes={}-", resume.from_bytes))
            .header(IF_RANGE, resume.validator.as_str()),
        Payload::Nothing => request,
    }
}

/// The length of the whole file if the part is the rest that was asked for, of the same version.
fn total_of_same_file(part: &HeaderMap, resume: &Resume) -> Option<u64> {
    let range = part.get(CONTENT_RANGE)?.to_str().ok()?;
    let total = total_of_rest(range, resume.from_bytes)?;
    let same_length = resume.total_bytes.is_none_or(|begun| begun == total);
    (same_length && resume.validator.is_of_part(part)).then_some(total)
}

/// The length of the whole file if `Content-Range` is its rest from `from` on: `bytes 5-9/10`.
fn total_of_rest(content_range: &str, from: u64) -> Option<u64> {
    let (range, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first == from && last.checked_add(1) == Some(total)).then_some(total)
}

/// What follows `file://` is the path, as it stands: the original decodes nothing.
fn read_document(path: &str) -> Result<Vec<u8>, Error> {
    let url = redact(&format!("file://{path}"));
    let failed = |cause| Error { method: "READ".to_owned(), url: url.clone(), cause };
    let file = std::fs::File::open(path).map_err(|error| failed(Cause::File(error)))?;
    let mut document = Vec::new();
    let limit = LONGEST_DOCUMENT_BYTES as u64;
    file.take(limit + 1).read_to_end(&mut document).map_err(|error| failed(Cause::File(error)))?;
    if document.len() > LONGEST_DOCUMENT_BYTES {
        return Err(failed(Cause::TooLong(Size(limit))));
    }
    Ok(document)
}

fn http_url(text: &str) -> Result<Url, Error> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(no_url(text)),
    }
}

fn no_url(text: &str) -> Error {
    Error { method: "fetch".to_owned(), url: format!("{:?}", shown_text(text)), cause: Cause::Url }
}

fn failed(hop: &Hop, cause: Cause) -> Error {
    Error { method: hop.method.to_string(), url: shown(&hop.url), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rest_of_the_same_file_is_appended() {
        for (range, expected) in [
            ("bytes 5-9/10", Some(10)),
            ("bytes 4-9/10", None),
            ("bytes 5-8/10", None),
            ("bytes 5-9/*", None),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes 5-18446744073709551615/0", None),
            ("", None),
        ] {
            assert_eq!(total_of_rest(range, 5), expected, "{range}");
        }
    }
}
