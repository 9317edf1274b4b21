//! Local port forwarding: connects a channel to a host that the ramdisk can reach.
//!
//! On entry the login's permissions allow the destination. Without `getaddrinfo`, which a static
//! binary cannot use safely, names are looked up in `/etc/hosts` and by the servers of
//! `/etc/resolv.conf`, as they are now.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::net::NetError;
use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure};
use tokio::net::TcpStream;

use super::flow::{self, Line, Stream};
use crate::chain::Chain;

/// Looking up a name and connecting, all addresses together.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a destination cannot be reached.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot look up \"{}\"", .host.escape_default())]
    Lookup { host: String, source: NetError },
    #[error("cannot connect to {address}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("\"{}\" has no address", .0.escape_default())]
    NoAddress(String),
    #[error("no answer in {PATIENCE:?}")]
    Timeout,
}

/// Connects, tells the client whether that worked, and moves bytes until both ends are done.
pub(crate) async fn connect(
    host: String,
    port: u16,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    line: Arc<Line>,
) {
    let connected = tokio::time::timeout(PATIENCE, reach(&host, port)).await;
    match connected.unwrap_or(Err(Error::Timeout)) {
        Ok(stream) => {
            reply.accept().await;
            tokio::select! {
                () = copy(stream, channel, &line) => {}
                () = line.hung_up() => {}
            }
        }
        Err(error) => {
            log::info!("ssh: port forwarding: {}", Chain(&error));
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    }
}

async fn copy(stream: TcpStream, channel: Channel<Msg>, line: &Line) {
    let (mut from_client, to_client) = channel.split();
    let (mut from_host, to_host) = stream.into_split();
    let output = async {
        flow::send(&mut from_host, Stream::Output, &to_client, line).await?;
        to_client.eof().await
    };
    let (sent, ()) = tokio::join!(output, flow::receive(&mut from_client, to_host, line));
    if let Err(error) = sent.and(to_client.close().await) {
        log::debug!("ssh: a forwarded connection ended early: {error}");
    }
}

async fn reach(host: &str, port: u16) -> Result<TcpStream, Error> {
    let mut failure = Error::NoAddress(host.to_owned());
    for address in addresses(host).await? {
        let address = SocketAddr::new(address, port);
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(source) => failure = Error::Connect { address, source },
        }
    }
    Err(failure)
}

async fn addresses(host: &str) -> Result<Vec<IpAddr>, Error> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let failed = |source| Error::Lookup { host: host.to_owned(), source };
    let resolver = Resolver::builder_tokio().and_then(|builder| builder.build()).map_err(failed)?;
    let found = resolver.lookup_ip(host).await.map_err(failed)?;
    Ok(found.iter().collect())
}
