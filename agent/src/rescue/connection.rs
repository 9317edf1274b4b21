//! One connection, from its first byte to its last; the only thing that its process does.
//!
//! On entry the connection is standard input, and the listener is at the other end of standard
//! output. Every proof that is refused is logged with the address it came from.

mod config;
mod handler;
mod keys;
mod visitor;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use russh::Disconnect;
use russh::server::RunningSession;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::host_key::{self, HostKey};
use super::listener::{self, canonical};
use super::options::{Server, Strangers};
use crate::chain::Chain;
use visitor::Visitor;

/// For the client to hear why its connection ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("expected a connection as standard input")]
    NoConnection(#[source] io::Error),
    #[error("expected the listener as standard output")]
    NoListener(#[source] io::Error),
    #[error("cannot take a name")]
    Name(#[source] io::Error),
    #[error("cannot get the host key")]
    HostKey(#[from] host_key::Error),
}

/// Serves the connection until it ends.
pub(crate) async fn serve(server: Server) -> Result<(), Error> {
    let deadline = Instant::now() + server.login_grace;
    // As operators see it in `ps`; otherwise it would be called `exe`.
    rustix::thread::set_name(c"ssh").map_err(|error| Error::Name(error.into()))?;
    let (stream, ends) = client(server.patience).map_err(Error::NoConnection)?;
    let mut listener = listener().map_err(Error::NoListener)?;
    let mut host_key = String::new();
    listener.read_to_string(&mut host_key).await.map_err(Error::NoListener)?;
    let config = config::config(HostKey::take_over(&host_key)?, server.patience);

    let (logged_in, mut login) = watch::channel(false);
    let (running, programs) = watch::channel(0);
    let (limit, strangers) = (server.idle, server.strangers);
    let access = keys::access(&server.root, strangers);
    let visitor = Visitor::new(ends, access, server, logged_in, running);
    let source = ends.client;
    let started = russh::server::run_stream(Arc::new(config), stream, visitor);
    let mut session = match tokio::time::timeout_at(deadline, started).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => {
            tell(strangers, source, Err(error));
            return Ok(());
        }
        Err(_) => {
            refuse(strangers, source, "it did not speak in time");
            return Ok(());
        }
    };
    tokio::select! {
        biased;
        login = tokio::time::timeout_at(deadline, login.changed()) => match login {
            Ok(Ok(())) => until_the_end(source, session, idle(programs, limit)).await,
            // The connection has ended, and with it who could have told us of a login.
            Ok(Err(_)) => tell(strangers, source, session.await),
            Err(_) => refuse(strangers, source, "it did not log in in time"),
        },
        end = &mut session => tell(strangers, source, end),
    }
    Ok(())
}

async fn until_the_end(
    source: SocketAddr,
    mut session: RunningSession<Visitor>,
    idle: impl Future<Output = ()>,
) {
    listener::let_go_of_start();
    let handle = session.handle();
    tokio::select! {
        end = &mut session => return log_end(source, "logged out", end),
        () = idle => {}
    }
    let reason = "nothing runs here".to_owned();
    log::info!("ssh: {source} logged out: {reason}");
    let goodbye = async {
        handle.disconnect(Disconnect::ByApplication, reason, "en".to_owned()).await?;
        session.await
    };
    if !matches!(tokio::time::timeout(GOODBYE, goodbye).await, Ok(Ok(()))) {
        log::debug!("ssh: {source} did not say goodbye");
    }
}

fn refuse(strangers: Strangers, source: SocketAddr, why: &str) {
    if strangers == Strangers::Named {
        log::warn!("ssh: {source} refused: {why}");
    }
}

fn tell(strangers: Strangers, source: SocketAddr, end: Result<(), russh::Error>) {
    if strangers == Strangers::Named {
        log_end(source, "did not log in", end);
    }
}

fn log_end(source: SocketAddr, what: &str, end: Result<(), russh::Error>) {
    match end {
        Ok(()) => log::info!("ssh: {source} {what}"),
        Err(error) => log::info!("ssh: {source} {what}: {}", Chain(&error)),
    }
}

/// Returns when nothing has run for so long.
async fn idle(mut programs: watch::Receiver<usize>, limit: Duration) {
    while programs.wait_for(|running| *running == 0).await.is_ok() {
        match tokio::time::timeout(limit, programs.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break,
            Err(_) => return,
        }
    }
    // The connection has ended, and whoever waits for it will learn why.
    std::future::pending().await
}

/// Both ends of the connection.
#[derive(Debug, Clone, Copy)]
struct Ends {
    client: SocketAddr,
    server: SocketAddr,
}

/// A client that takes nothing of what it is sent is given up after `patience` too: as long as a
/// write to it waits, its silence is not noticed.
fn client(patience: Duration) -> io::Result<(TcpStream, Ends)> {
    let stream = std::net::TcpStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(&stream, milliseconds)?;
    let client = canonical(stream.peer_addr()?);
    let server = canonical(stream.local_addr()?);
    Ok((TcpStream::from_std(stream)?, Ends { client, server }))
}

fn listener() -> io::Result<UnixStream> {
    let listener = std::os::unix::net::UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    UnixStream::from_std(listener)
}
