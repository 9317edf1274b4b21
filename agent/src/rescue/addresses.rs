//! The addresses under which operators reach this machine, as they appear.
//!
//! On entry a tokio runtime is running. Nothing is polled: the kernel announces every change, and
//! from the moment [`Addresses::watch`] returns none is lost.
//!
//! <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use rtnetlink::MulticastGroup;

use crate::netlink::{self, LinkAddress, Netlink};

/// Why addresses cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No socket for the kernel's announcements.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// What there is could not be read.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The kernel's announcements ended.
    #[error("cannot watch addresses any longer: the netlink socket is gone")]
    Gone,
}

/// What is known of the machine's addresses.
pub(crate) struct Addresses {
    netlink: Netlink,
    announcements: Pin<Box<dyn Stream<Item = ()>>>,
    known: BTreeSet<IpAddr>,
}

impl Addresses {
    /// Subscribes to the kernel's announcements. The socket asks for nothing, see
    /// [`crate::links::Links::watch`].
    pub(crate) fn watch() -> Result<Self, Error> {
        let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, announcements) =
            rtnetlink::new_multicast_connection(&groups).map_err(Error::Open)?;
        tokio::spawn(connection);
        // The connection serves us as long as somebody could ask it.
        let announcements = announcements.map(move |_| drop(handle.clone()));
        Ok(Self {
            netlink: Netlink::open()?,
            announcements: Box::pin(announcements),
            known: BTreeSet::new(),
        })
    }

    /// All addresses, as soon as there is one that was not there the last time.
    pub(crate) async fn next(&mut self) -> Result<Vec<IpAddr>, Error> {
        loop {
            let now = reachable(&self.netlink.addresses().await?);
            let is_news = !now.is_subset(&self.known);
            self.known = now;
            if is_news {
                return Ok(self.known.iter().copied().collect());
            }
            self.announcements.next().await.ok_or(Error::Gone)?;
        }
    }
}

/// Those that another machine can use, which a link-local one would need an interface for.
fn reachable(addresses: &[LinkAddress]) -> BTreeSet<IpAddr> {
    let is_reachable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    addresses.iter().map(|on_link| on_link.address).filter(is_reachable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::IfIndex;

    #[test]
    fn only_addresses_that_others_can_use_are_told() {
        let addresses = ["127.0.0.1", "::1", "fe80::1", "169.254.7.7", "2001:db8::2", "192.0.2.7"];
        let on_link = |text: &str| LinkAddress {
            index: IfIndex(2),
            address: text.parse().unwrap(),
            prefix_len: 24,
        };
        let expected: Vec<IpAddr> = ["192.0.2.7", "2001:db8::2"].map(|a| a.parse().unwrap()).into();
        let told = reachable(&addresses.map(on_link));
        assert_eq!(told.into_iter().collect::<Vec<_>>(), expected);
    }
}
