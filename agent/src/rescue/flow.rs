//! Moves bytes between a channel of the ssh connection and a program or a socket.
//!
//! russh reads the next packet only after it has handed on the last, and it grants the client a new
//! window as packets arrive, not as they are used. So a program that does not read its input would
//! either stop the whole connection or fill the memory. [`Line::take`] holds the connection up
//! while a channel's backlog is long, but never while there is output to send, as a program may
//! wait for us to take its output before it reads on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// The most that a packet carries.
pub const PACKET_BYTES: u32 = 32 * 1024;

/// Input that waits for its reader; enough to keep a pipe busy.
const LONG_BACKLOG_BYTES: usize = 1024 * 1024;

/// After this, one more packet is taken although nobody reads: it may be the one that lets our
/// output go on.
const PATIENCE: Duration = Duration::from_millis(250);

/// What the connection and the task of one channel tell each other.
#[derive(Default)]
pub struct Line {
    backlog_bytes: AtomicUsize,
    drained: Notify,
    hung_up: Notify,
    output: Arc<Notify>,
}

impl Line {
    /// A line of a connection on which any output notifies `output`.
    pub fn new(output: &Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { output: Arc::clone(output), ..Self::default() })
    }

    /// Input has arrived; returns when the connection may go on.
    pub async fn take(&self, bytes: usize) {
        self.backlog_bytes.fetch_add(bytes, Ordering::Relaxed);
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        while self.backlog_bytes.load(Ordering::Relaxed) > LONG_BACKLOG_BYTES {
            tokio::select! {
                () = self.drained.notified() => {}
                () = self.output.notified() => return,
                () = &mut patience => return,
            }
        }
    }

    /// The client has closed the channel.
    pub fn hang_up(&self) {
        self.hung_up.notify_one();
    }

    /// Returns when the client has closed the channel.
    pub async fn hung_up(&self) {
        self.hung_up.notified().await;
    }

    fn used(&self, bytes: usize) {
        self.backlog_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.drained.notify_one();
    }
}

/// Which of a program's outputs.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    Output,
    Errors,
}

/// Sends what `source` has until it ends.
pub async fn send(
    source: &mut (impl AsyncRead + Unpin),
    stream: Stream,
    channel: &ChannelWriteHalf<Msg>,
    line: &Line,
) -> Result<(), russh::Error> {
    loop {
        let mut bytes = Vec::with_capacity(PACKET_BYTES as usize);
        match source.read_buf(&mut bytes).await {
            Ok(0) => return Ok(()),
            Ok(_) => send_bytes(bytes, stream, channel, line).await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends some bytes.
pub async fn send_bytes(
    bytes: Vec<u8>,
    stream: Stream,
    channel: &ChannelWriteHalf<Msg>,
    line: &Line,
) -> Result<(), russh::Error> {
    /// RFC 4254 section 5.2.
    const STDERR: u32 = 1;
    line.output.notify_one();
    match stream {
        Stream::Output => channel.data_bytes(bytes).await,
        Stream::Errors => channel.extended_data_bytes(STDERR, bytes).await,
    }
}

/// Writes what the client sends; at its end of file, closes `sink`. What a reader that has gone
/// leaves is thrown away. Returns at the end of file, or when the channel is closed.
pub async fn receive(channel: &mut ChannelReadHalf, sink: impl AsyncWrite + Unpin, line: &Line) {
    let mut sink = Some(sink);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(open) = &mut sink
                    && open.write_all(&data).await.is_err()
                {
                    sink = None;
                }
                line.used(data.len());
            }
            ChannelMsg::ExtendedData { data, .. } => line.used(data.len()),
            ChannelMsg::Eof | ChannelMsg::Close => break,
            _ => {}
        }
    }
    if let Some(mut open) = sink {
        // A reader that has gone needs no goodbye.
        open.shutdown().await.unwrap_or(());
    }
}
