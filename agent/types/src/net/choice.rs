//! Puts one configuration together from all parameters of the command line.
//!
//! Each value has its own order of precedence; what two parameters say differently is warned about.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use super::{
    Answers, Ipv4Config, NetworkChoice, NetworkConfig, Notes, Source, StaticIpv4, Warning, comma,
    nfsroot,
};
use crate::cmdline::Cmdline;
use crate::params::{HOSTNAME, INTERFACE, IP, IPV4, IPV6, NETWORK};

/// What a value comes from if no parameter gave it.
const DEFAULT: &str = "default network";

const DISAGREES: &str = "the former is used: give both the same";

/// A value with the parameter that gave it.
struct Given<T> {
    value: T,
    parameter: &'static str,
}

/// What all parameters say.
struct Said {
    ip: Option<Answers>,
    ipv4: Option<Answers>,
    ipv6: Option<Answers>,
    interface: Option<String>,
    hostname: Option<String>,
}

pub(super) fn choose(cmdline: &Cmdline<'_>) -> NetworkChoice {
    let mut warnings = repetitions(cmdline);
    let said = Said::read(cmdline, &mut warnings);
    said.disagreements(&mut warnings);
    let ipv4 = said.ipv4();
    if ipv4.parameter == DEFAULT && [IP, IPV4].iter().any(|key| is_given(cmdline, key)) {
        Notes { parameter: DEFAULT, warnings: &mut warnings }.warn(
            "192.168.0.2/24",
            "is used",
            "no parameter gives a usable address",
        );
    }
    let (config, sources) = said.configuration(ipv4);
    NetworkChoice { config, warnings, sources }
}

/// The default network, see [`crate::params::DEFAULT_NETWORK`].
fn default_network() -> Answers {
    let address = StaticIpv4 {
        address: Ipv4Addr::new(192, 168, 0, 2),
        prefix_len: 24,
        gateway: Some(Ipv4Addr::new(192, 168, 0, 1)),
    };
    Answers {
        ipv4: Some(Ipv4Config::Static(address)),
        interface: Some("eth0".to_owned()),
        hostname: Some("default-net".to_owned()),
        dns: vec![Ipv4Addr::new(8, 8, 8, 8).into()],
        ..Answers::default()
    }
}

impl Said {
    fn read(cmdline: &Cmdline<'_>, warnings: &mut Vec<Warning>) -> Self {
        Self {
            ip: ask(cmdline, IP, warnings, nfsroot::parse),
            ipv4: ask(cmdline, IPV4, warnings, comma::ipv4),
            ipv6: ask(cmdline, IPV6, warnings, comma::ipv6),
            interface: ask(cmdline, INTERFACE, warnings, |value, notes| notes.interface(value)),
            hostname: ask(cmdline, HOSTNAME, warnings, |value, notes| notes.hostname(value)),
        }
    }

    fn ipv4(&self) -> Given<Ipv4Config> {
        let say = |answers: &Option<Answers>| answers.as_ref().and_then(|answers| answers.ipv4);
        let given = say(&self.ipv4).map(|value| Given { value, parameter: IPV4 });
        let given = given.or_else(|| say(&self.ip).map(|value| Given { value, parameter: IP }));
        given.unwrap_or(Given {
            value: default_network().ipv4.unwrap_or(Ipv4Config::Dhcp),
            parameter: DEFAULT,
        })
    }

    fn configuration(self, ipv4: Given<Ipv4Config>) -> (NetworkConfig, Vec<Source>) {
        let ip = self.ip.unwrap_or_default();
        let new = self.ipv4.unwrap_or_default();
        let bracketed = ip.ipv6.map(|value| Given { value, parameter: IP });
        let ipv6 = self.ipv6.as_ref().and_then(|answers| answers.ipv6);
        let ipv6 = ipv6.map(|value| Given { value, parameter: IPV6 }).or(bracketed);
        let default = defaults_for(&ipv4);
        let interface =
            first(&[(INTERFACE, self.interface), (IP, ip.interface), default.interface]);
        let hostname = first(&[(HOSTNAME, self.hostname), (IP, ip.hostname), default.hostname]);
        let dns = name_servers(&[(IPV4, new.dns), (IP, ip.dns), default.dns], self.ipv6);
        let mut sources = address_sources(&ipv4);
        if let Some(ipv6) = &ipv6 {
            sources.push(source("ipv6 address", &ipv6.value, ipv6.parameter));
            sources.extend(ipv6.value.gateway.map(|g| source("ipv6 gateway", &g, ipv6.parameter)));
        }
        sources.extend(interface.iter().map(|i| source("interface", &i.value, i.parameter)));
        sources.extend(hostname.iter().map(|h| source("hostname", &h.value, h.parameter)));
        sources.extend(dns.iter().map(|dns| source("name server", &dns.value, dns.parameter)));
        sources.extend(ip.ntp.iter().map(|ntp| source("time server", ntp, IP)));
        let config = NetworkConfig {
            interface: interface.map(|given| given.value),
            ipv4: ipv4.value,
            ipv6: ipv6.map(|given| given.value),
            hostname: hostname.map(|given| given.value),
            dns: dns.into_iter().map(|given| given.value).collect(),
            ntp: ip.ntp,
            dhcp_client_id: ip.dhcp_client_id,
        };
        (config, sources)
    }

