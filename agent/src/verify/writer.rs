//! Writing and hashing beside the network, where a second processor can do it.
//!
//! On one processor a second thread would only cost switches, so there each chunk is written and
//! hashed where it arrives. Otherwise chunks are gathered into batches, so that the two threads
//! wake each other rarely, and the queue is short, so that little memory is in flight.

use super::{Download, Error};
use bytes::Bytes;
use std::io;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One batch takes about 0.2 ms to hash and write.
const BATCH_BYTES: usize = 256 << 10;

/// A chunk has at most 0.5 MiB, so at most 4 MiB are in flight: here, in the queue, and in work.
const QUEUED_BATCHES: usize = 3;

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
        /// What the caller has gathered.
        batch: Vec<Bytes>,
        /// Its length.
        batch_bytes: usize,
        /// To the other thread.
        queue: mpsc::Sender<Vec<Bytes>>,
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
        let (queue, batches) = mpsc::channel(QUEUED_BATCHES);
        let worker = tokio::task::spawn_blocking(move || append_all(download, batches));
        Self::Beside { batch: Vec::new(), batch_bytes: 0, queue, worker }
    }

    /// Takes one chunk; waits if the other thread is behind.
    pub(crate) async fn write(&mut self, chunk: Bytes) -> Flow {
        match self {
            Self::Here(download) => append_here(download, &chunk),
            Self::Beside { batch, batch_bytes, queue, .. } => {
                *batch_bytes += chunk.len();
                batch.push(chunk);
                if *batch_bytes < BATCH_BYTES {
                    return Flow::GoOn;
                }
                *batch_bytes = 0;
                send(queue, std::mem::take(batch)).await
            }
        }
    }

    /// Waits until all is written and gives the file back.
    pub(crate) async fn stop(self) -> Result<Download, Error> {
        match self {
            Self::Here(download) => download,
            Self::Beside { batch, queue, worker, .. } => {
                // If nobody takes the last batch, the worker's result says why.
                let (Flow::GoOn | Flow::Stopped) = send(&queue, batch).await;
                drop(queue);
                worker.await.map_err(|error| Error::Hasher(io::Error::other(error)))?
            }
        }
    }
}

fn append_here(download: &mut Result<Download, Error>, chunk: &[u8]) -> Flow {
    if let Ok(open) = download
        && let Err(error) = open.append(chunk)
    {
        *download = Err(error);
    }
    if download.is_ok() { Flow::GoOn } else { Flow::Stopped }
}

async fn send(queue: &mpsc::Sender<Vec<Bytes>>, batch: Vec<Bytes>) -> Flow {
    match queue.send(batch).await {
        Ok(()) => Flow::GoOn,
        Err(_) => Flow::Stopped,
    }
}

fn append_all(
    mut download: Download,
    mut batches: mpsc::Receiver<Vec<Bytes>>,
) -> Result<Download, Error> {
    while let Some(batch) = batches.blocking_recv() {
        batch.iter().try_for_each(|chunk| download.append(chunk))?;
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
                assert_eq!(writer.write(Bytes::from_static(b"0123456789")).await, Flow::GoOn);
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
                flow = writer.write(Bytes::from(vec![0; BATCH_BYTES])).await;
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
