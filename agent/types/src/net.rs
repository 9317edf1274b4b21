//! Network configuration as the kernel command line asks for it.
//!
//! Every command line gives a configuration: what cannot be used is left out with a [`Warning`], and
//! without a usable address it is the default network's, so that an operator can reach the machine.
//! The grammars are the kernel's nfsroot one (`epoxy.ip=`, see
//! <https://docs.kernel.org/admin-guide/nfs/nfsroot.html>) and ePoxy's comma-separated one
//! (`epoxy.ipv4=`, `epoxy.ipv6=`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::cmdline::Cmdline;

pub use client_id::DhcpClientId;

mod choice;
mod client_id;
mod comma;
mod nfsroot;

/// What the network of this machine shall look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The interface to use; none named: the first that has a carrier.
    pub interface: Option<String>,
    /// How the IPv4 address is found.
    pub ipv4: Ipv4Config,
    /// A static IPv6 address, if IPv6 is asked for.
    pub ipv6: Option<StaticIpv6>,
    /// Host name to set; with DHCP also the one to ask for.
    pub hostname: Option<String>,
    /// Name servers, in order of preference.
    pub dns: Vec<IpAddr>,
    /// Time servers.
    pub ntp: Vec<IpAddr>,
    /// How a DHCP server shall know this machine; otherwise by its Ethernet address.
    pub dhcp_client_id: Option<DhcpClientId>,
}

/// How the IPv4 address is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Config {
    /// Given on the command line.
    Static(StaticIpv4),
    /// Asked from a DHCP server (RFC 2131).
    Dhcp,
}

/// A static IPv4 address with its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticIpv4 {
    /// The machine's own address.
    pub address: Ipv4Addr,
    /// Length of the network prefix in bits, 0 to 32.
    pub prefix_len: u8,
    /// Default gateway; always on the address's own network.
    pub gateway: Option<Ipv4Addr>,
}

/// A static IPv6 address with its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticIpv6 {
    /// The machine's own address.
    pub address: Ipv6Addr,
    /// Length of the network prefix in bits, 0 to 128.
    pub prefix_len: u8,
    /// Default gateway.
    pub gateway: Option<Ipv6Addr>,
}

/// A network configuration, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkChoice {
    /// What to set up.
    pub config: NetworkConfig,
    /// What an operator should correct.
    pub warnings: Vec<Warning>,
    /// Which parameter gave what.
    pub sources: Vec<Source>,
}

/// One value of the configuration with the parameter it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it is: `address`, `gateway`, `interface` and so on.
    pub field: &'static str,
    /// The value.
    pub value: String,
    /// The parameter, or `default network`.
    pub parameter: &'static str,
}

/// Something on the command line that an operator should correct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The parameter.
    pub parameter: &'static str,
    /// The part of it.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What was done about it, and what would be right.
    pub remedy: &'static str,
}

impl NetworkConfig {
    /// What the command line asks for: `epoxy.ipv4` before `epoxy.ip` before the default network.
    #[must_use]
    pub fn from_cmdline(cmdline: &Cmdline<'_>) -> NetworkChoice {
        choice::choose(cmdline)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} from {}", self.field, self.value, self.parameter)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}; {}", self.parameter, self.field, self.problem, self.remedy)
    }
}

impl fmt::Display for StaticIpv4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Display for StaticIpv6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// What one parameter says about the network; what it leaves open, another one may say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Answers {
    ipv4: Option<Ipv4Config>,
    ipv6: Option<StaticIpv6>,
    interface: Option<String>,
    hostname: Option<String>,
    dns: Vec<IpAddr>,
    ntp: Vec<IpAddr>,
    dhcp_client_id: Option<DhcpClientId>,
}

/// Collects the warnings about one parameter.
struct Notes<'a> {
    parameter: &'static str,
    warnings: &'a mut Vec<Warning>,
}

impl Notes<'_> {
    fn warn(&mut self, field: &'static str, problem: impl Into<String>, remedy: &'static str) {
        let (parameter, problem) = (self.parameter, problem.into());
        self.warnings.push(Warning { parameter, field, problem, remedy });
    }

    /// An address, without the brackets around it; empty and unspecified ones are none.
    fn address<A>(&mut self, field: &'static str, text: &str) -> Option<A>
    where
        A: std::str::FromStr + Into<IpAddr> + Copy,
    {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address: Option<A> = bare.parse().ok();
        if address.is_none() && !text.is_empty() {
            self.warn(field, format!("{text:?} is no address"), "it is left out: correct it");
        }
        address.filter(|address| !(*address).into().is_unspecified())
    }

    /// A gateway that the address can reach without one.
    fn on_link<A: fmt::Display>(
        &mut self,
        gateway: A,
        own: &impl fmt::Display,
        reached: bool,
    ) -> Option<A> {
        if !reached {
            let problem = format!("{gateway} is not on the network of {own}");
            self.warn("gateway", problem, "no default route is set: correct gateway or netmask");
        }
        reached.then_some(gateway)
    }

    fn hostname(&mut self, text: &str) -> Option<String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        // The kernel takes no more: __NEW_UTS_LEN.
        let valid = text.len() <= 64 && text.chars().all(allowed) && !text.starts_with(['-', '.']);
        if !valid {
            self.warn(
                "hostname",
                format!("{text:?} is no host name"),
                "it is left out: correct it",
            );
        }
        (valid && !text.is_empty()).then(|| text.to_owned())
    }

    fn interface(&mut self, text: &str) -> Option<String> {
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
        // The kernel takes no more: IFNAMSIZ with its final zero.
        let valid = text.len() <= 15 && !text.contains(forbidden) && text != "." && text != "..";
        if !valid {
            let problem = format!("{text:?} is no name of an interface");
            self.warn("interface", problem, "it is left out: correct it");
        }
        (valid && !text.is_empty()).then(|| text.to_owned())
    }
}

impl StaticIpv4 {
    fn reaches(&self, other: Ipv4Addr) -> bool {
        let differing = u32::from(self.address) ^ u32::from(other);
        differing.leading_zeros() >= u32::from(self.prefix_len)
    }
}

impl StaticIpv6 {
    fn reaches(&self, other: Ipv6Addr) -> bool {
        let differing = u128::from(self.address) ^ u128::from(other);
        other.is_unicast_link_local() || differing.leading_zeros() >= u32::from(self.prefix_len)
    }
}

/// The length of an IPv4 prefix, from `24`, `/24` or `255.255.255.0`.
fn prefix_len(text: &str) -> Option<u8> {
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let mask = u32::from(mask);
        let length = mask.leading_ones();
        return u8::try_from(length).ok().filter(|_| mask.count_ones() == length);
    }
    text.strip_prefix('/').unwrap_or(text).parse().ok().filter(|length| *length <= 32)
}
