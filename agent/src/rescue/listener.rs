//! Accepts connections and gives each a process of its own.
//!
//! On entry the sockets are bound. Each connection is served by a child with the connection as its
//! standard input: whatever a hostile client makes of it, or a session of the memory, the listener
//! and the other sessions live on. The child's standard output is a socket to us: it reads the host
//! key from it and writes one byte when its client has logged in. Sessions outlive the listener.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::admission::{Admission, Login, Number};
use super::host_key::HostKey;
use super::options::{Server, Strangers};
use super::throttle::{Pass, Throttle};
use crate::chain::Chain;
use crate::sys;

const SSH: u16 = 22;

/// A child that hangs in spite of its own login grace is ended this much later.
const GRACE_OF_GRACE: Duration = Duration::from_secs(5);

/// After an accept that failed for want of memory or descriptors, others need time to end.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The byte with which a child says that its client has logged in.
pub(crate) const LOGGED_IN: u8 = b'a';

const TOO_MANY_STRANGERS: &str = "too many connections that have not logged in";
const TOO_MANY_LOGINS: &str = "too many are logged in";
const TOO_LATE: &str = "it did not log in in time";

/// Our own program, even after its file is gone.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot listen on {address}")]
    Bind { address: SocketAddr, source: io::Error },
}

/// Binds what was asked for; without a wish every address, IPv4 only where there is no IPv6.
pub(crate) async fn bind(wishes: &[SocketAddr]) -> Result<Vec<TcpListener>, Error> {
    if !wishes.is_empty() {
        let mut listeners = Vec::new();
        for address in wishes {
            listeners.push(bind_one(*address).await?);
        }
        return Ok(listeners);
    }
    match bind_one((Ipv6Addr::UNSPECIFIED, SSH).into()).await {
        Ok(listener) => Ok(vec![listener]),
        Err(error) => {
            log::debug!("{}", Chain(&error));
            Ok(vec![bind_one((Ipv4Addr::UNSPECIFIED, SSH).into()).await?])
        }
    }
}

async fn bind_one(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
}

/// Serves all connections of all listeners, for ever.
pub(crate) async fn serve(
    listeners: Vec<TcpListener>,
    server: Server,
    host_key: watch::Receiver<HostKey>,
) {
    let house = Rc::new(House {
        server,
        host_key,
        random: RandomState::new(),
        told: RefCell::new(Throttle::new(Instant::now())),
        refused: RefCell::new(Throttle::new(Instant::now())),
        admission: RefCell::default(),
        strangers: RefCell::default(),
    });
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn_local(accept_all(listener, Rc::clone(&house)));
    }
    while tasks.join_next().await.is_some() {}
}

