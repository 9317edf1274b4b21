//! Keeps what a DHCP server granted, for as long as the machine stays.

use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent_types::net::NetworkConfig;
use tokio::time::{sleep, timeout};

use super::{Error, Limits, Network, aloud, ask, bring_up, client, configure, introduce, stands};
use crate::chain::Chain;
use crate::dhcp::{self, Ask, Client, Due, Lease};
use crate::links::{Link, Links};
use crate::netlink::{LinkAddress, LinkChange, Netlink};

/// After trouble that is none of the lease's.
const PAUSE: Duration = Duration::from_secs(10);

/// What became of a lease.
enum Fate {
    /// Nothing yet.
    Open,
    /// Granted again, perhaps with other terms.
    Renewed(Lease),
    /// The address must not be used any more.
    Lost,
}

/// Renews the lease of `network` for as long as this is polled, and applies what changes.
///
/// When a lease is lost, its address goes and another one is asked for until there is one; when the
/// interface is gone, the network is brought up anew. `on_change` gets every new lease. Without a
/// lease there is nothing to do, and this waits for ever.
pub(crate) async fn keep(
    network: &mut Network,
    config: &NetworkConfig,
    limits: &Limits,
    root: &Path,
    on_change: &dyn Fn(&Network),
) -> Infallible {
    let mut next = next_lease(network, config, limits, root).await;
    loop {
        match next {
            Ok(changed) => {
                *network = changed;
                on_change(network);
                next = next_lease(network, config, limits, root).await;
            }
            Err(error) => {
                log::warn!("{}; next try in {} s", Chain(&error), PAUSE.as_secs());
                sleep(PAUSE).await;
                next = recovered(network, config, limits, root).await;
            }
        }
    }
}

/// After trouble: what stands is kept, what does not is brought up.
async fn recovered(
    network: &Network,
    config: &NetworkConfig,
    limits: &Limits,
    root: &Path,
) -> Result<Network, Error> {
    if stands(network).await? {
        next_lease(network, config, limits, root).await
    } else {
        bring_up(config, limits, root, &aloud).await
    }
}

/// Waits until the lease has been renewed or replaced.
async fn next_lease(
    network: &Network,
    config: &NetworkConfig,
    limits: &Limits,
    root: &Path,
) -> Result<Network, Error> {
    let Some(lease) = &network.lease else { return pending().await };
    let netlink = Netlink::open()?;
    let links = Links::watch().await?;
    let link = link(&links, network)?;
    let client = client(config, link.index, &link.name, link.mac)?;
    let lease = match settled(&client, lease).await {
        Some(renewed) => renewed,
        None => {
            let address = IpAddr::V4(lease.address);
            let lost = LinkAddress { index: link.index, address, prefix_len: lease.prefix_len };
            netlink.apply(&LinkChange::RemoveAddress(lost)).await?;
            ask_until_granted(config, &link, limits).await?
        }
    };
    let renewed = configure(&netlink, &links, config, &link, Some(lease)).await?;
    if !renewed.serves_as(network) {
        introduce(&renewed, root)?;
    }
    Ok(renewed)
}

/// Renews the lease when it is time, until it is renewed, or lost.
async fn settled(client: &Client, lease: &Lease) -> Option<Lease> {
    loop {
        match fate(client, lease).await {
            Fate::Open => {}
            Fate::Renewed(lease) => return Some(lease),
            Fate::Lost => return None,
        }
    }
}

fn link(links: &Links, network: &Network) -> Result<Link, Error> {
    links
        .now()
        .remove(&network.index)
        .ok_or_else(|| Error::LinkGone { interface: network.interface.clone() })
}

/// Waits until something is to be done for the lease, and does it.
async fn fate(client: &Client, lease: &Lease) -> Fate {
    match lease.due(dhcp::since_boot()) {
        Due::In(pause) => {
            sleep(pause).await;
            Fate::Open
        }
        Due::Renew(pause) => renew(client, lease, Ask::ItsServer, pause).await,
        Due::Rebind(pause) => renew(client, lease, Ask::Anybody, pause).await,
        Due::Expired => {
            log::warn!("the lease of {} on {} is over", lease.address, client.interface);
            Fate::Lost
        }
    }
}

async fn renew(client: &Client, lease: &Lease, whom: Ask, pause: Duration) -> Fate {
    match timeout(pause, dhcp::renew(client, lease, whom)).await {
        Ok(Ok(renewed)) => Fate::Renewed(renewed),
        Ok(Err(error @ dhcp::Error::Refused { .. })) => {
            log::warn!("{}", Chain(&error));
            Fate::Lost
        }
        Ok(Err(error)) => {
            log::warn!("{}", Chain(&error));
            sleep(pause).await;
            Fate::Open
        }
        Err(_) => {
            log::warn!("no DHCP server renews {} on {}", lease.address, client.interface);
            Fate::Open
        }
    }
}

async fn ask_until_granted(
    config: &NetworkConfig,
    link: &Link,
    limits: &Limits,
) -> Result<Lease, Error> {
    loop {
        match ask(config, link.clone(), limits.dhcp, &|_| {}).await {
            Ok((_, lease)) => return Ok(lease),
            Err(error @ Error::NoLease { .. }) => log::warn!("{}", Chain(&error)),
            Err(error) => return Err(error),
        }
    }
}
