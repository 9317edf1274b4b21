//! What the boot server was asked, by whom and when.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// One request, as the server read it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Time since the server started, when the request's head was complete.
    pub at: Duration,
    /// Plain or over TLS.
    pub scheme: Scheme,
    /// `GET`, `HEAD` or `POST`.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// Who asked.
    pub source: SocketAddr,
    /// Header fields in their order, as sent.
    pub headers: Vec<(String, String)>,
    /// Decoded fields of an `application/x-www-form-urlencoded` body.
    pub form: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header field of this name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// The first form field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.form.iter().find(|(key, _)| key == name)?;
        Some(value)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let seconds = self.at.as_secs_f64();
        write!(f, "{seconds:8.3} {scheme:5} {} {} from {}", self.method, self.path, self.source)?;
        if let Some(range) = self.header("range") {
            write!(f, " range {range}")?;
        }
        Ok(())
    }
}

/// What a server was asked so far; clones see the same log.
#[derive(Clone)]
pub struct RequestLog(Arc<Shared>);

struct Shared {
    started: Instant,
    entries: Mutex<Entries>,
    arrived: Condvar,
}

#[derive(Default)]
struct Entries {
    requests: Vec<Request>,
    /// Connections that never got as far as a request, with the reason.
    broken: Vec<(Duration, String)>,
}

impl RequestLog {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            started: Instant::now(),
            entries: Mutex::default(),
            arrived: Condvar::new(),
        }))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    pub(super) fn record(&self, request: Request) {
        self.entries().requests.push(request);
        self.0.arrived.notify_all();
    }

    pub(super) fn record_broken(&self, reason: String) {
        let at = self.elapsed();
        self.entries().broken.push((at, reason));
        self.0.arrived.notify_all();
    }

    /// When the server's clock stood at zero.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.0.started
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.entries().requests.clone()
    }

    /// Every request for `path` so far.
    #[must_use]
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        self.entries().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// Why connections ended before a request, such as a refused certificate.
    #[must_use]
    pub fn broken_connections(&self) -> Vec<String> {
        self.entries().broken.iter().map(|(_, reason)| reason.clone()).collect()
    }

    /// Waits until `path` was asked for `count` times; `None` after `bound`.
    #[must_use]
    pub fn wait_for(&self, path: &str, count: usize, bound: Duration) -> Option<Vec<Request>> {
        let deadline = Instant::now() + bound;
        let mut entries = self.entries();
        loop {
            let requests: Vec<Request> =
                entries.requests.iter().filter(|request| request.path == path).cloned().collect();
            if requests.len() >= count {
                return Some(requests);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            entries = self
                .0
                .arrived
                .wait_timeout(entries, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for RequestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        for request in &entries.requests {
            writeln!(f, "{request}")?;
        }
        for (at, reason) in &entries.broken {
            writeln!(f, "{:8.3} broken connection: {reason}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