async fn accept_all(listener: TcpListener, house: Rc<House>) {
    loop {
        match listener.accept().await {
            Ok((stream, source)) => house.welcome(stream, canonical(source)),
            Err(error) => {
                log::warn!("ssh: cannot accept a connection: {error}");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

/// An IPv4 client of a dual-stack socket has an IPv4 address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A role and its sessions last long, and most of the program is for their start: addresses, keys,
/// the key exchange, processes.
pub(crate) fn let_go_of_start() {
    if let Err(error) = sys::let_go_of_program() {
        log::debug!("ssh: cannot let go of the program: {error}");
    }
}

struct House {
    server: Server,
    host_key: watch::Receiver<HostKey>,
    random: RandomState,
    /// Connections whose end is told, whatever it is.
    told: RefCell<Throttle>,
    /// Connections that we end ourselves.
    refused: RefCell<Throttle>,
    admission: RefCell<Admission>,
    /// How to tell those that have not logged in that they have to go.
    strangers: RefCell<BTreeMap<Number, Rc<Notify>>>,
}

impl House {
    fn welcome(self: &Rc<Self>, stream: TcpStream, source: SocketAddr) {
        let number = self.make_room(source.ip());
        let go = Rc::new(Notify::new());
        self.strangers.borrow_mut().insert(number, Rc::clone(&go));
        let house = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if let Err(error) = house.serve(stream, number, source, &go).await {
                log::warn!("ssh: cannot serve {source}: {error}");
            }
            house.strangers.borrow_mut().remove(&number);
            house.admission.borrow_mut().forget(number);
        });
    }

    fn make_room(&self, source: IpAddr) -> Number {
        let (number, victim) = self.admission.borrow_mut().admit(source, self.random());
        if let Some(go) = victim.and_then(|victim| self.strangers.borrow_mut().remove(&victim)) {
            go.notify_one();
        }
        number
    }

    /// Seeded by the kernel's random numbers, so that nobody knows who will have to go.
    fn random(&self) -> u64 {
        self.random.build_hasher().finish() ^ self.random.hash_one(Instant::now())
    }

    async fn serve(
        &self,
        stream: TcpStream,
        number: Number,
        source: SocketAddr,
        go: &Notify,
    ) -> io::Result<()> {
        let (mut control, mut child) = self.start(stream)?;
        let patience = self.server.login_grace + GRACE_OF_GRACE;
        let login = tokio::select! {
            biased;
            login = tokio::time::timeout(patience, self.login(&mut control)) => login,
            () = go.notified() => Ok(has_logged_in(&control)),
        };
        let refusal = match login {
            Ok(Ok(LOGGED_IN)) => self.log_in(number),
            Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Some(TOO_MANY_STRANGERS),
            // The child has ended by itself, and has said why.
            Ok(_) => None,
            Err(_) => Some(TOO_LATE),
        };
        if let Some(reason) = refusal {
            self.tell_refusal(source, reason);
            child.start_kill()?;
        }
        child.wait().await?;
        Ok(())
    }

    async fn login(&self, control: &mut UnixStream) -> io::Result<u8> {
        let host_key = self.host_key.borrow().hand_over().map_err(io::Error::other)?;
        control.write_all(host_key.as_bytes()).await?;
        control.shutdown().await?;
        control.read_u8().await
    }

    /// Why it may not, if so.
    fn log_in(&self, number: Number) -> Option<&'static str> {
        let_go_of_start();
        self.strangers.borrow_mut().remove(&number);
        match self.admission.borrow_mut().log_in(number) {
            Login::Welcome => None,
            Login::Full => Some(TOO_MANY_LOGINS),
        }
    }

    fn tell_refusal(&self, source: SocketAddr, reason: &str) {
        match self.refused.borrow_mut().pass(Instant::now()) {
            Pass::Yes => log::warn!("ssh: {source} refused: {reason}"),
            Pass::YesAfter(others) => {
                log::warn!("ssh: {source} refused: {reason}; so were {others} others");
            }
            Pass::NoMore | Pass::No => {}
        }
    }

    /// A login is always told.
    fn strangers(&self) -> Strangers {
        match self.told.borrow_mut().pass(Instant::now()) {
            Pass::Yes => Strangers::Named,
            Pass::YesAfter(others) => {
                log::warn!("ssh: nothing was said of {others} connections");
                Strangers::Named
            }
            Pass::NoMore => {
                log::warn!("ssh: too many connections: for a minute, only logins are told");
                Strangers::Unnamed
            }
            Pass::No => Strangers::Unnamed,
        }
    }

    fn start(&self, stream: TcpStream) -> io::Result<(UnixStream, Child)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = stream.into_std()?;
        let child = Command::new(OURSELVES)
            .args(self.server.for_connection(self.strangers()))
            .stdin(Stdio::from(OwnedFd::from(stream)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()?;
        Ok((UnixStream::from_std(ours)?, child))
    }
}

/// Asks the kernel, as the runtime may not have heard of the byte yet.
fn has_logged_in(control: &UnixStream) -> io::Result<u8> {
    let mut byte = [0];
    match rustix::io::read(control, &mut byte)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(byte[0]),
    }
}
