//! Moves a program's input and output until it ends, and tells the client how it ended.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelWriteHalf};
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

use super::Leader;
use super::signal::name_of;
use crate::rescue::flow::{self, Line, PACKET_BYTES, Stream};

/// The status of a program that could not be told from none: as OpenSSH reports it.
const UNKNOWN_STATUS: u32 = 255;

/// What it takes to bring a program to its end.
pub(super) struct Run {
    pub(super) leader: Arc<Leader>,
    pub(super) child: Child,
    pub(super) handle: Handle,
    pub(super) line: Arc<Line>,
}

impl Run {
    /// A program whose input, output and errors are pipes.
    pub(super) async fn with_pipes(mut self, channel: Channel<Msg>) {
        let (mut from_client, to_client) = channel.split();
        let (stdin, stdout, stderr) =
            (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let (Some(stdin), Some(mut stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
            return;
        };
        let line = Arc::clone(&self.line);
        let input = async {
            flow::receive(&mut from_client, stdin, &line).await;
            std::future::pending::<()>().await;
        };
        let output = async {
            let sent = tokio::join!(
                flow::send(&mut stdout, Stream::Output, &to_client, &line),
                flow::send(&mut stderr, Stream::Errors, &to_client, &line),
            );
            sent.0.and(sent.1)
        };
        tokio::select! {
            sent = output => log_end(sent),
            () = input => {}
            () = line.hung_up() => self.leader.signal(Signal::HUP),
        }
        drop((stdout, stderr));
        self.end(&to_client).await;
    }

    /// A program on a terminal; the message is shown first.
    pub(super) async fn with_terminal(
        mut self,
        channel: Channel<Msg>,
        master: Arc<AsyncFd<OwnedFd>>,
        message: Vec<u8>,
    ) {
        let (mut from_client, to_client) = channel.split();
        let line = Arc::clone(&self.line);
        let input = async {
            flow::receive(&mut from_client, TerminalInput(Arc::clone(&master)), &line).await;
            std::future::pending::<()>().await;
        };
        let output = async {
            if !message.is_empty() {
                flow::send_bytes(message, Stream::Output, &to_client, &line).await?;
            }
            copy_terminal(&master, &mut self.child, &to_client, &line).await
        };
        tokio::select! {
            sent = output => log_end(sent),
            () = input => {}
            () = line.hung_up() => self.leader.signal(Signal::HUP),
        }
        self.end(&to_client).await;
    }

    async fn end(mut self, channel: &ChannelWriteHalf<Msg>) {
        let status = self.child.wait().await;
        self.leader.has_ended();
        let reported = match status {
            Ok(status) => self.report(channel, status).await,
            Err(error) => Err(error.into()),
        };
        log_end(reported);
        let closed = async {
            channel.eof().await?;
            channel.close().await
        };
        log_end(closed.await);
    }

    async fn report(
        &self,
        channel: &ChannelWriteHalf<Msg>,
        end: ExitStatus,
    ) -> Result<(), russh::Error> {
        let Some(signal) = end.signal() else {
            let status = end.code().and_then(|code| u32::try_from(code).ok());
            return channel.exit_status(status.unwrap_or(UNKNOWN_STATUS)).await;
        };
        let (id, name, core) = (channel.id(), name_of(signal), end.core_dumped());
        let sent = self.handle.exit_signal_request(id, name, core, String::new(), String::new());
        sent.await.map_err(|()| russh::Error::SendError)
    }
}

/// The client may have gone; that is no news.
fn log_end(result: Result<(), russh::Error>) {
    if let Err(error) = result {
        log::debug!("ssh: a session ended early: {error}");
    }
}

/// Sends what is shown until the program ends, and what it has shown by then. What it left running
/// in the background does not keep the session open.
async fn copy_terminal(
    master: &AsyncFd<OwnedFd>,
    child: &mut Child,
    channel: &ChannelWriteHalf<Msg>,
    line: &Line,
) -> Result<(), russh::Error> {
    loop {
        let read = tokio::select! {
            biased;
            read = master.async_io(tokio::io::Interest::READABLE, read_terminal) => read,
            ended = child.wait() => {
                ended?;
                break;
            }
        };
        match read {
            Ok(bytes) if bytes.is_empty() => return Ok(()),
            Ok(bytes) => flow::send_bytes(bytes, Stream::Output, channel, line).await?,
            // The last program that had the terminal open is gone.
            Err(_) => return Ok(()),
        }
    }
    while let Ok(bytes) = read_terminal(master.get_ref()) {
        if bytes.is_empty() {
            break;
        }
        flow::send_bytes(bytes, Stream::Output, channel, line).await?;
    }
    Ok(())
}

fn read_terminal(master: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PACKET_BYTES as usize);
    rustix::io::read(master, rustix::buffer::spare_capacity(&mut bytes))?;
    Ok(bytes)
}

/// Our end of a terminal, as something to write to. Closing it does not close the terminal: a client
/// that has no more input still wants to see the output.
struct TerminalInput(Arc<AsyncFd<OwnedFd>>);

impl tokio::io::AsyncWrite for TerminalInput {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        loop {
            let mut ready = std::task::ready!(self.0.poll_write_ready(context))?;
            let written = ready.try_io(|master| Ok(rustix::io::write(master, bytes)?));
            if let Ok(result) = written {
                return std::task::Poll::Ready(result);
            }
        }
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