    /// What `epoxy.ip` says otherwise than the newer parameters.
    fn disagreements(&self, warnings: &mut Vec<Warning>) {
        let Some(ip) = &self.ip else { return };
        let new = self.ipv4.as_ref();
        let ipv4 = |answers: &Answers| answers.ipv4.as_ref().map(shown);
        disagree(IPV4, "address", new.and_then(ipv4), ipv4(ip), warnings);
        let dns = |answers: &Answers| {
            let servers: Vec<_> = answers.dns.iter().map(IpAddr::to_string).collect();
            (!servers.is_empty()).then(|| servers.join(","))
        };
        disagree(IPV4, "name server", new.and_then(dns), dns(ip), warnings);
        disagree(INTERFACE, "value", self.interface.clone(), ip.interface.clone(), warnings);
        disagree(HOSTNAME, "value", self.hostname.clone(), ip.hostname.clone(), warnings);
    }
}

/// What is used for the values that no parameter gives: one each for interface, hostname, servers.
struct Defaults {
    interface: (&'static str, Option<String>),
    hostname: (&'static str, Option<String>),
    dns: (&'static str, Vec<IpAddr>),
}

/// `epoxy.ip` has the kernel's defaults: any interface, the address for a name. With DHCP the server
/// gives name and name servers.
fn defaults_for(ipv4: &Given<Ipv4Config>) -> Defaults {
    let default = default_network();
    match ipv4.value {
        Ipv4Config::Dhcp => Defaults {
            interface: (DEFAULT, None),
            hostname: (DEFAULT, None),
            dns: (DEFAULT, Vec::new()),
        },
        Ipv4Config::Static(address) if ipv4.parameter == IP => Defaults {
            interface: (DEFAULT, None),
            hostname: (IP, Some(address.address.to_string())),
            dns: (DEFAULT, default.dns),
        },
        Ipv4Config::Static(_) => Defaults {
            interface: (DEFAULT, default.interface),
            hostname: (DEFAULT, default.hostname),
            dns: (DEFAULT, default.dns),
        },
    }
}

/// What `parse` makes of a parameter's value; an empty one is as good as none.
fn ask<T>(
    cmdline: &Cmdline<'_>,
    parameter: &'static str,
    warnings: &mut Vec<Warning>,
    parse: impl Fn(&str, &mut Notes<'_>) -> Option<T>,
) -> Option<T> {
    let value = cmdline.value_of(parameter).filter(|value| !value.is_empty())?;
    parse(value, &mut Notes { parameter, warnings })
}

fn first(candidates: &[(&'static str, Option<String>)]) -> Option<Given<String>> {
    candidates
        .iter()
        .find_map(|(parameter, value)| value.clone().map(|value| Given { value, parameter }))
}

/// The first list that is not empty, then those of `epoxy.ipv6`; each server once.
fn name_servers(
    candidates: &[(&'static str, Vec<IpAddr>)],
    ipv6: Option<Answers>,
) -> Vec<Given<IpAddr>> {
    let (parameter, servers) =
        candidates.iter().find(|(_, servers)| !servers.is_empty()).cloned().unwrap_or_default();
    let more = ipv6.unwrap_or_default().dns.into_iter().map(|value| (IPV6, value));
    let all = servers.into_iter().map(|value| (parameter, value)).chain(more);
    all.fold(Vec::new(), |mut out, (parameter, value)| {
        if !out.iter().any(|given: &Given<IpAddr>| given.value == value) {
            out.push(Given { value, parameter });
        }
        out
    })
}

fn address_sources(ipv4: &Given<Ipv4Config>) -> Vec<Source> {
    match &ipv4.value {
        Ipv4Config::Dhcp => vec![source("address", &"by DHCP", ipv4.parameter)],
        Ipv4Config::Static(address) => {
            let gateway = address.gateway.map(|g| source("gateway", &g, ipv4.parameter));
            [source("address", address, ipv4.parameter)].into_iter().chain(gateway).collect()
        }
    }
}

fn source(field: &'static str, value: &impl Display, parameter: &'static str) -> Source {
    Source { field, value: value.to_string(), parameter }
}

fn shown(ipv4: &Ipv4Config) -> String {
    match ipv4 {
        Ipv4Config::Dhcp => "DHCP".to_owned(),
        Ipv4Config::Static(address @ StaticIpv4 { gateway: Some(gateway), .. }) => {
            format!("{address} via {gateway}")
        }
        Ipv4Config::Static(address) => format!("{address} without gateway"),
    }
}

fn disagree(
    parameter: &'static str,
    field: &'static str,
    new: Option<String>,
    old: Option<String>,
    warnings: &mut Vec<Warning>,
) {
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        let problem = format!("{new} is not what {IP} says, {old}");
        Notes { parameter, warnings }.warn(field, problem, DISAGREES);
    }
}

/// Network parameters that are given more than once with different values.
fn repetitions(cmdline: &Cmdline<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for contradiction in cmdline.contradictions() {
        let Some(parameter) = NETWORK.iter().find(|key| **key == contradiction.key) else {
            continue;
        };
        let values = contradiction.values.join(" and ");
        let problem = format!("is given differently: {}", values.escape_debug());
        Notes { parameter, warnings: &mut warnings }.warn(
            "value",
            problem,
            "the last is used: give it once",
        );
    }
    warnings
}

fn is_given(cmdline: &Cmdline<'_>, key: &str) -> bool {
    cmdline.value_of(key).is_some_and(|value| !value.is_empty())
}
