//! The patterns of `from=` and `permitopen=`, as ssh_config(5) PATTERNS describes them.
//!
//! Names are not looked up: an attacker may own the reverse zone, and rescue works without a
//! network. A source is compared by its address only.

use std::net::IpAddr;

/// A comma-separated list of addresses, networks and wildcards, `!` before those that are excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceList(Vec<(Sign, Source)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Included,
    Excluded,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Network { address: IpAddr, prefix_len: u8 },
    Wildcard(String),
}

/// Why a list of sources or destinations is not understood.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("expected ADDRESS/BITS, got \"{0}\"")]
    Network(String),
    #[error("expected a pattern, got nothing")]
    Empty,
    #[error("expected HOST:PORT, got \"{0}\"")]
    Destination(String),
}

impl std::str::FromStr for SourceList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.split(',').map(|item| signed_source(item.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl SourceList {
    /// Whether a connection from this address is meant. An exclusion wins over everything else.
    pub(crate) fn contains(&self, source: IpAddr) -> bool {
        let matching =
            |sign| self.0.iter().any(|(of, pattern)| *of == sign && pattern.contains(source));
        !matching(Sign::Excluded) && matching(Sign::Included)
    }
}

fn signed_source(item: &str) -> Result<(Sign, Source), Error> {
    match item.strip_prefix('!') {
        Some(rest) => Ok((Sign::Excluded, source(rest)?)),
        None => Ok((Sign::Included, source(item)?)),
    }
}

fn source(item: &str) -> Result<Source, Error> {
    if item.is_empty() {
        return Err(Error::Empty);
    }
    let Some((address, bits)) = item.split_once('/') else {
        return Ok(Source::Wildcard(item.to_ascii_lowercase()));
    };
    let bad = || Error::Network(item.to_owned());
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let prefix_len: u8 = bits.parse().map_err(|_| bad())?;
    if prefix_len > bits_of(address).1 {
        return Err(bad());
    }
    Ok(Source::Network { address, prefix_len })
}

impl Source {
    fn contains(&self, source: IpAddr) -> bool {
        match self {
            Self::Network { address, prefix_len } => same_prefix(*address, source, *prefix_len),
            Self::Wildcard(pattern) => match pattern.parse::<IpAddr>() {
                Ok(address) => address.to_canonical() == source,
                Err(_) => matches(pattern, &source.to_string()),
            },
        }
    }
}

fn same_prefix(network: IpAddr, source: IpAddr, prefix_len: u8) -> bool {
    let ((network, width), (source, source_width)) = (bits_of(network), bits_of(source));
    let shift = u32::from(width - prefix_len);
    // A shift by the whole width is not defined: every address is in /0.
    let prefix = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
    width == source_width && prefix(network) == prefix(source)
}

fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u32::from(v4).into(), 32),
        IpAddr::V6(v6) => (v6.into(), 128),
    }
}

/// Whether text is what the pattern means: `*` is any text, `?` any one character.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Where a key may have us connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    host: String,
    /// None means every port.
    port: Option<u16>,
}

impl std::str::FromStr for Destination {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Destination(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = match port {
            "*" => None,
            number => Some(number.parse().map_err(|_| bad())?),
        };
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl Destination {
    /// Whether this host, as the client wrote it, and this port are meant.
    pub(crate) fn contains(&self, host: &str, port: u16) -> bool {
        let host_is_meant = self.host == "*" || self.host == host.to_ascii_lowercase();
        host_is_meant && self.port.is_none_or(|meant| meant == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_meant_by_address_network_or_wildcard() {
        let table = [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("::/0", "203.0.113.1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:DB8:0::1", "2001:db8::1", true),
            ("192.0.2.*", "192.0.2.9", true),
            ("192.0.2.?", "192.0.2.19", false),
            ("*,!192.0.2.9", "192.0.2.9", false),
            ("!192.0.2.9,*", "192.0.2.8", true),
            ("!192.0.2.9", "192.0.2.8", false),
            ("host.example", "192.0.2.8", false),
        ];
        for (list, source, expected) in table {
            let list: SourceList = list.parse().unwrap();
            assert_eq!(list.contains(source.parse().unwrap()), expected, "{list:?} {source}");
        }
    }

    #[test]
    fn a_list_that_is_not_understood_is_an_error() {
        for text in ["192.0.2.0/33", "192.0.2.0/x", "host/24", "", "a,,b"] {
            assert!(text.parse::<SourceList>().is_err(), "{text}");
        }
    }

    #[test]
    fn wildcards_take_any_text() {
        let table = [
            ("*", "", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("a?c", "abc", true),
            ("", "a", false),
            ("*a", "aaab", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_destination_is_a_host_and_a_port() {
        let table = [
            ("bmc:443", "BMC", 443, true),
            ("bmc:443", "bmc", 80, false),
            ("*:22", "anything", 22, true),
            ("[2001:db8::1]:*", "2001:db8::1", 9, true),
        ];
        for (destination, host, port, expected) in table {
            let destination: Destination = destination.parse().unwrap();
            assert_eq!(destination.contains(host, port), expected, "{destination:?} {host}:{port}");
        }
        assert!("bmc".parse::<Destination>().is_err());
        assert!("bmc:https".parse::<Destination>().is_err());
        assert!(":22".parse::<Destination>().is_err());
    }
}
