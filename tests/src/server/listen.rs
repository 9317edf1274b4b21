//! The server's sockets and its thread: accepts connections and answers what comes over them.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::State;
use super::http::{Connection, Ending, Wire, decode_form};
use super::log::{Request, Scheme};

pub(super) struct Listeners {
    http: TcpListener,
    https: TcpListener,
}

#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) https: u16,
}

pub(super) fn bind(address: IpAddr) -> anyhow::Result<(Listeners, Ports)> {
    let bind_one = || -> io::Result<(TcpListener, u16)> {
        let listener = TcpListener::bind((address, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    };
    let context = || format!("cannot listen on {address}");
    let (http, http_port) = bind_one().with_context(context)?;
    let (https, https_port) = bind_one().with_context(context)?;
    Ok((Listeners { http, https }, Ports { http: http_port, https: https_port }))
}

/// Serves until `stopped` says so; every connection ends with it.
pub(super) fn serve(
    listeners: Listeners,
    tls: rustls::ServerConfig,
    state: &Arc<State>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tls = TlsAcceptor::from(Arc::new(tls));
        let http = tokio::net::TcpListener::from_std(listeners.http)?;
        let https = tokio::net::TcpListener::from_std(listeners.https)?;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = http.accept() => {
                    let (stream, source) = accepted?;
                    connections.spawn(over_http(Arc::clone(state), stream, source));
                }
                accepted = https.accept() => {
                    let (stream, source) = accepted?;
                    connections.spawn(over_tls(Arc::clone(state), stream, source, tls.clone()));
                }
                Some(_) = connections.join_next() => {}
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            }
        }
    })
}

async fn over_http(state: Arc<State>, stream: TcpStream, source: SocketAddr) {
    let mut connection = Connection::new(stream);
    match converse(&state, &mut connection, Scheme::Http, source).await {
        Ok(Ending::Reset) => reset(&state, &connection.into_inner()),
        Ok(_) => {}
        Err(error) => note(&state, source, &error),
    }
}

async fn over_tls(state: Arc<State>, stream: TcpStream, source: SocketAddr, tls: TlsAcceptor) {
    let stream = match tls.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return note(&state, source, &error),
    };
    let mut connection = Connection::new(stream);
    match converse(&state, &mut connection, Scheme::Https, source).await {
        Ok(Ending::Reset) => reset(&state, connection.into_inner().get_ref().0),
        Ok(_) => {}
        Err(error) => note(&state, source, &error),
    }
}

fn note(state: &State, source: SocketAddr, error: &io::Error) {
    // A client that goes away in the middle of a body is what some tests are about.
    if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
        state.log.record_broken(format!("{source}: {error}"));
    }
}

/// A socket that lingers for no time at all is closed with a reset.
fn reset(state: &State, stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        state.log.record_broken(format!("cannot reset a connection: {error}"));
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    state: &State,
    connection: &mut Connection<S>,
    scheme: Scheme,
    source: SocketAddr,
) -> io::Result<Ending> {
    while let Some(wire) = connection.next().await? {
        let request = logged(state, &wire, scheme, source);
        let ending = match state.answer(&request) {
            Some(response) => connection.send(&wire, response).await?,
            None => Ending::Stall,
        };
        match ending {
            Ending::KeepOpen => {}
            Ending::Stall => connection.stall().await?,
            Ending::Close | Ending::Reset => return Ok(ending),
        }
    }
    Ok(Ending::Close)
}

fn logged(state: &State, wire: &Wire, scheme: Scheme, source: SocketAddr) -> Request {
    let path = wire.target.split('?').next().unwrap_or_default();
    let request = Request {
        at: state.log.elapsed(),
        scheme,
        method: wire.method.clone(),
        path: path.to_owned(),
        source,
        headers: wire.headers.clone(),
        form: decode_form(&wire.body),
        body: wire.body.clone(),
    };
    state.log.record(request.clone());
    request
}
