//! The options of a DHCP message, each read apart: one that is wrong takes no other along.
//!
//! RFC 2132; RFC 3396; RFC 3442. dhcproto reads options too, but stops at the first that is wrong, and
//! asserts in debug builds that those from the network are as long as they should be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use dhcproto::v4::OptionCode;

use crate::netlink::Route;

/// What a message says beside its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options(BTreeMap<OptionCode, Vec<u8>>);

impl Options {
    /// Splits what follows the header; an option that claims to be longer than the message is none.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut values = BTreeMap::<_, Vec<u8>>::new();
        let mut rest = bytes;
        while let [code, behind @ ..] = rest {
            rest = behind;
            match OptionCode::from(*code) {
                OptionCode::Pad => {}
                OptionCode::End => break,
                code => {
                    let Some((value, behind)) = split_value(rest) else { break };
                    // RFC 3396: what is too long for one option comes in parts.
                    values.entry(code).or_default().extend_from_slice(value);
                    rest = behind;
                }
            }
        }
        Self(values)
    }

    pub(super) fn byte(&self, code: OptionCode) -> Option<u8> {
        self.fixed(code).map(u8::from_be_bytes)
    }

    pub(super) fn short(&self, code: OptionCode) -> Option<u16> {
        self.fixed(code).map(u16::from_be_bytes)
    }

    pub(super) fn long(&self, code: OptionCode) -> Option<u32> {
        self.fixed(code).map(u32::from_be_bytes)
    }

    pub(super) fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        self.fixed::<4>(code).map(Ipv4Addr::from)
    }

    /// None at all if the last one is cut off.
    pub(super) fn addresses(&self, code: OptionCode) -> Vec<Ipv4Addr> {
        match self.value(code).unwrap_or_default().as_chunks::<4>() {
            (addresses, []) => addresses.iter().copied().map(Ipv4Addr::from).collect(),
            _ => vec![],
        }
    }

    /// Text in whatever encoding; what is not ASCII may be shown, and is no name.
    pub(super) fn text(&self, code: OptionCode) -> Option<Cow<'_, str>> {
        self.value(code).map(String::from_utf8_lossy)
    }

    /// RFC 3442; none at all if one of them is wrong.
    pub(super) fn classless_routes(&self) -> Option<Vec<Route>> {
        let mut rest = self.value(OptionCode::ClasslessStaticRoute)?;
        let mut routes = Vec::new();
        while !rest.is_empty() {
            let (route, behind) = split_route(rest)?;
            routes.push(route);
            rest = behind;
        }
        Some(routes)
    }

    /// A value that is longer than it should be may have been sent twice.
    fn fixed<const BYTES: usize>(&self, code: OptionCode) -> Option<[u8; BYTES]> {
        self.value(code)?.first_chunk().copied()
    }

    fn value(&self, code: OptionCode) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }
}

/// A length, and as many bytes.
fn split_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked((*len).into())
}

