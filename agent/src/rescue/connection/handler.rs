//! Answers what a client asks.

use std::io::{self, Write};

use russh::keys::Certificate;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session as Ssh,
    VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Pty, Sig};

use super::visitor::{Visitor, described};
use crate::rescue::access::USER;
use crate::rescue::authorized_keys::Switch;
use crate::rescue::listener::LOGGED_IN;
use crate::rescue::program::Purpose;
use crate::rescue::{forward, terminal};

/// Sessions and forwarded connections at once in one connection.
const MOST_CHANNELS: usize = 10 * 10;

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

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        let key = offer.public_key.key_data();
        match self.access.offer(key, offer.algorithm, self.visit()) {
            Ok(()) if user == USER => Ok(Auth::Accept),
            verdict => Ok(self.turn_away(user, &described(key, offer.algorithm), verdict)),
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
