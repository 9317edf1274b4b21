//! Asks the kernel for changes of links, addresses and routes, and what there is of them.
//!
//! On entry a tokio runtime is running; a [`Netlink`] lives as long as its socket is needed. Every
//! change is one request and its acknowledgement, and may be applied again: what exists already is
//! replaced. Nothing is decided here, see [`crate::network`].
//!
//! <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Where the kernel keeps what it offers by sysctl(8) only.
const IPV6_SYSCTL: &str = "/proc/sys/net/ipv6/conf";

/// How the kernel says that something is not there (any more).
const GONE: [Option<Errno>; 3] = [Some(Errno::ADDRNOTAVAIL), Some(Errno::SRCH), Some(Errno::NODEV)];

/// The kernel's number for an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct IfIndex(pub u32);

impl IfIndex {
    /// The loopback interface is the first of every network namespace.
    pub(crate) const LOOPBACK: Self = Self(1);
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface number {}", self.0)
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, last] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{last:02x}")
    }
}

/// An address that an interface carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkAddress {
    /// The interface.
    pub index: IfIndex,
    /// Its own address.
    pub address: IpAddr,
    /// Length of the network prefix in bits.
    pub prefix_len: u8,
}

/// Where packets for a network go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    /// First address of the network; unspecified for the default route.
    pub destination: IpAddr,
    /// Length of the network prefix in bits; 0 for the default route.
    pub prefix_len: u8,
    /// The router; none if the network is on the link itself.
    pub gateway: Option<IpAddr>,
}

impl Route {
    /// The route for everything that has no better one.
    pub(crate) const fn default_via(gateway: IpAddr) -> Self {
        let destination = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { destination, prefix_len: 0, gateway: Some(gateway) }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_len {
            0 => write!(f, "default")?,
            prefix_len => write!(f, "{}/{prefix_len}", self.destination)?,
        }
        self.gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))
    }
}

/// One thing to ask from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkChange {
    /// Let the card look for a carrier.
    SetUp {
        /// The interface.
        index: IfIndex,
    },
    /// Send no packets longer than this.
    SetMtu {
        /// The interface.
        index: IfIndex,
        /// Bytes of an IP packet.
        mtu: u32,
    },
    /// Take neither addresses nor routes from IPv6 routers.
    IgnoreRouters {
        /// The interface's name: only sysctl(8) offers this.
        name: String,
    },
    /// Carry this address, with its broadcast address, or without duplicate address detection.
    AddAddress(LinkAddress),
    /// Do not carry this address any more.
    RemoveAddress(LinkAddress),
    /// Send packets that way; another route to the same network is replaced.
    AddRoute {
        /// The interface.
        index: IfIndex,
        /// The way.
        route: Route,
    },
    /// Do not send packets that way any more.
    RemoveRoute {
        /// The interface.
        index: IfIndex,
        /// The way.
        route: Route,
    },
}

/// What is asked, for people: reads on after "cannot".
impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetUp { index } => write!(f, "set {index} up"),
            Self::SetMtu { index, mtu } => write!(f, "set the MTU of {index} to {mtu}"),
            Self::IgnoreRouters { name } => write!(f, "ignore IPv6 routers on {name}"),
            Self::AddAddress(LinkAddress { index, address, prefix_len }) => {
                write!(f, "add address {address}/{prefix_len} to {index}")
            }
            Self::RemoveAddress(LinkAddress { index, address, prefix_len }) => {
                write!(f, "remove address {address}/{prefix_len} from {index}")
            }
            Self::AddRoute { index, route } => write!(f, "add route {route} to {index}"),
            Self::RemoveRoute { index, route } => write!(f, "remove route {route} from {index}"),
        }
    }
}

