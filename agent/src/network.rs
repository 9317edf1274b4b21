//! Brings the network up as the kernel command line asks for it.
//!
//! On entry a tokio runtime (current thread) is running and `/proc` is mounted. On return from
//! [`bring_up`] one interface has a carrier and carries its addresses and routes, no other carries
//! any, and the machine knows its name and its name servers. It may be called again at any time,
//! whatever an earlier run left behind. [`keep()`] renews a DHCP lease for as long as it is polled.
//!
//! The order is: loopback, interface, link, carrier, lease, addresses, names. Nothing is polled:
//! every wait ends with the kernel's announcement or the server's answer, and has a limit.

mod keep;
mod patience;
mod pick;
mod plan;

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent_types::net::{Ipv4Config, NetworkConfig};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};

pub(crate) use self::keep::keep;
pub(crate) use self::patience::{OnWait, aloud};
use self::pick::Selection;
use self::plan::{Addressing, Found, plan};
use crate::chain::Chain;
use crate::dhcp::{self, Client, Lease};
use crate::links::{self, Link, LinkState, Links};
use crate::netlink::{self, IfIndex, LinkChange, MacAddr, Netlink};
use crate::resolv;

/// How long to wait for what may never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// For the first card. The kernel's own ip= waits 12 s for drivers that probe late; some
    /// load firmware meanwhile.
    pub card: Duration,
    /// For the named interface while there is another card: cards of one machine appear within a
    /// second or so, and a name that does not exist should not cost more.
    pub named: Duration,
    /// For a carrier. Negotiating LACP takes 70 s, spanning tree 30 to 50 s; the kernel's own ip=
    /// waits as long.
    pub carrier: Duration,
    /// For a DHCP server. A port behind spanning tree passes nothing for 30 s though it has a
    /// carrier; twice that.
    pub dhcp: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            card: Duration::from_secs(30),
            named: Duration::from_secs(2),
            carrier: Duration::from_secs(120),
            dhcp: Duration::from_secs(60),
        }
    }
}

/// The network as it is, for the steps that follow and to be [kept](keep()).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// The interface's name.
    pub interface: String,
    /// The kernel's number for it.
    pub index: IfIndex,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Its addresses with the length of their prefixes; IPv4 first.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where packets go that have no better way.
    pub gateway: Option<IpAddr>,
    /// The machine's name, if it has one.
    pub hostname: Option<String>,
    /// Name servers, in order of preference.
    pub dns: Vec<IpAddr>,
    /// Time servers, in order of preference.
    pub ntp: Vec<IpAddr>,
    /// What the DHCP server granted, if one was asked.
    pub lease: Option<Lease>,
}

