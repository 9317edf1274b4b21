//! A small HTTP/1.1 server over real sockets and real TLS, with a throw-away CA, for tests.
//!
//! It answers each connection once, with the steps that a test's script gives for the request, so
//! that a test can send half of a body and then be silent, close or reset.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A request as the server has read it; header names are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// What the server does next on a connection; after the last step it closes it.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends nothing for a while.
    Pause(Duration),
    /// Sends nothing any more, and does not close.
    Silence,
    /// Breaks the connection as a crashed machine does.
    Reset,
}

/// What is wrong with the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Expired,
    NotYetValid,
    WrongName,
    UnknownIssuer,
    SelfSigned,
    SelfSignedCa,
}

/// A running server.
pub(crate) struct Server {
    /// Scheme, host and port.
    pub(crate) base: String,
    /// The CA certificate that signs good servers.
    pub(crate) roots: PathBuf,
    requests: Arc<Mutex<Vec<Request>>>,
    _dir: TempDir,
}

/// An answer with a `Content-Length`, and nothing else of interest.
pub(crate) fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<Step> {
    let length = format!("Content-Length: {}", body.len());
    let mut steps = head(status, &[headers, &[&length]].concat());
    steps.push(Step::Send(body.to_vec()));
    steps
}

/// Status line and headers only.
pub(crate) fn head(status: &str, headers: &[&str]) -> Vec<Step> {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
    text.push_str("\r\n");
    vec![Step::Send(text.into_bytes())]
}

type Script = Arc<dyn Fn(&Request) -> Vec<Step> + Send + Sync>;

impl Server {
    /// A server over plain HTTP.
    pub(crate) async fn plain(
        script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, script).await
    }

    /// A server over HTTPS.
    pub(crate) async fn tls(
        flaw: Flaw,
        script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(flaw), script).await
    }

    async fn start(
        flaw: Option<Flaw>,
        script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let roots = dir.path().join("roots.pem");
        let acceptor = flaw.map(|flaw| {
            let (config, ca) = server_config(flaw);
            std::fs::write(&roots, ca).unwrap();
            TlsAcceptor::from(Arc::new(config))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let base = match flaw {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://localhost:{port}"),
        };
        let requests = Arc::default();
        tokio::spawn(serve(listener, acceptor, Arc::clone(&requests), Arc::new(script)));
        Self { base, roots, requests, _dir: dir }
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Method and path of every request so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|r| format!("{} {}", r.method, r.path)).collect()
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Script,
) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, requests, script) =
            (acceptor.clone(), Arc::clone(&requests), Arc::clone(&script));
        tokio::spawn(async move {
            match acceptor {
                None => converse(tcp, &requests, &script).await,
                // A client that refuses our certificate ends here.
                Some(acceptor) => match acceptor.accept(tcp).await {
                    Ok(tls) => converse(tls, &requests, &script).await,
                    Err(_) => None,
                },
            }
        });
    }
}

/// Reads a request and follows the script; a client that goes away ends it.
async fn converse<S: Connection>(
    mut stream: S,
    requests: &Mutex<Vec<Request>>,
    script: &Script,
) -> Option<()> {
    let request = read_request(&mut stream).await?;
    let steps = script(&request);
    requests.lock().unwrap().push(request);
    for step in steps {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await.ok()?,
            Step::Pause(pause) => tokio::time::sleep(pause).await,
            Step::Silence => std::future::pending().await,
            Step::Reset => {
                stream.flush().await.ok()?;
                // What was sent has to arrive before the reset, which overtakes it.
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.tcp().set_zero_linger().ok()?;
                return None;
            }
        }
    }
    stream.shutdown().await.ok()
}

trait Connection: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Connection for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { method, path, headers, body: String::from_utf8(body).ok()? })
}

/// A server with a certificate that has this flaw, and the CA that a client trusts.
fn server_config(flaw: Flaw) -> (rustls::ServerConfig, String) {
    let (ca, ca_pem) = new_ca("trusted");
    let (stranger, _) = new_ca("stranger");
    let key = KeyPair::generate().unwrap();
    let params = server_params(flaw);
    let certificate = match flaw {
        Flaw::SelfSigned | Flaw::SelfSignedCa => params.self_signed(&key),
        Flaw::UnknownIssuer => params.signed_by(&key, &stranger),
        _ => params.signed_by(&key, &ca),
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.unwrap().der().clone()], key)
        .unwrap();
    (config, ca_pem)
}

fn server_params(flaw: Flaw) -> CertificateParams {
    let names = match flaw {
        Flaw::WrongName => ["boot.example", "10.0.0.1"].map(str::to_owned).to_vec(),
        _ => vec!["localhost".to_owned()],
    };
    let mut params = CertificateParams::new(names).unwrap();
    match flaw {
        Flaw::Expired => params.not_after = date_time_ymd(2020, 1, 2),
        Flaw::NotYetValid => params.not_before = date_time_ymd(2090, 1, 2),
        Flaw::SelfSignedCa => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        _ => {}
    }
    params
}

fn new_ca(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}
