//! `epoxy.ip=`, in the grammar of the kernel's `ip=`:
//! `<client>:<server>:<gateway>:<netmask>:<hostname>:<device>:<autoconf>:<dns0>:<dns1>:<ntp0>`.
//!
//! Beyond the kernel: a prefix length for a netmask, `<device>:dhcp`, and IPv6 in brackets (dracut).
//! The server is the NFS server's address, which nobody needs here. The hostname is kept whole, where
//! the kernel takes what follows the first dot for an NIS domain.
//! See <https://docs.kernel.org/admin-guide/nfs/nfsroot.html> and `net/ipv4/ipconfig.c`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Answers, DhcpClientId, Ipv4Config, Notes, StaticIpv4, StaticIpv6, prefix_len};

const FIELDS: usize = 10;
/// What a router advertises, too.
const IPV6_PREFIX_LEN: u8 = 64;

/// What the seventh field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Autoconf<'a> {
    /// Nothing.
    Unset,
    /// The address that is given.
    Static,
    /// DHCP, whatever else may be allowed.
    Dhcp,
    /// DHCP with this client identifier.
    DhcpWithId(&'a str),
    /// A protocol that nobody speaks any more.
    Obsolete(&'a str),
    /// No word of the kernel's.
    Unknown(&'a str),
}

/// What stands in the first field.
enum Client {
    Empty,
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr),
    Malformed,
}

/// Reads the parameter's value; none if it has no usable address and does not ask for one either.
pub(super) fn parse(value: &str, notes: &mut Notes<'_>) -> Option<Answers> {
    let fields = split(value);
    match fields.as_slice() {
        [word] if is_protocol(word) => Some(dhcp(word, notes)),
        [device, word] if is_protocol(word) && !is_address(device) => {
            let interface = notes.interface(device);
            Some(Answers { interface, ..dhcp(word, notes) })
        }
        fields => positional(fields, notes),
    }
}

fn positional(fields: &[&str], notes: &mut Notes<'_>) -> Option<Answers> {
    let field = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
    if fields.len() > FIELDS {
        let problem = format!("are {}", fields.len());
        notes.warn("fields", problem, "those after the tenth are ignored: leave them out");
    }
    let (client, client_prefix) = split_prefix(field(1));
    let mask = Some(field(4)).filter(|mask| !mask.is_empty()).or(client_prefix).unwrap_or_default();
    let answers = match Client::parse(client) {
        Client::Empty => dhcp(field(7), notes),
        Client::Ipv4(address) => {
            check_static(field(7), notes);
            let ipv4 = Ipv4Config::Static(static_ipv4(address, mask, field(3), notes));
            Answers { ipv4: Some(ipv4), ..Answers::default() }
        }
        Client::Ipv6(address) => {
            notes.warn(
                "address",
                "is IPv6",
                "IPv4, which the boot server needs, is asked for by DHCP",
            );
            let ipv6 = Some(static_ipv6(address, mask, field(3), notes));
            Answers { ipv4: Some(Ipv4Config::Dhcp), ipv6, ..Answers::default() }
        }
        Client::Malformed => {
            let problem = format!("{client:?} is no IPv4 address and no word such as dhcp");
            notes.warn("address", problem, "the parameter is ignored: correct it");
            return None;
        }
    };
    Some(Answers {
        hostname: notes.hostname(field(5)),
        interface: notes.interface(field(6)),
        dns: [field(8), field(9)].iter().filter_map(|t| notes.address("name server", t)).collect(),
        ntp: notes.address("time server", field(10)).into_iter().collect(),
        ..answers
    })
}

fn static_ipv4(address: Ipv4Addr, mask: &str, gateway: &str, notes: &mut Notes<'_>) -> StaticIpv4 {
    let prefix_len = netmask(address, mask, notes);
    let own = StaticIpv4 { address, prefix_len, gateway: None };
    let gateway = notes.address("gateway", gateway);
    let gateway = gateway.and_then(|gateway| notes.on_link(gateway, &own, own.reaches(gateway)));
    StaticIpv4 { gateway, ..own }
}

fn netmask(address: Ipv4Addr, mask: &str, notes: &mut Notes<'_>) -> u8 {
    // 0.0.0.0 says nothing, as in the other fields.
    if let Some(length) = prefix_len(mask).filter(|length| *length > 0) {
        return length;
    }
    let guess = class_prefix_len(address);
    let problem = if mask.is_empty() || mask == "0.0.0.0" {
        "is empty".to_owned()
    } else {
        format!("{mask:?} is no netmask")
    };
    let remedy = match guess {
        8 => "255.0.0.0 is guessed from the address's class: give it",
        16 => "255.255.0.0 is guessed from the address's class: give it",
        _ => "255.255.255.0 is guessed from the address's class: give it",
    };
    notes.warn("netmask", problem, remedy);
    guess
}

fn static_ipv6(address: Ipv6Addr, mask: &str, gateway: &str, notes: &mut Notes<'_>) -> StaticIpv6 {
    let length =
        mask.trim_start_matches('/').parse().ok().filter(|length| (1..=128).contains(length));
    if length.is_none() {
        notes.warn("netmask", format!("{mask:?} is no prefix length"), "64 is used: give it");
    }
    let prefix_len = length.unwrap_or(IPV6_PREFIX_LEN);
    let own = StaticIpv6 { address, prefix_len, gateway: None };
    let gateway = notes.address("gateway", gateway);
    let gateway = gateway.and_then(|gateway| notes.on_link(gateway, &own, own.reaches(gateway)));
    StaticIpv6 { gateway, ..own }
}

/// There is no address: whatever the word says, DHCP is the only way to get one.
fn dhcp(word: &str, notes: &mut Notes<'_>) -> Answers {
    let mut dhcp_client_id = None;
    match Autoconf::parse(word) {
        Autoconf::Unset | Autoconf::Dhcp => {}
        Autoconf::Static => {
            let problem = format!("is {word:?}, but no address is given");
            notes.warn("autoconf", problem, "DHCP is used: give an address, or write dhcp");
        }
        Autoconf::DhcpWithId(id) => dhcp_client_id = client_id(id, notes),
        Autoconf::Obsolete(word) => {
            let problem = format!("{word:?} asks for BOOTP or RARP");
            notes.warn("autoconf", problem, "DHCP is used: write dhcp");
        }
        Autoconf::Unknown(word) => {
            let problem = format!("{word:?} is unknown");
            notes.warn(
                "autoconf",
                problem,
                "DHCP is used, because no address is given: write dhcp",
            );
        }
    }
    Answers { ipv4: Some(Ipv4Config::Dhcp), dhcp_client_id, ..Answers::default() }
}

fn client_id(text: &str, notes: &mut Notes<'_>) -> Option<DhcpClientId> {
    let id = DhcpClientId::parse(text);
    if id.is_none() {
        let problem = format!("{text:?} is no type from 0 to 255, a comma and 1 to 251 bytes");
        notes.warn("client identifier", problem, "the Ethernet address is sent: correct it");
    }
    id
}

/// There is an address: the kernel uses it even if the word asks for another.
fn check_static(word: &str, notes: &mut Notes<'_>) {
    match Autoconf::parse(word) {
        Autoconf::Unset | Autoconf::Static => {}
        Autoconf::Dhcp | Autoconf::DhcpWithId(_) | Autoconf::Obsolete(_) => {
            let problem = format!("is {word:?}, but an address is given");
            notes.warn("autoconf", problem, "the address is used: write off, or leave it empty");
        }
        Autoconf::Unknown(word) => {
            let problem = format!("{word:?} is unknown");
            notes.warn("autoconf", problem, "the address is used: write off");
        }
    }
}

impl<'a> Autoconf<'a> {
    /// The kernel's words, in its case, and `false`, which M-Lab's templates write for `off`.
    fn parse(word: &'a str) -> Self {
        match word {
            "" => Self::Unset,
            "off" | "none" | "false" => Self::Static,
            "dhcp" | "on" | "any" => Self::Dhcp,
            "both" | "bootp" | "rarp" => Self::Obsolete(word),
            word => word.strip_prefix("dhcp,").map_or(Self::Unknown(word), Self::DhcpWithId),
        }
    }
}

impl Client {
    fn parse(text: &str) -> Self {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            // The kernel takes both for "no address".
            return match address {
                Ipv4Addr::UNSPECIFIED | Ipv4Addr::BROADCAST => Self::Empty,
                address if address.is_loopback() || address.is_multicast() => Self::Malformed,
                address => Self::Ipv4(address),
            };
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        match bare.map(str::parse::<Ipv6Addr>) {
            _ if text.is_empty() => Self::Empty,
            Some(Ok(address)) if address.is_unspecified() => Self::Empty,
            Some(Ok(address)) => Self::Ipv6(address),
            _ => Self::Malformed,
        }
    }
}

/// Splits at colons outside brackets.
fn split(value: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    value
        .split(|c| {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ':' && depth == 0
        })
        .collect()
}

fn split_prefix(client: &str) -> (&str, Option<&str>) {
    client.split_once('/').map_or((client, None), |(client, prefix)| (client, Some(prefix)))
}

fn is_protocol(word: &str) -> bool {
    !matches!(Autoconf::parse(word), Autoconf::Unset | Autoconf::Unknown(_))
}

fn is_address(text: &str) -> bool {
    text.is_empty() || !matches!(Client::parse(split_prefix(text).0), Client::Malformed)
}

/// RFC 791's classes, from before there were netmasks.
const fn class_prefix_len(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        192.. => 24,
    }
}
