//! What DHCP messages say.
//!
//! [`Answer::parse`] is where text and numbers from the network become values: an answer to
//! somebody else, or one that makes no sense, is none; a name is a name. RFC 2131, section 2 and
//! table 5; RFC 2132; RFC 3442.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};

use agent_types::net::DhcpClientId;

use super::{Client, Lease};
use crate::netlink::{MacAddr, Route};
use crate::resolv::is_domain_name;

/// What we would like to be told.
const WANTED: &[OptionCode] = &[
    OptionCode::SubnetMask,
    // RFC 3442: before the routers.
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::Hostname,
    OptionCode::DomainName,
    OptionCode::InterfaceMtu,
    OptionCode::NtpServers,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// What fits into a packet of 1500 bytes behind the headers of IP and UDP.
const LONGEST_MESSAGE_BYTES: u16 = 1472;

/// A server that does not say is taken to mean this, as busybox does.
const LEASE_UNLESS_TOLD: u32 = 3600;

/// A shorter lease would make us ask all the time.
const SHORTEST_LEASE: u32 = 60;

/// RFC 2131, section 3.3: this many seconds mean for ever.
const FOR_EVER: u32 = u32::MAX;

/// What a server may say to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// You could have this.
    Offer(Lease),
    /// You have it.
    Ack(Lease),
    /// You cannot have it.
    Nak {
        /// Who says so.
        server: Ipv4Addr,
        /// Why, if it says so.
        reason: String,
    },
}

/// "Who has an address for me?"
pub(super) fn discover(client: &Client, xid: u32, elapsed: Duration) -> Vec<u8> {
    encode(&message(client, xid, elapsed, MessageType::Discover))
}

/// "I take this one."
pub(super) fn request(client: &Client, xid: u32, elapsed: Duration, offer: &Lease) -> Vec<u8> {
    let mut message = message(client, xid, elapsed, MessageType::Request);
    message.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.address));
    message.opts_mut().insert(DhcpOption::ServerIdentifier(offer.server));
    encode(&message)
}

/// "May I keep it?" RFC 2131, section 4.3.2: the address is in the header, and no server is named.
pub(super) fn renewal(client: &Client, xid: u32, address: Ipv4Addr) -> Vec<u8> {
    let mut message = message(client, xid, Duration::ZERO, MessageType::Request);
    message.set_ciaddr(address);
    encode(&message)
}

fn message(client: &Client, xid: u32, elapsed: Duration, kind: MessageType) -> Message {
    const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, NONE, NONE, NONE, NONE, &client.mac.0);
    message.set_secs(u16::try_from(elapsed.as_secs()).unwrap_or(u16::MAX));
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClientIdentifier(client_identifier(client)));
    options.insert(DhcpOption::MaxMessageSize(LONGEST_MESSAGE_BYTES));
    options.insert(DhcpOption::ParameterRequestList(WANTED.to_vec()));
    if let Some(hostname) = &client.hostname {
        options.insert(DhcpOption::Hostname(hostname.clone()));
    }
    message
}

/// Unless another is asked for, the hardware address with its type in front, as iPXE and most
/// firmware send it: the machine keeps its address from one stage to the next.
fn client_identifier(client: &Client) -> Vec<u8> {
    const ETHERNET: u8 = 1;
    let of_mac = || std::iter::once(ETHERNET).chain(client.mac.0).collect();
    client.id.as_ref().map_or_else(of_mac, DhcpClientId::to_bytes)
}

/// Encoding into memory fails only for what is not in these messages.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

impl Answer {
    /// What `payload` says to the client `mac` about its question `xid`.
    pub(super) fn parse(payload: &[u8], mac: MacAddr, xid: u32, now: Duration) -> Option<Self> {
        let message = Message::decode(&mut Decoder::new(payload)).ok()?;
        let is_for_us = message.opcode() == Opcode::BootReply
            && message.xid() == xid
            && usize::from(message.hlen()) == mac.0.len()
            && message.chaddr() == mac.0;
        if !is_for_us {
            return None;
        }
        match message.opts().msg_type()? {
            MessageType::Offer => lease(&message, now).map(Self::Offer),
            MessageType::Ack => lease(&message, now).map(Self::Ack),
            MessageType::Nak => {
                Some(Self::Nak { server: server(&message)?, reason: reason(&message) })
            }
            _ => None,
        }
    }
}

