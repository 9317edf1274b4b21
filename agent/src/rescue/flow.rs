//! Moves bytes between a channel of the ssh connection and a program or a socket.
//!
//! russh reads the next packet only after it has handed on the last, and it grants the client a new
//! window as packets arrive, not as they are used. So a program that does not read its input would
//! fill the memory. [`Line::take`] holds the whole connection up while a channel's backlog is long,
//! and [`Line::window_bytes`] makes the grants small then. But while output waits for a window, the
//! connection goes on: the client's grant may be behind its data, and the program may wait for us to
//! take its output before it reads on. A client that never takes its output is slowed down more
//! and more: after an hour, the backlog is below 64 MiB.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most that a packet carries.
pub(crate) const PACKET_BYTES: u32 = 32 * 1024;

/// Input that waits for its reader; enough to keep a pipe busy.
const LONG_BACKLOG_BYTES: usize = 1024 * 1024;

/// From here on, a client that does not take its output is slowed down.
const BAD_BACKLOG_BYTES: usize = 8 * 1024 * 1024;

/// After this, one more packet is taken although nobody reads: the client's grant may be next.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a client may send before we answer, if its data is used: 10 ms at 200 MB/s and more.
pub(crate) const WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// The same if it is not: a grant of the client is never behind more than this.
const NARROW_WINDOW_BYTES: u32 = 2 * PACKET_BYTES;

/// Output of all channels of a connection that waits to be sent.
#[derive(Default)]
pub(crate) struct Output {
    waiting: AtomicUsize,
    waits: Notify,
}

/// What the connection and the task of one channel tell each other.
#[derive(Default)]
pub(crate) struct Line {
    backlog_bytes: AtomicUsize,
    drained: Notify,
    hung_up: Notify,
    output: Arc<Output>,
}

impl Line {
    /// A line of the connection with this output.
    pub(crate) fn new(output: &Arc<Output>) -> Arc<Self> {
        Arc::new(Self { output: Arc::clone(output), ..Self::default() })
    }

    /// Input has arrived; returns when the connection may go on.
    pub(crate) async fn take(&self, bytes: usize) {
        self.backlog_bytes.fetch_add(bytes, Ordering::Relaxed);
        let start = Instant::now();
        while let Some(patience) = self.patience() {
            tokio::select! {
                () = self.drained.notified() => {}
                () = self.output.waits.notified() => {}
                () = tokio::time::sleep_until(start + patience) => return,
            }
        }
    }

    /// What the client may send from now on before it needs a grant of ours.
    pub(crate) fn window_bytes(&self) -> u32 {
        match self.backlog_bytes.load(Ordering::Relaxed) {
            0..=LONG_BACKLOG_BYTES => WINDOW_BYTES,
            _ => NARROW_WINDOW_BYTES,
        }
    }

    /// How long the connection is held up, if it is.
    fn patience(&self) -> Option<Duration> {
        let output_waits = self.output.waiting.load(Ordering::Relaxed) > 0;
        let backlog = self.backlog_bytes.load(Ordering::Relaxed);
        match backlog {
            0..=LONG_BACKLOG_BYTES => None,
            0..=BAD_BACKLOG_BYTES if output_waits => None,
            _ => {
                let times = u32::try_from(backlog / BAD_BACKLOG_BYTES).unwrap_or(u32::MAX).max(1);
                Some(PATIENCE * times.saturating_mul(times).min(1000))
            }
        }
    }

    /// The client has closed the channel.
    pub(crate) fn hang_up(&self) {
        self.hung_up.notify_one();
    }

    /// Returns when the client has closed the channel.
    pub(crate) async fn hung_up(&self) {
        self.hung_up.notified().await;
    }

    fn used(&self, bytes: usize) {
        self.backlog_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.drained.notify_one();
    }
}

/// Which of a program's outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Output,
    Errors,
}

/// Sends what `source` has until it ends.
pub(crate) async fn send(
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
pub(crate) async fn send_bytes(
    bytes: Vec<u8>,
    stream: Stream,
    channel: &ChannelWriteHalf<Msg>,
    line: &Line,
) -> Result<(), russh::Error> {
    /// RFC 4254 section 5.2.
    const STDERR: u32 = 1;
    let waiting = Waiting::begin(&line.output);
    let sent = match stream {
        Stream::Output => channel.data_bytes(bytes).await,
        Stream::Errors => channel.extended_data_bytes(STDERR, bytes).await,
    };
    drop(waiting);
    sent
}

/// Writes what the client sends; at its end of file, closes `sink`. What a reader that has gone
/// leaves is thrown away. Returns at the end of file, or when the channel is closed.
pub(crate) async fn receive(
    channel: &mut ChannelReadHalf,
    sink: impl AsyncWrite + Unpin,
    line: &Line,
) {
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

/// Output waits as long as this exists.
struct Waiting<'a>(&'a Output);

impl<'a> Waiting<'a> {
    fn begin(output: &'a Output) -> Self {
        output.waiting.fetch_add(1, Ordering::Relaxed);
        output.waits.notify_one();
        Self(output)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_backlog_holds_the_client_up_and_narrows_its_window() {
        let output = Arc::default();
        let line = Line::new(&output);
        let state = |bytes, waiting| {
            line.backlog_bytes.store(bytes, Ordering::Relaxed);
            output.waiting.store(waiting, Ordering::Relaxed);
            (line.patience(), line.window_bytes())
        };
        assert_eq!(state(LONG_BACKLOG_BYTES, 0), (None, WINDOW_BYTES));
        assert_eq!(state(LONG_BACKLOG_BYTES + 1, 0), (Some(PATIENCE), NARROW_WINDOW_BYTES));
        assert_eq!(state(BAD_BACKLOG_BYTES, 1), (None, NARROW_WINDOW_BYTES));
        assert_eq!(state(BAD_BACKLOG_BYTES + 1, 1), (Some(PATIENCE), NARROW_WINDOW_BYTES));
        assert_eq!(state(3 * BAD_BACKLOG_BYTES, 1), (Some(PATIENCE * 9), NARROW_WINDOW_BYTES));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_client_goes_on_when_its_data_is_used_or_patience_ends() {
        let line = Line::new(&Arc::default());
        let start = Instant::now();
        line.take(LONG_BACKLOG_BYTES + 1).await;
        assert!(start.elapsed() >= PATIENCE, "nobody used it");
        let used = async { line.used(2) };
        let both = async { tokio::join!(line.take(1), used) };
        assert!(tokio::time::timeout(PATIENCE / 2, both).await.is_ok());
    }
}
