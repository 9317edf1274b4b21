//! One connection, from its first byte to its last; the only thing that its process does.
//!
//! On entry the connection is standard input, and the listener is at the other end of standard
//! output. Every proof that is refused is logged with the address it came from.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Response, RunningSession,
    Session as Ssh, VerifiedPublicKey,
};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, Disconnect, MethodKind, MethodSet, Preferred, Pty, Sig,
    SshId,
};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::access::{Access, Permissions, Refusal, USER, Visit};
use super::authorized_keys::{self, Switch};
use super::flow::{Line, Output, PACKET_BYTES, WINDOW_BYTES};
use super::host_key::{self, HostKey};
use super::listener::{LOGGED_IN, canonical};
use super::options::Server;
use super::program::{Program, Purpose, Session};
use super::{forward, terminal};
use crate::chain::Chain;

const AUTHORIZED_KEYS: [&str; 2] = ["root/.ssh/authorized_keys", "run/stage2/authorized_keys"];
const REVOKED_KEYS: &str = "root/.ssh/revoked_keys";
const MESSAGE_OF_THE_DAY: &str = "run/stage2/motd";

/// Refused proofs before the connection ends; the first try of every client is `none`.
const MOST_TRIES: usize = 1 + 6;

/// Sessions and forwarded connections at once in one connection.
const MOST_CHANNELS: usize = 10 * 10;

/// Messages that wait for the task of a channel. If they were ever so many, the whole connection would
/// stand still; `Line::take` slows a client down long before that.
const MESSAGES_PER_CHANNEL: usize = 1 << 16;

/// Output that waits for the connection: a whole window of OpenSSH's client for four channels, so
/// that a channel waits for its client and not for the others.
const MESSAGES_OF_CONNECTION: usize = 256;