/// Why the kernel could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// A change was refused.
    #[error("cannot {change}")]
    Apply {
        /// What was asked.
        change: LinkChange,
        /// The kernel's reason.
        source: io::Error,
    },
    /// What there is could not be read.
    #[error("cannot list {what}")]
    List {
        /// Of which kind.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// A socket to the kernel's networking.
#[derive(Debug, Clone)]
pub(crate) struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a socket; a task of the runtime serves it until the last clone is dropped.
    pub(crate) fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Asks for one change and waits until it is done.
    pub(crate) async fn apply(&self, change: &LinkChange) -> Result<(), Error> {
        log::debug!("netlink: {change}");
        let done = match change {
            LinkChange::SetUp { index } => {
                self.set(LinkUnspec::new_with_index(index.0).up().build()).await
            }
            LinkChange::SetMtu { index, mtu } => {
                self.set(LinkUnspec::new_with_index(index.0).mtu(*mtu).build()).await
            }
            LinkChange::IgnoreRouters { name } => ignore_routers(name),
            LinkChange::AddAddress(address) => self.add_address(*address).await,
            LinkChange::RemoveAddress(address) => self.remove_address(*address).await,
            LinkChange::AddRoute { index, route } => self.add_route(*index, *route).await,
            LinkChange::RemoveRoute { index, route } => self.remove_route(*index, *route).await,
        };
        done.map_err(|source| Error::Apply { change: change.clone(), source })
    }

    /// Every address of every interface.
    pub(crate) async fn addresses(&self) -> Result<Vec<LinkAddress>, Error> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| Error::List { what: "addresses", source: to_io(error) })?;
        Ok(messages.iter().filter_map(link_address).collect())
    }

    /// Every default route of the main table.
    pub(crate) async fn default_routes(&self) -> Result<Vec<(IfIndex, Route)>, Error> {
        let messages: Vec<_> = self
            .handle
            .route()
            .get(RouteMessage::default())
            .execute()
            .try_collect()
            .await
            .map_err(|error| Error::List { what: "routes", source: to_io(error) })?;
        Ok(messages.iter().filter_map(default_route).collect())
    }

    async fn set(&self, message: netlink_packet_route::link::LinkMessage) -> io::Result<()> {
        self.handle.link().set(message).execute().await.map_err(to_io)
    }

    async fn add_address(&self, wanted: LinkAddress) -> io::Result<()> {
        let LinkAddress { index, address, prefix_len } = wanted;
        let mut request = self.handle.address().add(index.0, address, prefix_len).replace();
        if address.is_ipv6() {
            // A static address has an owner; detection would keep it unusable for a second.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await.map_err(to_io)
    }

    async fn remove_address(&self, address: LinkAddress) -> io::Result<()> {
        let message = address_message(address);
        gone_is_fine(self.handle.address().del(message).execute().await.map_err(to_io))
    }

    async fn add_route(&self, index: IfIndex, route: Route) -> io::Result<()> {
        let message = route_message(index, route);
        self.handle.route().add(message).replace().execute().await.map_err(to_io)
    }

    async fn remove_route(&self, index: IfIndex, route: Route) -> io::Result<()> {
        let mut message = route_message(index, route);
        // Whoever made it, and for whatever reach.
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        message.header.kind = RouteType::Unspec;
        gone_is_fine(self.handle.route().del(message).execute().await.map_err(to_io))
    }
}

/// Addresses take their routes along when they go, and another process may be quicker.
fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if GONE.contains(&Errno::from_io_error(&error)) => Ok(()),
        other => other,
    }
}

/// Routers would give the machine a second address, and the boot server knows the first only.
fn ignore_routers(name: &str) -> io::Result<()> {
    for switch in ["accept_ra", "autoconf"] {
        match std::fs::write(Path::new(IPV6_SYSCTL).join(name).join(switch), "0") {
            // A kernel without IPv6 ignores routers anyway.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

fn address_message(address: LinkAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = address.index.0;
    message.header.prefix_len = address.prefix_len;
    message.header.family = match address.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes =
        vec![AddressAttribute::Local(address.address), AddressAttribute::Address(address.address)];
    message
}

fn link_address(message: &AddressMessage) -> Option<LinkAddress> {
    let find =
        |pick: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(pick);
    // IPv6 has no IFA_LOCAL unless the link is point to point.
    let address = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    let index = IfIndex(message.header.index);
    Some(LinkAddress { index, address, prefix_len: message.header.prefix_len })
}

fn route_message(index: IfIndex, route: Route) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<IpAddr>::new().output_interface(index.0);
    let message = builder.get_mut();
    message.header.address_family = match route.destination {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = route.prefix_len;
    if route.prefix_len > 0 {
        message.attributes.push(RouteAttribute::Destination(route.destination.into()));
    }
    match route.gateway {
        Some(gateway) => message.attributes.push(RouteAttribute::Gateway(gateway.into())),
        None => message.header.scope = RouteScope::Link,
    }
    builder.build()
}

fn default_route(message: &RouteMessage) -> Option<(IfIndex, Route)> {
    let header = &message.header;
    let is_default = header.destination_prefix_length == 0
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast;
    let mut index = None;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(IfIndex(*oif)),
            RouteAttribute::Gateway(RouteAddress::Inet(via)) => gateway = Some(IpAddr::V4(*via)),
            RouteAttribute::Gateway(RouteAddress::Inet6(via)) => gateway = Some(IpAddr::V6(*via)),
            _ => {}
        }
    }
    let destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    index.filter(|_| is_default).map(|index| (index, Route { destination, prefix_len: 0, gateway }))
}

/// The kernel's own words; the library prints the number only.
pub(crate) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(refusal) => refusal.to_io(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_change_says_what_was_asked() {
        let index = IfIndex(2);
        let address =
            LinkAddress { index, address: Ipv4Addr::new(10, 0, 0, 2).into(), prefix_len: 8 };
        let gateway = Ipv4Addr::new(10, 0, 0, 1).into();
        let route = Route::default_via(gateway);
        let net =
            Route { destination: Ipv4Addr::new(10, 9, 0, 0).into(), prefix_len: 16, gateway: None };
        for (change, expected) in [
            (LinkChange::SetUp { index }, "cannot set interface number 2 up"),
            (
                LinkChange::AddAddress(address),
                "cannot add address 10.0.0.2/8 to interface number 2",
            ),
            (
                LinkChange::AddRoute { index, route },
                "cannot add route default via 10.0.0.1 to interface number 2",
            ),
            (
                LinkChange::RemoveRoute { index, route: net },
                "cannot remove route 10.9.0.0/16 from interface number 2",
            ),
        ] {
            let source = io::ErrorKind::PermissionDenied.into();
            assert_eq!(Error::Apply { change, source }.to_string(), expected);
        }
    }
}