/// The value of an option, if the message has it and it is of the right kind.
macro_rules! option {
    ($message:expr, $name:ident) => {
        match $message.opts().get(OptionCode::$name) {
            Some(DhcpOption::$name(value)) => Some(value),
            _ => None,
        }
    };
}

fn lease(message: &Message, now: Duration) -> Option<Lease> {
    let address = Some(message.yiaddr()).filter(|address| is_usable(*address))?;
    let [renew_after, rebind_after, expires_after] = times(message);
    Some(Lease {
        address,
        prefix_len: prefix_len(address, option!(message, SubnetMask).copied()),
        server: server(message)?,
        routes: routes(message),
        dns: addresses(option!(message, DomainNameServer)),
        ntp: addresses(option!(message, NtpServers)),
        domain: option!(message, DomainName).and_then(|name| domain_name(name)),
        hostname: option!(message, Hostname).and_then(|name| domain_name(name)),
        mtu: option!(message, InterfaceMtu).copied(),
        obtained: now,
        renew_after,
        rebind_after,
        expires_after,
    })
}

fn is_usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_loopback())
}

fn server(message: &Message) -> Option<Ipv4Addr> {
    option!(message, ServerIdentifier)
        .copied()
        .or(Some(message.siaddr()))
        .filter(|address| is_usable(*address))
}

/// The server's words for the console, without anything that could move its cursor.
fn reason(message: &Message) -> String {
    let words = option!(message, Message).map_or("no reason given", String::as_str);
    words.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// Without a mask, or with one that has holes, the address's class decides (RFC 791).
fn prefix_len(address: Ipv4Addr, mask: Option<Ipv4Addr>) -> u8 {
    let bits = mask.map_or(0, Ipv4Addr::to_bits);
    let ones = bits.leading_ones();
    match address.octets()[0] {
        _ if ones > 0 && ones + bits.trailing_zeros() >= 32 => u8::try_from(ones).unwrap_or(32),
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

/// RFC 3442: a client that understands classless routes ignores the routers beside them.
fn routes(message: &Message) -> Vec<Route> {
    match option!(message, ClasslessStaticRoute) {
        Some(routes) if !routes.is_empty() => routes
            .iter()
            .map(|(network, gateway)| Route {
                destination: network.network().into(),
                prefix_len: network.prefix_len(),
                gateway: Some(*gateway).filter(|via| !via.is_unspecified()).map(IpAddr::V4),
            })
            .collect(),
        // In order of preference: a second one would only be used if it replaced the first.
        _ => option!(message, Router)
            .and_then(|routers| routers.first())
            .map(|router| Route::default_via((*router).into()))
            .into_iter()
            .collect(),
    }
}

fn addresses(option: Option<&Vec<Ipv4Addr>>) -> Vec<IpAddr> {
    let usable = option.into_iter().flatten().filter(|address| is_usable(**address));
    usable.copied().map(IpAddr::V4).collect()
}

/// Some servers end names with a dot, or as C does.
fn domain_name(name: &str) -> Option<String> {
    let name = name.trim_end_matches(['\0', '.']);
    is_domain_name(name).then(|| name.to_owned())
}

/// T1, T2 and the end; what the server does not say, or says in an impossible order, is as
/// RFC 2131, section 4.4.5 has it.
fn times(message: &Message) -> [Duration; 3] {
    let lease = option!(message, AddressLeaseTime).copied().unwrap_or(LEASE_UNLESS_TOLD);
    if lease == FOR_EVER {
        return [Duration::MAX; 3];
    }
    let lease = lease.max(SHORTEST_LEASE);
    let renewal = option!(message, Renewal).copied().unwrap_or(0);
    let rebinding = option!(message, Rebinding).copied().unwrap_or(0);
    let is_possible = 0 < renewal && renewal < rebinding && rebinding < lease;
    let times =
        if is_possible { [renewal, rebinding, lease] } else { [lease / 2, lease / 8 * 7, lease] };
    times.map(|secs| Duration::from_secs(secs.into()))
}

#[cfg(test)]
mod tests;
