//! The name servers of resolv.conf(5), and what they are asked.
//!
//! The machine's domains are searched here: hickory goes on to the next one when a name server fails,
//! and its answer would be that there is no such name.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{IntoName, Name};
use hickory_resolver::{Resolver, TokioResolver, system_conf};

/// One try of one server; resolv.conf(5)'s default.
const TRY_LIMIT: Duration = Duration::from_secs(5);

/// Whom to ask.
pub(super) struct Servers {
    resolver: TokioResolver,
    /// Their addresses, for an error.
    pub(super) shown: String,
    /// Where names without a dot are looked for.
    domains: Vec<Name>,
}

impl Servers {
    /// Those of a resolv.conf(5); none if there are none, or if it makes no sense.
    pub(super) fn listed(resolv_conf: &[u8], port: u16) -> Option<Self> {
        let (config, options) = system_conf::parse_resolv_conf(resolv_conf).ok()?;
        let addresses: Vec<_> = config.name_servers().iter().map(|s| s.ip.to_string()).collect();
        let domains = config.domain().into_iter().chain(config.search());
        let runtime = TokioRuntimeProvider::default();
        let mut builder = Resolver::builder_with_config(on_port(&config, port), runtime);
        *builder.options_mut() = bounded(options);
        Some(Self {
            resolver: builder.build().ok()?,
            shown: addresses.join(", "),
            domains: domains.cloned().collect(),
        })
    }

    /// The addresses of a name. One with a dot is whole; another one is in one of the machine's
    /// domains. The failure of a server counts unless there is an address elsewhere.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let mut failure = None;
        for name in self.searched(name) {
            match self.lookup(name).await {
                Err(error) if is_absence(&error) => {}
                Err(error) => failure = Some(error),
                found => return found,
            }
        }
        let as_it_is = self.lookup(format!("{}.", name.trim_end_matches('.'))).await;
        match (as_it_is, failure) {
            (Err(error), Some(failure)) if is_absence(&error) => Err(failure),
            (as_it_is, _) => as_it_is,
        }
    }

    /// The name in each domain in which there can be one.
    fn searched(&self, name: &str) -> impl Iterator<Item = Name> {
        let label = (!name.contains('.')).then(|| Name::from_utf8(name).ok()).flatten();
        self.domains.iter().filter_map(move |domain| label.clone()?.append_domain(domain).ok())
    }

    /// IPv6 addresses are asked for where there is none of IPv4; some servers refuse to say that there
    /// is none, and one that is silent would only be so for longer. A failure is not to look like a
    /// name that does not exist.
    async fn lookup(&self, name: impl IntoName + Clone) -> Result<Vec<IpAddr>, NetError> {
        let no_ipv4 = match self.resolver.ipv4_lookup(name.clone()).await {
            Ok(found) => return Ok(addresses_of(&found)),
            Err(NetError::Timeout) => return Err(NetError::Timeout),
            Err(error) => error,
        };
        match self.resolver.ipv6_lookup(name).await {
            Ok(found) => Ok(addresses_of(&found)),
            Err(error) if is_absence(&no_ipv4) => Err(error),
            Err(_) => Err(no_ipv4),
        }
    }
}

/// Whether the servers say that there is no such name, or that it has no address.
pub(super) fn is_absence(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(_)))
}

fn on_port(config: &ResolverConfig, port: u16) -> ResolverConfig {
    let mut servers = config.name_servers().to_vec();
    for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
        connection.port = port;
    }
    ResolverConfig::from_parts(None, Vec::new(), servers)
}

fn bounded(mut options: ResolverOpts) -> ResolverOpts {
    options.timeout = options.timeout.min(TRY_LIMIT);
    options.use_hosts_file = ResolveHosts::Never;
    options
}

fn addresses_of(found: &Lookup) -> Vec<IpAddr> {
    found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}