/// A prefix's length, as many bytes of it as that takes, and a gateway, which is 0.0.0.0 if there is
/// none.
fn split_route(bytes: &[u8]) -> Option<(Route, &[u8])> {
    let (prefix_len, rest) = bytes.split_first()?;
    let (prefix, rest) = rest.split_at_checked(prefix_len.div_ceil(8).into())?;
    let (gateway, rest) = rest.split_first_chunk::<4>()?;
    let mut network = [0; 4];
    network.get_mut(..prefix.len())?.copy_from_slice(prefix);
    let host_bits = u32::MAX.checked_shr((*prefix_len).into()).unwrap_or(0);
    let route = Route {
        destination: Ipv4Addr::from_bits(u32::from_be_bytes(network) & !host_bits).into(),
        prefix_len: *prefix_len,
        gateway: Some(Ipv4Addr::from(*gateway)).filter(|via| !via.is_unspecified()).map(IpAddr::V4),
    };
    Some((route, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_up_to_the_end_or_the_first_that_is_cut_off() {
        use OptionCode::{DomainName, Hostname, MessageType, Router};
        type Expected<'a> = &'a [(OptionCode, &'a [u8])];
        let cases: [(&[u8], Expected<'_>); 8] = [
            (&[], &[]),
            (&[0, 0, 53, 1, 5, 0, 255, 53, 1, 6], &[(MessageType, &[5])]),
            (&[12, 0], &[(Hostname, &[])]),
            (&[53, 1, 5, 3], &[(MessageType, &[5])]),
            (&[53, 1, 5, 3, 4, 10, 0, 0], &[(MessageType, &[5])]),
            (&[15, 1, b'a', 15, 1, b'b'], &[(DomainName, b"ab")]),
            (&[15, 1, b'a', 53, 1, 5, 15, 1, b'b'], &[(DomainName, b"ab"), (MessageType, &[5])]),
            (&[3, 1, 9, 94, 1, 0], &[(Router, &[9]), (OptionCode::ClientNetworkInterface, &[0])]),
        ];
        for (bytes, expected) in cases {
            let expected = expected.iter().map(|(code, value)| (*code, value.to_vec())).collect();
            assert_eq!(Options::read(bytes), Options(expected), "{bytes:?}");
        }
    }

    #[test]
    fn a_value_that_is_too_short_is_none() {
        let options = Options::read(&[53, 0, 26, 1, 5, 51, 3, 0, 0, 1, 1, 3, 255, 255, 255]);
        assert_eq!(options.byte(OptionCode::MessageType), None);
        assert_eq!(options.short(OptionCode::InterfaceMtu), None);
        assert_eq!(options.long(OptionCode::AddressLeaseTime), None);
        assert_eq!(options.address(OptionCode::SubnetMask), None);
    }

    #[test]
    fn a_list_of_addresses_that_is_cut_off_is_none() {
        for (value, expected) in [
            (&[10, 0, 0, 1, 10, 0, 0, 2][..], &[[10, 0, 0, 1], [10, 0, 0, 2]][..]),
            (&[10, 0, 0, 1, 10, 0], &[]),
            (&[], &[]),
        ] {
            let options = Options::read(&[&[6, value.len() as u8], value].concat());
            let expected: Vec<_> = expected.iter().copied().map(Ipv4Addr::from).collect();
            assert_eq!(options.addresses(OptionCode::DomainNameServer), expected, "{value:?}");
        }
    }

    #[test]
    fn classless_routes_are_all_there_or_none() {
        let route = |destination: [u8; 4], prefix_len, gateway: Option<[u8; 4]>| Route {
            destination: Ipv4Addr::from(destination).into(),
            prefix_len,
            gateway: gateway.map(|via| Ipv4Addr::from(via).into()),
        };
        let via = Some([10, 0, 0, 3]);
        let cases: [(&[u8], _); 8] = [
            (&[], Some(vec![])),
            (&[0, 10, 0, 0, 3], Some(vec![route([0; 4], 0, via)])),
            (&[24, 10, 9, 0, 0, 0, 0, 0], Some(vec![route([10, 9, 0, 0], 24, None)])),
            (&[32, 10, 9, 8, 7, 10, 0, 0, 3], Some(vec![route([10, 9, 8, 7], 32, via)])),
            // The kernel takes no route to a network with a host's bits.
            (&[12, 172, 31, 10, 0, 0, 3], Some(vec![route([172, 16, 0, 0], 12, via)])),
            (&[33, 10, 9, 8, 7, 0, 10, 0, 0, 3], None),
            (&[0, 10, 0, 0, 3, 24, 10, 9], None),
            (&[0, 10, 0, 0], None),
        ];
        for (value, expected) in cases {
            let options = Options::read(&[&[121, value.len() as u8], value].concat());
            assert_eq!(options.classless_routes(), expected, "{value:?}");
        }
        assert_eq!(Options::read(&[]).classless_routes(), None);
    }
}
