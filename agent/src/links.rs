//! Which interfaces there are, and how they change.
//!
//! On entry a tokio runtime is running. From the moment [`Links::watch`] returns, every change
//! that the kernel announces arrives here and wakes those who wait; nothing is polled and nothing
//! is lost between a look and a wait.
//!
//! <https://docs.kernel.org/networking/operstates.html>

use std::collections::BTreeMap;
use std::io;

use futures_util::{Stream, StreamExt, TryStreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, State,
};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;

use crate::netlink::{IfIndex, MacAddr, to_io};

/// What an interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// An Ethernet card, or what a container or a virtual machine has for one.
    Card,
    /// The machine itself, or something made of other interfaces.
    Virtual,
}

/// Whether packets can pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Nobody asked for it yet.
    Down,
    /// Asked for, but there is no cable, or its other end is not ready.
    NoCarrier,
    /// Packets can pass.
    Carrier,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The kernel's number for it.
    pub index: IfIndex,
    /// Its name; may differ from boot to boot.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Whether packets can pass.
    pub state: LinkState,
    /// Its Ethernet address, if it has one.
    pub mac: Option<MacAddr>,
    /// Longest IP packet in bytes.
    pub mtu: u32,
}

impl Link {
    /// Whether the machine is connected to others by it.
    pub(crate) fn is_card(&self) -> bool {
        self.kind == LinkKind::Card
    }
}

/// All interfaces at one moment.
pub(crate) type LinkTable = BTreeMap<IfIndex, Link>;

/// Why interfaces cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The first look failed.
    #[error("cannot list interfaces")]
    List(#[source] io::Error),
    /// The kernel's announcements ended.
    #[error("cannot watch interfaces any longer: the netlink socket is gone")]
    Gone,
}

/// The interfaces as they are now, and a way to wait until they are as one wishes.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    table: watch::Receiver<LinkTable>,
}

impl Links {
    /// Subscribes to the kernel's announcements, then looks for the first time.
    ///
    /// The socket is not used for anything else: the kernel stamps an announcement with the number
    /// of the request that caused it, and the library would take it for an answer.
    pub(crate) async fn watch() -> Result<Self, Error> {
        let (connection, handle, announcements) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(Error::Open)?;
        tokio::spawn(connection);
        let (sender, table) = watch::channel(list(&handle).await?);
        tokio::spawn(follow(handle, announcements, sender));
        Ok(Self { table })
    }

    /// The interfaces as they are now.
    pub(crate) fn now(&self) -> LinkTable {
        self.table.borrow().clone()
    }

    /// Waits until `pick` finds in the interfaces what it looks for, which may be at once.
    pub(crate) async fn until<T>(
        &mut self,
        mut pick: impl FnMut(&LinkTable) -> Option<T>,
    ) -> Result<T, Error> {
        let mut found = None;
        let looked = self.table.wait_for(|table| {
            found = pick(table);
            found.is_some()
        });
        looked.await.map_err(|_| Error::Gone)?;
        found.ok_or(Error::Gone)
    }
}

async fn list(handle: &Handle) -> Result<LinkTable, Error> {
    let messages: Vec<_> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(|error| Error::List(to_io(error)))?;
    Ok(messages.iter().map(link).map(|link| (link.index, link)).collect())
}

/// Keeps the table as the kernel announces, until nobody looks at it any more.
async fn follow(
    handle: Handle,
    mut news: impl Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Unpin,
    table: watch::Sender<LinkTable>,
) {
    loop {
        let message = tokio::select! {
            () = table.closed() => return,
            message = news.next() => message,
        };
        let Some((message, _)) = message else { return };
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(news)) => {
                table.send_if_modified(|table| update(table, link(&news)));
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(news)) => {
                table.send_if_modified(|table| table.remove(&link(&news).index).is_some());
            }
            NetlinkPayload::InnerMessage(_) | NetlinkPayload::Noop | NetlinkPayload::Done(_) => {}
            // The kernel had more to say than the socket could hold.
            NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => match list(&handle).await {
                Ok(fresh) => drop(table.send_replace(fresh)),
                Err(_) => return,
            },
            _ => {}
        }
    }
}

fn update(table: &mut LinkTable, link: Link) -> bool {
    let changed = table.get(&link.index) != Some(&link);
    if changed {
        log::debug!("{} {:?}", link.name, link.state);
        table.insert(link.index, link);
    }
    changed
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: IfIndex(message.header.index),
        name: String::new(),
        kind: kind(message),
        state: state(message),
        mac: None,
        mtu: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => {
                link.mac = mac.as_slice().try_into().ok().map(MacAddr);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    link
}

/// A card has no kind; the kinds are what people make with ip-link(8), of which only a veth pair
/// leads to somebody else.
fn kind(message: &LinkMessage) -> LinkKind {
    let is_made = message.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(kind) if *kind != InfoKind::Veth))
        }
        _ => false,
    });
    match message.header.link_layer_type {
        LinkLayerType::Ether if !is_made => LinkKind::Card,
        _ => LinkKind::Virtual,
    }
}

/// The carrier flag tells earlier than the operational state, which the kernel may update up to a
/// second later; but a dormant link (802.1X, LACP) has a carrier and passes nothing.
fn state(message: &LinkMessage) -> LinkState {
    let flags = message.header.flags;
    let is_asleep = message.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::OperState(State::Dormant | State::Testing))
    });
    if !flags.contains(LinkFlags::Up) {
        LinkState::Down
    } else if flags.contains(LinkFlags::LowerUp) && !is_asleep {
        LinkState::Carrier
    } else {
        LinkState::NoCarrier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: LinkFlags, attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.link_layer_type = LinkLayerType::Ether;
        message.header.flags = flags;
        message.attributes = attributes;
        message
    }

    #[test]
    fn packets_pass_when_the_carrier_is_there_and_nothing_holds_them_back() {
        let up = LinkFlags::Up;
        let carrier = LinkFlags::Up | LinkFlags::LowerUp;
        for (flags, operstate, expected) in [
            (LinkFlags::empty(), State::Down, LinkState::Down),
            (LinkFlags::LowerUp, State::Unknown, LinkState::Down),
            (up, State::Down, LinkState::NoCarrier),
            (up, State::LowerLayerDown, LinkState::NoCarrier),
            (carrier, State::Dormant, LinkState::NoCarrier),
            (carrier, State::Testing, LinkState::NoCarrier),
            (carrier, State::Down, LinkState::Carrier),
            (carrier, State::Unknown, LinkState::Carrier),
            (carrier, State::Up, LinkState::Carrier),
        ] {
            let message = message(flags, vec![LinkAttribute::OperState(operstate)]);
            assert_eq!(state(&message), expected, "{flags:?} {operstate:?}");
        }
    }

    #[test]
    fn a_card_is_ethernet_that_nobody_made() {
        let made = |kind| vec![LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
        for (attributes, expected) in [
            (vec![], LinkKind::Card),
            (made(InfoKind::Veth), LinkKind::Card),
            (made(InfoKind::Dummy), LinkKind::Virtual),
            (made(InfoKind::Bridge), LinkKind::Virtual),
            (made(InfoKind::Bond), LinkKind::Virtual),
        ] {
            let message = message(LinkFlags::empty(), attributes);
            assert_eq!(kind(&message), expected, "{message:?}");
        }
        let mut loopback = message(LinkFlags::Up, vec![]);
        loopback.header.link_layer_type = LinkLayerType::Loopback;
        assert_eq!(kind(&loopback), LinkKind::Virtual);
    }
}
