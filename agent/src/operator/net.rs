//! `stage2 net`: the network as the kernel has it now.

use std::fmt;
use std::fs;
use std::io::Write;

use crate::links::{self, Link, LinkState, Links};
use crate::netlink::{self, IfIndex, LinkAddress, Netlink, Route};

const RESOLV_CONF: &str = "/etc/resolv.conf";

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Links(#[from] links::Error),
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

pub(super) fn show(out: &mut impl Write) -> Result<(), super::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(super::Error::Runtime)?;
    let net = runtime.block_on(Net::now())?;
    Ok(write!(out, "{net}")?)
}

/// The network at one moment.
struct Net {
    links: Vec<Link>,
    addresses: Vec<LinkAddress>,
    routes: Vec<(IfIndex, Route)>,
    name_servers: Vec<String>,
}

impl Net {
    async fn now() -> Result<Self, Error> {
        let netlink = Netlink::open()?;
        Ok(Self {
            links: Links::watch().await?.now().into_values().collect(),
            addresses: netlink.addresses().await?,
            routes: netlink.default_routes().await?,
            name_servers: name_servers(&fs::read_to_string(RESOLV_CONF).unwrap_or_default()),
        })
    }
}

fn name_servers(resolv_conf: &str) -> Vec<String> {
    let servers = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver "));
    servers.map(|server| server.trim().to_owned()).collect()
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for link in &self.links {
            let Link { index, name, mtu, .. } = link;
            write!(f, "{name:10} {}", state(link.state))?;
            if let Some(mac) = link.mac {
                write!(f, ", {mac}")?;
            }
            writeln!(f, ", mtu {mtu}")?;
            for LinkAddress { address, prefix_len, .. } in
                self.addresses.iter().filter(|address| address.index == *index)
            {
                writeln!(f, "{:10} address {address}/{prefix_len}", "")?;
            }
            for (_, route) in self.routes.iter().filter(|(at, _)| at == index) {
                if let Some(gateway) = route.gateway {
                    writeln!(f, "{:10} default route through {gateway}", "")?;
                }
            }
        }
        match self.name_servers.as_slice() {
            [] => writeln!(f, "no name server is known: only addresses can be reached, not names"),
            servers => writeln!(f, "name servers {}", servers.join(", ")),
        }
    }
}

fn state(state: LinkState) -> &'static str {
    match state {
        LinkState::Down => "turned off",
        LinkState::NoCarrier => "no carrier: check cable and switch port",
        LinkState::Carrier => "up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::LinkKind;
    use crate::netlink::MacAddr;

    fn link(index: u32, name: &str, state: LinkState) -> Link {
        let mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        let kind = LinkKind::Card;
        Link { index: IfIndex(index), name: name.to_owned(), kind, state, mac, mtu: 1500 }
    }

    #[test]
    fn each_interface_is_followed_by_its_addresses_and_routes() {
        let address = "192.168.0.2".parse().unwrap();
        let net = Net {
            links: vec![link(2, "eth0", LinkState::Carrier), link(3, "eth1", LinkState::NoCarrier)],
            addresses: vec![LinkAddress { index: IfIndex(2), address, prefix_len: 24 }],
            routes: vec![(IfIndex(2), Route::default_via("192.168.0.1".parse().unwrap()))],
            name_servers: name_servers("# ours\nnameserver 8.8.8.8\nsearch x\n"),
        };
        let expected = "\
eth0       up, 52:54:00:00:00:01, mtu 1500
           address 192.168.0.2/24
           default route through 192.168.0.1
eth1       no carrier: check cable and switch port, 52:54:00:00:00:01, mtu 1500
name servers 8.8.8.8
";
        assert_eq!(net.to_string(), expected);
    }

    #[tokio::test]
    async fn the_kernel_can_be_asked() {
        let net = Net::now().await.unwrap();
        assert!(net.links.iter().any(|link| link.name == "lo"));
    }
}
