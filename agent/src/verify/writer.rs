//! Writing and hashing beside the network, where a second processor can do it.
//!
//! On one processor a second thread would only cost switches, so there each chunk is written and
//! hashed where it arrives. Otherwise the bytes are copied into a few buffers that go round between
//! the two threads: they wake each other rarely, and what is in flight has a fixed size. (Handing
//! the chunks over as they are makes the HTTP client allocate a new buffer each time: a third more
//! time in the kernel.)

use super::{Download, Error};
use std::io;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Fits into a core's second-level cache, and takes about 0.5 ms to hash and write.
const BUFFER_BYTES: usize = 512 << 10;

/// One is filled, one is written, and one waits: 1.5 MiB in flight.
const BUFFERS: usize = 3;

/// Whether writing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Flow {
    /// The chunk was taken.
    GoOn,
    /// Writing has failed; [`Writer::stop`] says why.
    Stopped,
}

/// Appends chunks to a [`Download`], in order.
#[derive(Debug)]
pub(crate) enum Writer {
    /// In the caller's thread.
    Here(Result<Download, Error>),
    /// In a thread of its own.
    Beside {
        /// What is being filled.
        buffer: Vec<u8>,
        /// To the other thread.
        full: mpsc::Sender<Vec<u8>>,
        /// Back from the other thread.
        empty: mpsc::Receiver<Vec<u8>>,
        /// The other thread.
        worker: JoinHandle<Result<Download, Error>>,
    },
}

impl Writer {
    /// Writes in this thread if there is only one processor.
    pub(crate) fn new(download: Download, processors: usize) -> Self {
        if processors < 2 {
            return Self::Here(Ok(download));
        }
        let (full, batches) = mpsc::channel(BUFFERS);
        let (back, empty) = mpsc::channel(BUFFERS);
        for _ in 1..BUFFERS {
            // The channel has room for every buffer there is.
            if back.try_send(Vec::with_capacity(BUFFER_BYTES)).is_err() {
                break;
            }
        }
        let worker = tokio::task::spawn_blocking(move || append_all(download, batches, &back));
        Self::Beside { buffer: Vec::with_capacity(BUFFER_BYTES), full, empty, worker }
    }

    /// Takes one chunk; waits if the other thread is behind.
    pub(crate) async fn write(&mut self, mut chunk: &[u8]) -> Flow {
        match self {
            Self::Here(download) => append_here(download, chunk),
            Self::Beside { buffer, full, empty, .. } => {
                while !chunk.is_empty() {
                    let room = BUFFER_BYTES.saturating_sub(buffer.len()).min(chunk.len());
                    let (now, later) = chunk.split_at(room);
                    buffer.extend_from_slice(now);
                    chunk = later;
                    if buffer.len() >= BUFFER_BYTES && exchange(buffer, full, empty).await.is_none()
                    {
                        return Flow::Stopped;
                    }
                }
                Flow::GoOn
            }
        }
    }

    /// Waits until all is written and gives the file back.
    pub(crate) async fn stop(self) -> Result<Download, Error> {
        match self {
            Self::Here(download) => download,
            Self::Beside { buffer, full, worker, .. } => {
                if full.send(buffer).await.is_err() {
                    log::debug!("writing has failed before its end");
                }
                drop(full);
                worker.await.map_err(|error| Error::Hasher(io::Error::other(error)))?
            }
        }
    }
}

/// Hands a full buffer over for an empty one; `None` if the other thread has stopped.
async fn exchange(
    buffer: &mut Vec<u8>,
    full: &mpsc::Sender<Vec<u8>>,
    empty: &mut mpsc::Receiver<Vec<u8>>,
) -> Option<()> {
    full.send(std::mem::take(buffer)).await.ok()?;
    *buffer = empty.recv().await?;
    Some(())
}

fn append_here(download: &mut Result<Download, Error>, chunk: &[u8]) -> Flow {
    if let Ok(open) = download
        && let Err(error) = open.append(chunk)
    {
        *download = Err(error);
    }
    if download.is_ok() { Flow::GoOn } else { Flow::Stopped }
}

fn append_all(
    mut download: Download,
    mut full: mpsc::Receiver<Vec<u8>>,
    empty: &mpsc::Sender<Vec<u8>>,
) -> Result<Download, Error> {
    while let Some(mut buffer) = full.blocking_recv() {
        download.append(&buffer)?;
        buffer.clear();
        if empty.try_send(buffer).is_err() {
            log::debug!("nobody fills buffers any more");
        }
    }
    Ok(download)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Trust;

    /// `yes 0123456789 | tr -d '\n' | head -c 10000000 | sha256sum`
    const DIGEST: &str = "d52fcc26b48dbd4d79b125eb0a29b803ade07613c67ac7c6f2751aefef008486";

    #[tokio::test]
    async fn chunks_are_written_in_order_with_one_processor_and_with_two() {
        let dir = tempfile::tempdir().unwrap();
        for processors in [1, 2] {
            let download = Download::create(dir.path(), "file").unwrap();
            let mut writer = Writer::new(download, processors);
            for _ in 0..1_000_000 {
                assert_eq!(writer.write(b"0123456789").await, Flow::GoOn);
            }
            let verified =
                writer.stop().await.unwrap().finish(Trust::Sha256(DIGEST.parse().unwrap()));
            assert_eq!(verified.unwrap().length_bytes(), 10_000_000);
        }
    }

    #[tokio::test]
    async fn a_full_file_system_stops_the_writer_and_is_told() {
        for processors in [1, 2] {
            let mut writer = Writer::new(full(), processors);
            let mut flow = Flow::GoOn;
            for _ in 0..100 {
                flow = writer.write(&[0; BUFFER_BYTES]).await;
            }
            assert_eq!(flow, Flow::Stopped);
            let error = writer.stop().await.unwrap_err();
            assert_eq!(
                crate::chain::Chain(&error).to_string().replace(char::is_numeric, ""),
                "cannot write full: No space left on device (os error )"
            );
        }
    }

    /// A download onto `/dev/full`, which refuses every byte.
    fn full() -> Download {
        Download::onto(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap(), "full")
    }
}
