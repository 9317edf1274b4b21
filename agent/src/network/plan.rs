//! Plans which changes give an interface the addresses and routes that it shall have.
//!
//! Everything here is a function of values. The plan may be applied to a machine that an earlier
//! run has configured, fully or half: what is there and not wanted goes first.

use std::net::IpAddr;

use agent_types::net::{Ipv4Config, NetworkConfig};

use crate::dhcp::Lease;
use crate::links::Link;
use crate::netlink::{IfIndex, LinkAddress, LinkChange, Route};

/// The smallest MTU that RFC 2132 lets a DHCP server ask for is 68; with less than 576 no DNS
/// answer and hardly any page comes through, and such a value is a mistake.
const SMALLEST_MTU: u32 = 576;

/// What an interface shall carry, wherever that came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addressing {
    /// Own addresses with the length of their prefixes; IPv4 first.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routes whose gateways can be reached, in the order in which they depend on each other.
    pub routes: Vec<Route>,
    /// Routes that cannot be had: their gateways are on no network of ours.
    pub unreachable: Vec<Route>,
    /// The longest packet, if somebody told.
    pub mtu: Option<u32>,
}

impl Addressing {
    /// Puts together what the command line and the DHCP server say.
    pub(super) fn new(config: &NetworkConfig, lease: Option<&Lease>) -> Self {
        let mut addressing = Self::default();
        if let Ipv4Config::Static(ipv4) = config.ipv4 {
            addressing.addresses.push((ipv4.address.into(), ipv4.prefix_len));
            addressing.route(ipv4.gateway.map(|via| Route::default_via(via.into())));
        }
        if let Some(lease) = lease {
            addressing.addresses.push((lease.address.into(), lease.prefix_len));
            addressing.route(lease.routes.iter().copied());
            addressing.mtu = lease.mtu.map(u32::from).filter(|mtu| *mtu >= SMALLEST_MTU);
        }
        if let Some(ipv6) = config.ipv6 {
            addressing.addresses.push((ipv6.address.into(), ipv6.prefix_len));
            addressing.route(ipv6.gateway.map(|via| Route::default_via(via.into())));
        }
        addressing
    }

    /// Where packets go that have no better way.
    pub(super) fn gateway(&self) -> Option<IpAddr> {
        self.routes.iter().find(|route| route.prefix_len == 0).and_then(|route| route.gateway)
    }

    /// Sorts routes: to networks on the link first, through reachable gateways next.
    fn route(&mut self, routes: impl IntoIterator<Item = Route>) {
        let (on_link, via): (Vec<_>, Vec<_>) =
            routes.into_iter().partition(|route| route.gateway.is_none());
        self.routes.extend(on_link);
        for route in via {
            match route.gateway {
                Some(gateway) if !self.reaches(gateway) => self.unreachable.push(route),
                _ => self.routes.push(route),
            }
        }
    }

    fn reaches(&self, gateway: IpAddr) -> bool {
        let on_link = self.routes.iter().filter(|route| route.gateway.is_none());
        let networks = on_link.map(|route| (route.destination, route.prefix_len));
        let is_link_local = matches!(gateway, IpAddr::V6(via) if via.is_unicast_link_local());
        is_link_local
            || self
                .addresses
                .iter()
                .copied()
                .chain(networks)
                .any(|(network, prefix_len)| is_within(gateway, network, prefix_len))
    }
}

/// What the machine carries already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Addresses of every interface that is ours to configure.
    pub addresses: Vec<LinkAddress>,
    /// Default routes, wherever they lead.
    pub default_routes: Vec<(IfIndex, Route)>,
}

/// What to change, in this order, so that `link` carries what is `wanted` and nothing else does.
pub(super) fn plan(link: &Link, wanted: &Addressing, found: &Found) -> Vec<LinkChange> {
    let index = link.index;
    let routes = wanted.routes.iter().map(|route| LinkChange::AddRoute { index, route: *route });
    let addresses = wanted.addresses.iter().map(|(address, prefix_len)| {
        LinkChange::AddAddress(LinkAddress { index, address: *address, prefix_len: *prefix_len })
    });
    stray_routes(index, wanted, found)
        .chain(stray_addresses(index, wanted, found))
        .chain(mtu(link, wanted))
        .chain(addresses)
        .chain(routes)
        .collect()
}

/// Default routes of an earlier run, or of a router that was quicker than we told it off.
fn stray_routes(
    index: IfIndex,
    wanted: &Addressing,
    found: &Found,
) -> impl Iterator<Item = LinkChange> {
    let strays = found
        .default_routes
        .iter()
        .filter(move |(on, route)| *on != index || !wanted.routes.contains(route));
    strays.map(|(index, route)| LinkChange::RemoveRoute { index: *index, route: *route })
}

/// Addresses of an earlier run; those that belong to the link itself stay.
fn stray_addresses(
    index: IfIndex,
    wanted: &Addressing,
    found: &Found,
) -> impl Iterator<Item = LinkChange> {
    let strays = found.addresses.iter().filter(move |found| {
        let is_wanted =
            found.index == index && wanted.addresses.contains(&(found.address, found.prefix_len));
        let is_link_local =
            matches!(found.address, IpAddr::V6(address) if address.is_unicast_link_local());
        !is_wanted && !is_link_local
    });
    strays.map(|stray| LinkChange::RemoveAddress(*stray))
}

/// Setting the MTU makes many cards negotiate their link anew, so only if it differs.
fn mtu(link: &Link, wanted: &Addressing) -> Option<LinkChange> {
    let mtu = wanted.mtu.filter(|mtu| *mtu != link.mtu)?;
    Some(LinkChange::SetMtu { index: link.index, mtu })
}

fn is_within(address: IpAddr, network: IpAddr, prefix_len: u8) -> bool {
    let differing_bits = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()) << 96,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
        _ => return false,
    };
    differing_bits.leading_zeros() >= u32::from(prefix_len)
}

#[cfg(test)]
mod tests;
