//! Who is at the other end of a connection, what it may do, and what it has open.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg};
use russh::server::{Auth, Msg, Session as Ssh};
use russh::{Channel, ChannelId};
use tokio::sync::watch;

use super::{Ends, keys};
use crate::rescue::access::{Access, Permissions, Refusal, USER, Visit};
use crate::rescue::authorized_keys::Switch;
use crate::rescue::flow::{Line, Output};
use crate::rescue::listener;
use crate::rescue::options::{Server, Strangers};
use crate::rescue::program::{Program, Purpose, Session};
use crate::rescue::terminal;

const NO_SUCH_USER: &str = "there is no user but root";

/// Who is at the other end, and what it has open.
pub(super) struct Visitor {
    pub(super) ends: Ends,
    pub(super) access: Access,
    pub(super) server: Server,
    pub(super) logged_in: watch::Sender<bool>,
    pub(super) running: watch::Sender<usize>,
    pub(super) permissions: Option<Permissions>,
    pub(super) channels: HashMap<ChannelId, Open>,
    pub(super) output: Arc<Output>,
}

/// A channel that is open.
pub(super) struct Open {
    pub(super) line: Arc<Line>,
    /// Until it is given to a program.
    pub(super) channel: Option<Channel<Msg>>,
    pub(super) terminal: Option<terminal::Request>,
    pub(super) program: Option<Program>,
}

impl Visitor {
    pub(super) fn new(
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

    pub(super) fn visit(&self) -> Visit {
        Visit { source: self.ends.client.ip(), now: SystemTime::now() }
    }

    pub(super) fn refuse(&self, user: &str, what: &str, why: &str) -> Auth {
        if self.server.strangers == Strangers::Named {
            log::warn!("ssh: {} refused: user {user:?}, {what}: {why}", self.ends.client);
        }
        Auth::reject()
    }

    /// Refuses a proof that is not worth making.
    pub(super) fn turn_away(&self, user: &str, what: &str, verdict: Result<(), Refusal>) -> Auth {
        match verdict {
            Err(refusal) if user == USER => self.refuse(user, what, &refusal.to_string()),
            _ => self.refuse(user, what, NO_SUCH_USER),
        }
    }

    pub(super) fn decide(
        &mut self,
        user: &str,
        what: &str,
        verdict: Result<Permissions, Refusal>,
    ) -> Auth {
        if user != USER {
            return self.refuse(user, what, NO_SUCH_USER);
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

    pub(super) fn open(&mut self, id: ChannelId, channel: Option<Channel<Msg>>) -> Arc<Line> {
        let line = Line::new(&self.output);
        let open = Open { line: Arc::clone(&line), channel, terminal: None, program: None };
        self.channels.insert(id, open);
        self.running.send_replace(self.channels.len());
        line
    }

    pub(super) fn may_forward(&self, host: &str, port: u16) -> bool {
        self.permissions.as_ref().is_some_and(|permissions| {
            permissions.forwarding == Switch::On
                && (permissions.permit_open.is_empty()
                    || permissions.permit_open.iter().any(|place| place.contains(host, port)))
        })
    }

    pub(super) fn start(
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

    pub(super) fn try_start(
        &mut self,
        id: ChannelId,
        purpose: Purpose,
        ssh: &mut Ssh,
    ) -> io::Result<()> {
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
            message: keys::message(&self.server.root),
        };
        let line = Arc::clone(&open.line);
        open.program = Some(Program::start(&session, channel, ssh.handle(), line)?);
        listener::let_go_of_start();
        Ok(())
    }
}

pub(super) fn described(key: &KeyData, algorithm: &Algorithm) -> String {
    format!("{} {}", algorithm.as_str(), key.fingerprint(HashAlg::Sha256))
}
