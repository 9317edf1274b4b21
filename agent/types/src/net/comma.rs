//! `epoxy.ipv4=` and `epoxy.ipv6=`: `address/prefix,gateway,dns1,dns2`.
//!
//! Beyond ePoxy: a netmask for an IPv4 prefix.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Answers, Ipv4Config, Notes, StaticIpv4, StaticIpv6, prefix_len};

/// Address, gateway and two name servers.
const FIELDS: usize = 4;
/// What ePoxy's own default has, and one of its scripts forgets.
const IPV4_PREFIX_LEN: u8 = 24;
/// What a router advertises, too.
const IPV6_PREFIX_LEN: u8 = 64;

/// Reads `epoxy.ipv4`; none if it has no usable address.
pub(super) fn ipv4(value: &str, notes: &mut Notes<'_>) -> Option<Answers> {
    let (address, prefix, rest) = split(value, notes);
    let usable = |a: &Ipv4Addr| {
        !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_broadcast())
    };
    let Some(address) = address.parse().ok().filter(usable) else {
        let problem = format!("{address:?} is no IPv4 address of a machine");
        notes.warn("address", problem, "the parameter is ignored: correct it");
        return None;
    };
    let length = prefix.and_then(prefix_len).filter(|length| *length > 0);
    if length.is_none() {
        notes.warn("prefix", wrong_prefix(prefix), "24 is used: write address/prefix");
    }
    let prefix_len = length.unwrap_or(IPV4_PREFIX_LEN);
    let own = StaticIpv4 { address, prefix_len, gateway: None };
    let gateway = notes.address("gateway", rest.first().copied().unwrap_or_default());
    let gateway = gateway.and_then(|gateway| notes.on_link(gateway, &own, own.reaches(gateway)));
    let ipv4 = Some(Ipv4Config::Static(StaticIpv4 { gateway, ..own }));
    Some(Answers { ipv4, ..name_servers(&rest, notes) })
}

/// Reads `epoxy.ipv6`; none if it has no usable address.
pub(super) fn ipv6(value: &str, notes: &mut Notes<'_>) -> Option<Answers> {
    let (address, prefix, rest) = split(value, notes);
    let usable = |a: &Ipv6Addr| !(a.is_unspecified() || a.is_loopback() || a.is_multicast());
    let Some(address) = address.parse().ok().filter(usable) else {
        let problem = format!("{address:?} is no IPv6 address of a machine");
        notes.warn("address", problem, "the parameter is ignored: correct it");
        return None;
    };
    let length = prefix.and_then(|prefix| prefix.parse().ok());
    let length = length.filter(|length| (1..=128).contains(length));
    if length.is_none() {
        notes.warn("prefix", wrong_prefix(prefix), "64 is used: write address/prefix");
    }
    let prefix_len = length.unwrap_or(IPV6_PREFIX_LEN);
    let own = StaticIpv6 { address, prefix_len, gateway: None };
    let gateway = notes.address("gateway", rest.first().copied().unwrap_or_default());
    let gateway = gateway.and_then(|gateway| notes.on_link(gateway, &own, own.reaches(gateway)));
    let ipv6 = Some(StaticIpv6 { gateway, ..own });
    Some(Answers { ipv6, ..name_servers(&rest, notes) })
}

/// Address, prefix, and the fields behind them.
fn split<'a>(value: &'a str, notes: &mut Notes<'_>) -> (&'a str, Option<&'a str>, Vec<&'a str>) {
    let mut fields = value.split(',').map(str::trim);
    let address = fields.next().unwrap_or_default();
    let rest: Vec<_> = fields.collect();
    if rest.len() >= FIELDS {
        let problem = format!("are {}", rest.len() + 1);
        notes.warn("fields", problem, "those after the fourth are ignored: leave them out");
    }
    match address.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix), rest),
        None => (address, None, rest),
    }
}

fn wrong_prefix(prefix: Option<&str>) -> String {
    prefix.map_or_else(|| "is missing".to_owned(), |prefix| format!("{prefix:?} is none"))
}

fn name_servers(rest: &[&str], notes: &mut Notes<'_>) -> Answers {
    let servers = rest.iter().skip(1).take(2);
    let dns = servers.filter_map(|text| notes.address("name server", text)).collect();
    Answers { dns, ..Answers::default() }
}
