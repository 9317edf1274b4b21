//! Network configuration as the kernel command line asks for it.
//!
//! The grammars are the kernel's nfsroot one (`epoxy.ip=`, see
//! <https://docs.kernel.org/admin-guide/nfs/nfsroot.html>) and ePoxy's comma-separated one
//! (`epoxy.ipv4=`, `epoxy.ipv6=`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