/// A connection in which nothing runs is closed after this.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// A client whose machine died is noticed after `KEEPALIVE` times `MOST_MISSED`.
const KEEPALIVE: Duration = Duration::from_secs(30);
const MOST_MISSED: usize = 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("expected a connection as standard input")]
    NoConnection(#[source] io::Error),
    #[error("expected the listener as standard output")]
    NoListener(#[source] io::Error),
    #[error("cannot get the host key")]
    HostKey(#[from] host_key::Error),
}

/// Serves the connection until it ends.
pub(crate) async fn serve(server: Server) -> Result<(), Error> {
    let deadline = Instant::now() + server.login_grace;
    let (stream, ends) = client().map_err(Error::NoConnection)?;
    let mut listener = listener().map_err(Error::NoListener)?;
    let mut host_key = String::new();
    listener.read_to_string(&mut host_key).await.map_err(Error::NoListener)?;
    let config = config(HostKey::take_over(&host_key)?);

    let (logged_in, mut login) = watch::channel(false);
    let (running, programs) = watch::channel(0);
    let access = access(&server.root);
    let visitor = Visitor::new(ends, access, server, logged_in, running);
    let source = ends.client;
    let started = russh::server::run_stream(Arc::new(config), stream, visitor);
    let mut session = match tokio::time::timeout_at(deadline, started).await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => {
            log_end(source, "did not log in", Err(error));
            return Ok(());
        }
        Err(_) => {
            log::warn!("ssh: {source} refused: it did not speak in time");
            return Ok(());
        }
    };
    tokio::select! {
        end = &mut session => log_end(source, "did not log in", end),
        login = tokio::time::timeout_at(deadline, login.changed()) => match login {
            Ok(Ok(())) => until_the_end(source, session, programs).await,
            // The connection has ended, and with it who could have told us of a login.
            Ok(Err(_)) => log_end(source, "did not log in", session.await),
            Err(_) => log::warn!("ssh: {source} refused: it did not log in in time"),
        }
    }
    Ok(())
}

async fn until_the_end(
    source: SocketAddr,
    mut session: RunningSession<Visitor>,
    programs: watch::Receiver<usize>,
) {
    let handle = session.handle();
    tokio::select! {
        end = &mut session => return log_end(source, "logged out", end),
        () = idle(programs) => {}
    }
    let reason = "nothing runs here".to_owned();
    log::info!("ssh: {source} logged out: {reason}");
    if let Err(error) = handle.disconnect(Disconnect::ByApplication, reason, "en".to_owned()).await
    {
        log::debug!("ssh: {source}: {error}");
    }
}

fn log_end(source: SocketAddr, what: &str, end: Result<(), russh::Error>) {
    match end {
        Ok(()) => log::info!("ssh: {source} {what}"),
        Err(error) => log::info!("ssh: {source} {what}: {}", Chain(&error)),
    }
}

/// Returns when nothing has run for [`IDLE`].
async fn idle(mut programs: watch::Receiver<usize>) {
    while programs.wait_for(|running| *running == 0).await.is_ok() {
        match tokio::time::timeout(IDLE, programs.changed()).await {
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

fn client() -> io::Result<(TcpStream, Ends)> {
    let stream = std::net::TcpStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let client = canonical(stream.peer_addr()?);
    let server = canonical(stream.local_addr()?);
    Ok((TcpStream::from_std(stream)?, Ends { client, server }))
}

fn listener() -> io::Result<UnixStream> {
    let listener = std::os::unix::net::UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    UnixStream::from_std(listener)
}

const KEY_EXCHANGES: &[russh::kex::Name] = &[
    russh::kex::MLKEM768X25519_SHA256,
    russh::kex::CURVE25519,
    russh::kex::CURVE25519_PRE_RFC_8731,
    russh::kex::EXTENSION_SUPPORT_AS_SERVER,
    russh::kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[russh::cipher::Name] =
    &[russh::cipher::CHACHA20_POLY1305, russh::cipher::AES_256_GCM];

/// Not used with our ciphers, but a client must find one it knows.
const MACS: &[russh::mac::Name] = &[russh::mac::HMAC_SHA512_ETM, russh::mac::HMAC_SHA256_ETM];

const COMPRESSIONS: &[russh::compression::Name] = &[russh::compression::NONE];

/// What clients may sign with; the host signs with the first.
fn signatures() -> Vec<Algorithm> {
    use russh::keys::EcdsaCurve::{NistP256, NistP384, NistP521};
    vec![
        Algorithm::Ed25519,
        Algorithm::SkEd25519,
        Algorithm::Ecdsa { curve: NistP256 },
        Algorithm::Ecdsa { curve: NistP384 },
        Algorithm::Ecdsa { curve: NistP521 },
        Algorithm::SkEcdsaSha2NistP256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    ]
}

fn config(host_key: HostKey) -> Config {
    Config {
        server_id: SshId::Standard("SSH-2.0-stage2".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // There is no password that the time to refuse it could tell something about.
        auth_rejection_time: Duration::ZERO,
        keys: vec![host_key.key],
        certificates: host_key.certificate.into_iter().collect(),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        channel_buffer_size: MESSAGES_PER_CHANNEL,
        event_buffer_size: MESSAGES_OF_CONNECTION,
        preferred: Preferred {
            kex: KEY_EXCHANGES.into(),
            key: signatures().into(),
            cipher: CIPHERS.into(),
            mac: MACS.into(),
            compression: COMPRESSIONS.into(),
            ..Preferred::DEFAULT
        },
        max_auth_attempts: MOST_TRIES,
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: MOST_MISSED,
        nodelay: true,
        ..Config::default()
    }
}

/// The keys as they are now. With a list of revoked keys that cannot be read, there are none.
fn access(root: &Path) -> Access {
    let mut keys = Vec::new();
    for name in AUTHORIZED_KEYS {
        let path = root.join(name);
        let Some(text) = read(&path) else { continue };
        let (good, bad) = authorized_keys::parse(&text);
        keys.extend(good);
        for error in bad {
            log::warn!("ssh: {}: {}", path.display(), Chain(&error));
        }
    }
    let path = root.join(REVOKED_KEYS);
    match authorized_keys::parse_revoked(&read(&path).unwrap_or_default()) {
        Ok(revoked) => Access { keys, revoked },
        Err(error) => {
            log::error!("ssh: all keys are refused: {}: {}", path.display(), Chain(&error));
            Access::default()
        }
    }
}

fn read(path: &Path) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            log::warn!("ssh: cannot read {}: {error}", path.display());
            None
        }
    }
}

/// Who is at the other end, and what it has open.
struct Visitor {
    ends: Ends,
    access: Access,
    server: Server,
    logged_in: watch::Sender<bool>,
    running: watch::Sender<usize>,
    permissions: Option<Permissions>,
    channels: HashMap<ChannelId, Open>,
    output: Arc<Output>,
}

/// A channel that is open.
struct Open {
    line: Arc<Line>,
    /// Until it is given to a program.
    channel: Option<Channel<Msg>>,
    terminal: Option<terminal::Request>,
    program: Option<Program>,
}

impl Visitor {
    fn new(
        ends: Ends,
        access: Access,
        server: Server,
        logged_in: watch::Sender<bool>,
        running: watch::Sender<usize>,
    ) -> Self {
        Self {
            ends,
            access,
            server,
            logged_in,
            running,
            permissions: None,
            channels: HashMap::new(),
            output: Arc::default(),
        }
    }

    fn visit(&self) -> Visit {
        Visit { source: self.ends.client.ip(), now: SystemTime::now() }
    }

    fn refuse(&self, user: &str, what: &str, why: &str) -> Auth {
        log::warn!("ssh: {} refused: user {user:?}, {what}: {why}", self.ends.client);
        Auth::reject()
    }

    fn decide(&mut self, user: &str, what: &str, verdict: Result<Permissions, Refusal>) -> Auth {
        if user != USER {
            return self.refuse(user, what, "there is no user but root");
        }
        match verdict {
            Ok(permissions) => {
                log::info!("ssh: {} logged in: {what}", self.ends.client);
                self.permissions = Some(permissions);
                Auth::Accept
            }
            Err(refusal) => self.refuse(user, what, &refusal.to_string()),
        }
    }

    fn open(&mut self, id: ChannelId, channel: Option<Channel<Msg>>) -> Arc<Line> {
        let line = Line::new(&self.output);
        let open = Open { line: Arc::clone(&line), channel, terminal: None, program: None };
        self.channels.insert(id, open);
        self.running.send_replace(self.channels.len());
        line
    }

    fn may_forward(&self, host: &str, port: u16) -> bool {
        self.permissions.as_ref().is_some_and(|permissions| {
            permissions.forwarding == Switch::On
                && (permissions.permit_open.is_empty()
                    || permissions.permit_open.iter().any(|place| place.contains(host, port)))
        })
    }

    fn start(
        &mut self,
        id: ChannelId,
        purpose: Purpose,
        ssh: &mut Ssh,
    ) -> Result<(), russh::Error> {
        match self.try_start(id, purpose, ssh) {
            Ok(()) => ssh.channel_success(id),
            Err(error) => {
                log::warn!("ssh: {}: cannot start a session: {error}", self.ends.client);
                ssh.channel_failure(id)
            }
        }
    }

    fn try_start(&mut self, id: ChannelId, purpose: Purpose, ssh: &mut Ssh) -> io::Result<()> {
        let (Some(permissions), Some(open)) = (&self.permissions, self.channels.get_mut(&id))
        else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        // A channel runs one program in its life: RFC 4254 section 6.5.
        let channel = open.channel.take().ok_or(io::ErrorKind::AlreadyExists)?;
        let (purpose, original) = purpose.forced(permissions.command.as_deref());
        let session = Session {
            purpose,
            original,
            terminal: open.terminal.take(),
            client: self.ends.client,
            server: self.ends.server,
            message: message(&self.server.root),
        };
        let line = Arc::clone(&open.line);
        open.program = Some(Program::start(&session, channel, ssh.handle(), line)?);
        Ok(())
    }
}

/// The message of the day, as a terminal shows it.
fn message(root: &Path) -> Vec<u8> {
    let message = read(&root.join(MESSAGE_OF_THE_DAY)).unwrap_or_default();
    message.replace('\n', "\r\n").into_bytes()
}

fn described(key: &KeyData, algorithm: &Algorithm) -> String {
    format!("{} {}", algorithm.as_str(), key.fingerprint(HashAlg::Sha256))
}

impl Handler for Visitor {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        // Every client asks this first, to learn what else there is.
        log::debug!("ssh: {} refused: none", self.ends.client);
        Ok(Auth::reject())
    }

    async fn auth_password(&mut self, user: &str, _: &str) -> Result<Auth, russh::Error> {
        Ok(self.refuse(user, "password", "there are no passwords"))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        _: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.refuse(user, "keyboard-interactive", "there are no passwords"))
    }

    /// russh does not tell here whether the key came in a certificate. Where there are authorities,
    /// any key may be worth proving.
    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        let key = offer.public_key.key_data();
        let verdict = self.access.key(key, offer.algorithm, self.visit());
        match verdict {
            _ if user == USER && self.access.knows_an_authority() => Ok(Auth::Accept),
            Ok(_) if user == USER => Ok(Auth::Accept),
            verdict => Ok(self.decide(user, &described(key, offer.algorithm), verdict)),
        }
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        proof: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        let key = proof.public_key.key_data();
        let verdict = self.access.key(key, proof.algorithm, self.visit());
        Ok(self.decide(user, &described(key, proof.algorithm), verdict))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, russh::Error> {
        let verdict = self.access.certificate(certificate, self.visit());
        let authority = certificate.signature_key();
        let what = format!(
            "certificate {:?} number {} of {}",
            certificate.key_id(),
            certificate.serial(),
            described(authority, &authority.algorithm())
        );
        Ok(self.decide(user, &what, verdict))
    }

    /// The listener knows before the client does: it must not end a session that has begun.
    async fn auth_succeeded(&mut self, _: &mut Ssh) -> Result<(), russh::Error> {
        let mut listener = io::stdout();
        listener.write_all(&[LOGGED_IN])?;
        listener.flush()?;
        self.logged_in.send_replace(true);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Ssh,
    ) -> Result<(), russh::Error> {
        if self.channels.len() >= MOST_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.open(channel.id(), Some(channel));
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Ssh,
    ) -> Result<(), russh::Error> {
        let port = u16::try_from(port).unwrap_or(0);
        if !self.may_forward(host, port) {
            log::warn!("ssh: {} refused: forwarding to {host:?} port {port}", self.ends.client);
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        } else if self.channels.len() >= MOST_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        } else {
            let line = self.open(channel.id(), None);
            tokio::spawn(forward::connect(host.to_owned(), port, channel, reply, line));
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Ssh) -> Result<(), russh::Error> {
        if let Some(open) = self.channels.get(&id) {
            open.line.take(data.len()).await;
        }
        Ok(())
    }

    fn adjust_window(&mut self, id: ChannelId, current: u32) -> u32 {
        self.channels.get(&id).map_or(current, |open| open.line.window_bytes())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        _: u32,
        data: &[u8],
        ssh: &mut Ssh,
    ) -> Result<(), russh::Error> {
        self.data(id, data, ssh).await
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        modes: &[(Pty, u32)],
        ssh: &mut Ssh,
    ) -> Result<(), russh::Error> {
        let allowed = self.permissions.as_ref().is_some_and(|allowed| allowed.pty == Switch::On);
        match self.channels.get_mut(&id) {
            Some(open) if allowed && !term.contains('\0') => {
                let size = terminal::winsize(columns, rows, width, height);
                let (term, modes) = (term.to_owned(), modes.to_vec());
                open.terminal = Some(terminal::Request { term, size, modes });
                ssh.channel_success(id)
            }
            _ => ssh.channel_failure(id),
        }
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: &str,
        ssh: &mut Ssh,
    ) -> Result<(), russh::Error> {
        ssh.channel_failure(id)
    }

    async fn shell_request(&mut self, id: ChannelId, ssh: &mut Ssh) -> Result<(), russh::Error> {
        self.start(id, Purpose::Shell, ssh)
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        ssh: &mut Ssh,
    ) -> Result<(), russh::Error> {
        use std::os::unix::ffi::OsStrExt;
        let command = std::ffi::OsStr::from_bytes(command).to_owned();
        self.start(id, Purpose::Command(command), ssh)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        ssh: &mut Ssh,
    ) -> Result<(), russh::Error> {
        match name {
            "sftp" => self.start(id, Purpose::Sftp, ssh),
            _ => ssh.channel_failure(id),
        }
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _: &mut Ssh,
    ) -> Result<(), russh::Error> {
        if let Some(program) = self.channels.get(&id).and_then(|open| open.program.as_ref()) {
            program.resize(terminal::winsize(columns, rows, width, height));
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        _: &mut Ssh,
    ) -> Result<(), russh::Error> {
        if let Some(program) = self.channels.get(&id).and_then(|open| open.program.as_ref()) {
            program.signal(&signal);
        }
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Ssh) -> Result<(), russh::Error> {
        if let Some(open) = self.channels.remove(&id) {
            open.line.hang_up();
        }
        self.running.send_replace(self.channels.len());
        Ok(())
    }
}
