//! The boot role's network: it is there before each attempt, and kept meanwhile.
//!
//! A card can be lost at any time: a flasher unbinds its driver, it is reset, or it is pulled. What
//! needs the network next gets it anew.

use std::path::Path;

use agent_types::net::NetworkConfig;

use crate::network::{self, Error, Limits, Network, OnWait};

/// Where `etc/hosts` and `etc/resolv.conf` are.
const ROOT: &str = "/";

/// The network, once it has been brought up.
#[derive(Debug, Default)]
pub(crate) struct Uplink(Option<Up>);

/// A network, and what it was set up from.
#[derive(Debug)]
struct Up {
    config: NetworkConfig,
    network: Network,
}

impl Uplink {
    /// Brings the network up, unless it stands already as `config` asks for it.
    pub(crate) async fn ready(
        &mut self,
        config: &NetworkConfig,
        on_wait: OnWait<'_>,
    ) -> Result<&Network, Error> {
        let up = match self.0.take() {
            Some(up) if up.config == *config && network::stands(&up.network).await? => up,
            _ => {
                let limits = Limits::default();
                let network = network::bring_up(config, &limits, Path::new(ROOT), on_wait).await?;
                Up { config: config.clone(), network }
            }
        };
        Ok(&self.0.insert(up).network)
    }

    /// The machine's name, if it has one.
    pub(crate) fn hostname(&self) -> Option<&str> {
        self.0.as_ref()?.network.hostname.as_deref()
    }

    /// Whether there is none.
    pub(crate) fn is_down(&self) -> bool {
        self.0.is_none()
    }

    /// Whether there is a DHCP lease, which must be renewed.
    pub(crate) fn is_leased(&self) -> bool {
        self.0.as_ref().is_some_and(|up| up.network.lease.is_some())
    }

    /// Does `work`, and keeps the lease meanwhile, whatever becomes of it.
    pub(crate) async fn keep_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let Some(Up { config, network }) = &mut self.0 else { return work.await };
        let (limits, root) = (Limits::default(), Path::new(ROOT));
        let renewed = |network: &Network| log::debug!("renewed: {network}");
        tokio::select! {
            done = work => done,
            never = network::keep(network, config, &limits, root, &renewed) => match never {},
        }
    }
}
