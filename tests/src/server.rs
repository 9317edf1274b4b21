//! A boot server that speaks ePoxy's routes over HTTP and HTTPS, serves files, keeps a log of what
//! it was asked, and can be told to go wrong.
//!
//! It listens on a port of its own choice on one address; guests may know that address by another
//! name (QEMU's user network shows the host's loopback as the gateway). It stops when dropped.

mod content;
mod epoxy;
mod fault;
mod http;
mod listen;
mod log;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::watch;

pub use content::Content;
pub use epoxy::{EpoxyHost, Report};
pub use fault::{Fault, Times};
pub use log::{Request, RequestLog, Scheme};

use crate::certificate::{Authority, Presented};
use http::{Ending, Framing, Response};

/// How a server is set up.
pub struct ServerSetup<'a> {
    /// Where it listens.
    pub listen: IpAddr,
    /// The name or address by which guests reach it; it is in the certificate too.
    pub known_as: String,
    /// Who signs its certificate.
    pub authority: &'a Authority,
    /// Which certificate it presents.
    pub presents: Presented,
}

/// A running boot server.
pub struct BootServer {
    state: Arc<State>,
    known_as: String,
    ports: listen::Ports,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl BootServer {
    /// Starts a server; its sockets belong to the network namespace of the calling thread.
    pub fn start(setup: &ServerSetup<'_>) -> anyhow::Result<Self> {
        let tls = setup.authority.server_config(&setup.known_as, setup.presents)?;
        let (listeners, ports) = listen::bind(setup.listen)?;
        let known_as = in_a_url(&setup.known_as);
        let state = Arc::new(State::new(format!("https://{known_as}:{}", ports.https)));
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("boot-server".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || {
                if let Err(error) = listen::serve(listeners, tls, &state, stopped) {
                    state.log.record_broken(format!("server: {error:#}"));
                }
            }
        });
        let thread = Some(thread.context("cannot start the server's thread")?);
        Ok(Self { state, known_as, ports, stop, thread })
    }

    /// A server for guests behind QEMU's user network, where it is `192.168.0.1`.
    pub fn for_user_network(authority: &Authority, presents: Presented) -> anyhow::Result<Self> {
        Self::start(&ServerSetup {
            listen: IpAddr::from([127, 0, 0, 1]),
            known_as: crate::machine::USER_NETWORK_HOST.to_owned(),
            authority,
            presents,
        })
    }

    /// `http://…` of this path, as guests see it.
    #[must_use]
    pub fn http_url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.known_as, self.ports.http)
    }

    /// `https://…` of this path, as guests see it.
    #[must_use]
    pub fn https_url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", self.known_as, self.ports.https)
    }

    /// Puts something at a path, in place of what was there.
    pub fn serve(&self, path: &str, content: impl Into<Content>) -> &Self {
        lock(&self.state.files).insert(path.to_owned(), content.into());
        self
    }

    /// Makes this host known to ePoxy's routes.
    pub fn add_host(&self, host: EpoxyHost) -> &Self {
        lock(&self.state.epoxy).add_host(host);
        self
    }

    /// Opens a session as `stage1` does, whose reports are accepted until the next one is opened.
    #[must_use]
    pub fn open_session(&self) -> String {
        lock(&self.state.epoxy).new_session()
    }

    /// Lets answers for `path` go wrong; faults of one path happen one after the other.
    pub fn fault(&self, path: &str, fault: Fault, times: Times) -> &Self {
        lock(&self.state.faults).arm(path, fault, times);
        self
    }

    /// Ends all faults of `path`.
    pub fn heal(&self, path: &str) -> &Self {
        lock(&self.state.faults).clear(path);
        self
    }

    /// What this server was asked.
    #[must_use]
    pub fn log(&self) -> &RequestLog {
        &self.state.log
    }

    /// Every request for `path` so far.
    #[must_use]
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        self.state.log.requests_for(path)
    }

    /// Every report that was accepted.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        lock(&self.state.epoxy).reports()
    }
}

impl Drop for BootServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("vmtest: the boot server's thread has panicked");
        }
    }
}

/// What all connections share.
struct State {
    base_url: String,
    log: RequestLog,
    files: Mutex<std::collections::BTreeMap<String, Content>>,
    faults: Mutex<fault::Faults>,
    epoxy: Mutex<epoxy::Epoxy>,
}

impl State {
    fn new(base_url: String) -> Self {
        Self {
            base_url,
            log: RequestLog::new(),
            files: Mutex::default(),
            faults: Mutex::default(),
            epoxy: Mutex::default(),
        }
    }

    /// The answer to a request; `None` when it is to get none.
    fn answer(&self, request: &Request) -> Option<Response> {
        let fault = lock(&self.faults).take(&request.path);
        let cut = match fault {
            None => return Some(self.right_answer(request)),
            Some(Fault::Silence) => return None,
            Some(Fault::Status(status)) => {
                return Some(Response::new(status, format!("status {status}, as told\n")));
            }
            Some(Fault::Redirect(status, to)) => {
                return Some(Response::new(status, "").with_header("Location", to));
            }
            Some(Fault::Body(body)) => return Some(Response::new(200, body)),
            Some(Fault::Chunked) => {
                return Some(Response { framing: Framing::Chunked, ..self.right_answer(request) });
            }
            Some(Fault::StallAfter(bytes)) => (bytes, Ending::Stall),
            Some(Fault::TruncateAfter(bytes)) => (bytes, Ending::Close),
            Some(Fault::ResetAfter(bytes)) => (bytes, Ending::Reset),
        };
        Some(Response { cut: Some(cut), ..self.right_answer(request) })
    }

    fn right_answer(&self, request: &Request) -> Response {
        if let Some(response) = lock(&self.epoxy).answer(&self.base_url, request) {
            return response;
        }
        let file = lock(&self.files).get(&request.path).cloned();
        match (file, request.method.as_str()) {
            (Some(content), "GET" | "HEAD") => {
                let response = Response::new(200, content)
                    .with_header("Content-Type", "application/octet-stream");
                Response { ranges: true, ..response }
            }
            (Some(content), "POST") => Response::new(200, content),
            (Some(_), _) => Response::new(405, "only GET, HEAD and POST\n"),
            (None, _) => Response::new(404, "not found\n"),
        }
    }
}

/// An IPv6 address is in brackets there (RFC 3986, section 3.2.2).
fn in_a_url(host: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
