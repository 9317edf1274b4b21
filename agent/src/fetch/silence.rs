//! How long a server has been silent before its answer.
//!
//! The HTTP client tells of a request only that it is answered. Making a connection has a bound of
//! its own, so the time for the answer begins when no connection is in the making (any more).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How many connections are in the making.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<watch::Sender<usize>>);

/// One connection in the making.
struct InTheMaking(Arc<watch::Sender<usize>>);

impl Connections {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Makes a connection, and counts it meanwhile.
    pub(super) async fn count<T>(self, connecting: impl Future<Output = T>) -> T {
        self.0.send_modify(|making| *making += 1);
        let _in_the_making = InTheMaking(self.0);
        connecting.await
    }

    /// Returns as soon as no connection has been in the making for so long.
    pub(super) async fn none_for(&self, silence: Duration) {
        let mut making = self.0.subscribe();
        while making.wait_for(|making| *making == 0).await.is_ok() {
            let next = making.wait_for(|making| *making > 0);
            if tokio::time::timeout(silence, next).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for InTheMaking {
    fn drop(&mut self) {
        self.0.send_modify(|making| *making -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep, timeout};

    const SILENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_end_of_the_last_connection() {
        let seconds = Duration::from_secs;
        for (connecting, ended) in
            [(vec![], 30), (vec![20], 50), (vec![40], 70), (vec![20, 20], 70)]
        {
            let connections = Connections::new();
            let begun = Instant::now();
            tokio::spawn({
                let connections = connections.clone();
                async move {
                    for takes in connecting {
                        connections.clone().count(sleep(seconds(takes))).await;
                    }
                }
            });
            connections.none_for(SILENCE).await;
            assert_eq!(begun.elapsed(), seconds(ended));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_given_up_counts_no_more() {
        let connections = Connections::new();
        let begun = Instant::now();
        let given_up = timeout(SILENCE, connections.clone().count(std::future::pending::<()>()));
        given_up.await.unwrap_err();
        connections.none_for(SILENCE).await;
        assert_eq!(begun.elapsed(), 2 * SILENCE);
    }
}