impl Network {
    /// Whether programs see no difference: the times of the lease do not count.
    fn serves_as(&self, other: &Self) -> bool {
        let domain = |network: &Self| network.lease.as_ref().and_then(|lease| lease.domain.clone());
        let lease = other.lease.clone();
        domain(self) == domain(other) && Self { lease, ..self.clone() } == *other
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.interface)?;
        for (address, prefix_len) in &self.addresses {
            write!(f, " {address}/{prefix_len}")?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, " through {gateway}")?;
        }
        for (number, server) in self.dns.iter().enumerate() {
            write!(f, "{} {server}", if number == 0 { ", name servers" } else { "," })?;
        }
        match &self.lease {
            Some(lease) if lease.expires_after == Duration::MAX => {
                write!(f, ", granted by {} for ever", lease.server)
            }
            Some(lease) => {
                let secs = lease.expires_after.as_secs();
                write!(f, ", granted by {} for {secs} s", lease.server)
            }
            None => Ok(()),
        }
    }
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel refused a change.
    #[error("cannot configure the network")]
    Netlink(#[from] netlink::Error),
    /// The kernel does not tell what there is.
    #[error("cannot look for interfaces")]
    Links(#[from] links::Error),
    /// The machine knows no card.
    #[error("no network card after {} s: its driver or its firmware may be missing", .waited.as_secs())]
    NoCard {
        /// How long it was waited for.
        waited: Duration,
    },
    /// There is a card and no link.
    #[error("no carrier on {interfaces} after {} s: check cable and switch port", .waited.as_secs())]
    NoCarrier {
        /// Which.
        interfaces: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// There is a link and no DHCP server.
    #[error("no DHCP server answers on {interface} after {} s", .waited.as_secs())]
    NoLease {
        /// Which.
        interface: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Somebody pulled the card.
    #[error("interface {interface} is gone")]
    LinkGone {
        /// Which.
        interface: String,
    },
    /// DHCP is for Ethernet only.
    #[error("cannot use DHCP on {interface}: it has no Ethernet address")]
    NoMac {
        /// Which.
        interface: String,
    },
    /// The socket for DHCP fails.
    #[error("cannot get an address")]
    Dhcp(#[from] dhcp::Error),
    /// The names cannot be written.
    #[error("cannot tell this machine its names")]
    Resolv(#[from] resolv::Error),
}

/// Brings the network up; `root` is where `etc/hosts` and `etc/resolv.conf` go.
pub(crate) async fn bring_up(
    config: &NetworkConfig,
    limits: &Limits,
    root: &Path,
    on_wait: OnWait<'_>,
) -> Result<Network, Error> {
    let netlink = Netlink::open()?;
    let mut links = Links::watch().await?;
    netlink.apply(&LinkChange::SetUp { index: IfIndex::LOOPBACK }).await?;
    let selection = pick::pick(&mut links, config.interface.as_deref(), limits, on_wait).await?;
    let (link, lease) = tokio::select! {
        biased;
        failed = set_up_all(&netlink, links.clone(), selection) => return Err(failed),
        found = find_way(config, &mut links, selection, limits, on_wait) => found?,
    };
    let network = configure(&netlink, &links, config, &link, lease).await?;
    introduce(&network, root)?;
    Ok(network)
}

/// Whether the interface is there, has a carrier, and carries what it was given.
pub(crate) async fn stands(network: &Network) -> Result<bool, Error> {
    let link = Links::watch().await?.now().remove(&network.index);
    let has_carrier = link.is_some_and(|link| link.state == LinkState::Carrier);
    let found = Netlink::open()?.addresses().await?;
    let carries = |(address, _): &(IpAddr, u8)| {
        found.iter().any(|found| found.index == network.index && found.address == *address)
    };
    Ok(has_carrier && network.addresses.iter().all(carries))
}

/// Sets every selected interface up, also those that appear later.
async fn set_up_all(netlink: &Netlink, links: Links, selection: Selection) -> Error {
    match set_up_newcomers(netlink, links, selection).await {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

async fn set_up_newcomers(
    netlink: &Netlink,
    mut links: Links,
    selection: Selection,
) -> Result<Infallible, Error> {
    let mut done = Vec::new();
    loop {
        let link = links
            .until(|table| selection.links(table).find(|link| !done.contains(&link.index)).cloned())
            .await?;
        // Before the link is up: a router may answer within a millisecond.
        apply(netlink, &LinkChange::IgnoreRouters { name: link.name.clone() }).await?;
        set_up(netlink, &link, selection).await?;
        done.push(link.index);
    }
}

/// A card that cannot be used, mostly for want of firmware, must not keep the others from it.
async fn set_up(netlink: &Netlink, link: &Link, selection: Selection) -> Result<(), Error> {
    if link.state != LinkState::Down {
        return Ok(());
    }
    match (netlink.apply(&LinkChange::SetUp { index: link.index }).await, selection) {
        (Err(error), Selection::EveryCard) => {
            log::warn!("{} left out: {}", link.name, Chain(&error))
        }
        (done, _) => done?,
    }
    Ok(())
}

/// Finds the interface that leads somewhere, and with DHCP what the server there grants.
async fn find_way(
    config: &NetworkConfig,
    links: &mut Links,
    selection: Selection,
    limits: &Limits,
    on_wait: OnWait<'_>,
) -> Result<(Link, Option<Lease>), Error> {
    let link = first_carrier(links, selection, limits.carrier, on_wait).await?;
    match config.ipv4 {
        Ipv4Config::Static(_) => Ok((link, None)),
        Ipv4Config::Dhcp => {
            let (link, lease) = first_lease(config, links, selection, limits.dhcp, on_wait).await?;
            Ok((link, Some(lease)))
        }
    }
}

async fn first_carrier(
    links: &mut Links,
    selection: Selection,
    limit: Duration,
    on_wait: OnWait<'_>,
) -> Result<Link, Error> {
    let what = format!("a carrier on {}", selection.names(&links.now()));
    let carrier = links.until(|table| {
        selection.links(table).find(|link| link.state == LinkState::Carrier).cloned()
    });
    match patience::wait(&what, limit, on_wait, carrier).await {
        Some(link) => Ok(link?),
        None => Err(Error::NoCarrier { interfaces: selection.names(&links.now()), waited: limit }),
    }
}

/// Asks on every selected interface as soon as it has a carrier; the first lease wins.
async fn first_lease(
    config: &NetworkConfig,
    links: &mut Links,
    selection: Selection,
    limit: Duration,
    on_wait: OnWait<'_>,
) -> Result<(Link, Lease), Error> {
    let mut asked = Vec::new();
    let mut attempts = FuturesUnordered::new();
    loop {
        let newcomer = links.until(|table| {
            let mut ready = selection.links(table).filter(|link| link.state == LinkState::Carrier);
            ready.find(|link| !asked.contains(&link.index)).cloned()
        });
        tokio::select! {
            biased;
            link = newcomer => {
                let link = link?;
                asked.push(link.index);
                attempts.push(ask(config, link, limit, on_wait));
            }
            Some(outcome) = attempts.next() => match outcome {
                Err(error) if !attempts.is_empty() => log::warn!("{}", Chain(&error)),
                decisive => return decisive,
            },
        }
    }
}

async fn ask(
    config: &NetworkConfig,
    link: Link,
    limit: Duration,
    on_wait: OnWait<'_>,
) -> Result<(Link, Lease), Error> {
    let client = client(config, link.index, &link.name, link.mac)?;
    let what = format!("a DHCP server on {}", link.name);
    match patience::wait(&what, limit, on_wait, dhcp::acquire(&client)).await {
        Some(lease) => Ok((link, lease?)),
        None => Err(Error::NoLease { interface: link.name, waited: limit }),
    }
}

fn client(
    config: &NetworkConfig,
    index: IfIndex,
    interface: &str,
    mac: Option<MacAddr>,
) -> Result<Client, Error> {
    let mac = mac.ok_or_else(|| Error::NoMac { interface: interface.to_owned() })?;
    let interface = interface.to_owned();
    let (hostname, id) = (config.hostname.clone(), config.dhcp_client_id.clone());
    Ok(Client { index, interface, mac, hostname, id })
}

/// Makes the machine carry what the plan says.
async fn configure(
    netlink: &Netlink,
    links: &Links,
    config: &NetworkConfig,
    link: &Link,
    lease: Option<Lease>,
) -> Result<Network, Error> {
    let wanted = Addressing::new(config, lease.as_ref());
    for route in &wanted.unreachable {
        log::warn!("route {route} left out: {} reaches no such gateway", link.name);
    }
    let found = found(netlink, links).await?;
    for change in plan(link, &wanted, &found) {
        apply(netlink, &change).await?;
    }
    Ok(network(config, link, &wanted, lease))
}

/// Some changes are improvements that a card or a kernel may be unable to make.
async fn apply(netlink: &Netlink, change: &LinkChange) -> Result<(), Error> {
    match (netlink.apply(change).await, change) {
        (Err(error), LinkChange::SetMtu { .. } | LinkChange::IgnoreRouters { .. }) => {
            log::warn!("going on without: {}", Chain(&error));
        }
        (done, _) => done?,
    }
    Ok(())
}

/// What all interfaces but the machine's own carry.
async fn found(netlink: &Netlink, links: &Links) -> Result<Found, Error> {
    let table = links.now();
    let mut addresses = netlink.addresses().await?;
    addresses.retain(|found| table.get(&found.index).is_some_and(Link::is_card));
    Ok(Found { addresses, default_routes: netlink.default_routes().await? })
}

/// What the command line says comes before what the DHCP server says.
fn network(
    config: &NetworkConfig,
    link: &Link,
    wanted: &Addressing,
    lease: Option<Lease>,
) -> Network {
    let told = |ours: &[IpAddr], theirs: fn(&Lease) -> &Vec<IpAddr>| match ours {
        [] => lease.as_ref().map(theirs).cloned().unwrap_or_default(),
        ours => ours.to_vec(),
    };
    let granted_name = || lease.as_ref().and_then(|lease| lease.hostname.clone());
    Network {
        interface: link.name.clone(),
        index: link.index,
        mac: link.mac,
        addresses: wanted.addresses.clone(),
        gateway: wanted.gateway(),
        hostname: config.hostname.clone().or_else(granted_name),
        dns: told(&config.dns, |lease| &lease.dns),
        ntp: told(&config.ntp, |lease| &lease.ntp),
        lease,
    }
}

/// Tells the machine its name and its name servers, and the operator where it is.
fn introduce(network: &Network, root: &Path) -> Result<(), Error> {
    log::info!("{network}");
    if network.dns.is_empty() {
        log::warn!("no name server is known: only addresses can be reached, not names");
    }
    let address = network.addresses.first().map(|(address, _)| *address);
    let domain = network.lease.as_ref().and_then(|lease| lease.domain.as_deref());
    let name = network.hostname.as_deref();
    let named = name.map_or(Ok(()), resolv::set_host_name);
    for outcome in [named, resolv::write_hosts(root, name, address)] {
        if let Err(error) = outcome {
            log::warn!("going on without: {}", Chain(&error));
        }
    }
    resolv::write_resolv_conf(root, &network.dns, domain)?;
    Ok(())
}

#[cfg(test)]
mod testbed;
#[cfg(test)]
mod tests;
