//! Names to addresses: `/etc/hosts`, then the name servers of `/etc/resolv.conf`.
//!
//! Both files are read anew for each connection, since a DHCP renewal may have written them; that
//! also keeps a failure of a minute ago from being remembered. Addresses in URLs never come here.
//! IPv4 is preferred: the boot server knows machines by their IPv4 address. Only name servers that
//! somebody configured are asked.

use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{Resolver, TokioResolver, system_conf};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// All tries together, below the 30 s in which a connection must stand: so the console says that
/// names are the problem.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// One try of one server; resolv.conf(5)'s default.
const TRY_LIMIT: Duration = Duration::from_secs(5);

/// Resolves names as the files say.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// As hosts(5).
    pub(crate) hosts: PathBuf,
    /// As resolv.conf(5).
    pub(crate) resolv_conf: PathBuf,
    /// Port of the name servers; 53, except in tests.
    pub(crate) port: u16,
    /// How long all tries may take together.
    pub(crate) limit: Duration,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            port: 53,
            limit: ANSWER_LIMIT,
        }
    }
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody to ask.
    #[error("cannot resolve {name}: no name server in {resolv_conf}")]
    NoServers {
        /// The name.
        name: String,
        /// Where servers should be.
        resolv_conf: String,
    },
    /// The servers say that there is no such name, or that it has no address.
    #[error("cannot resolve {name}: {servers} knows no address for it")]
    Unknown {
        /// The name.
        name: String,
        /// Who was asked.
        servers: String,
    },
    /// No server has answered in time.
    #[error("cannot resolve {name}: no answer from {servers}")]
    NoAnswer {
        /// The name.
        name: String,
        /// Who was asked.
        servers: String,
    },
    /// Any other failure.
    #[error("cannot resolve {name} with {servers}: {problem}")]
    Failed {
        /// The name.
        name: String,
        /// Who was asked.
        servers: String,
        /// In the resolver's words.
        problem: String,
    },
}

impl Error {
    /// Whether asking again may help: a name that does not exist will not appear.
    pub(super) fn is_transient(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = names.addresses(name.as_str()).await?;
            // reqwest fills in the port.
            let sockets = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

impl Names {
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        let listed = self.listed_in_hosts(name);
        if !listed.is_empty() {
            return Ok(listed);
        }
        let (resolver, servers) = self.resolver(name)?;
        log::debug!("asking {servers} for the address of {name}");
        match tokio::time::timeout(self.limit, lookup(&resolver, &absolute(name))).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(failure(name, servers, &error)),
            Err(_) => Err(Error::NoAnswer { name: name.to_owned(), servers }),
        }
    }

    fn listed_in_hosts(&self, name: &str) -> Vec<IpAddr> {
        match std::fs::read_to_string(&self.hosts) {
            Ok(text) => listed(&text, name),
            Err(error) => {
                log::debug!("cannot read {}: {error}", self.hosts.display());
                Vec::new()
            }
        }
    }

    /// A resolver as resolv.conf says, and whom it asks.
    fn resolver(&self, name: &str) -> Result<(TokioResolver, String), Error> {
        let no_servers = || Error::NoServers {
            name: name.to_owned(),
            resolv_conf: self.resolv_conf.display().to_string(),
        };
        let text = std::fs::read(&self.resolv_conf).map_err(|_| no_servers())?;
        let (config, options) = system_conf::parse_resolv_conf(text).map_err(|_| no_servers())?;
        let servers: Vec<String> = config.name_servers().iter().map(|s| s.ip.to_string()).collect();
        let servers = servers.join(", ");
        let mut builder = Resolver::builder_with_config(
            with_port(&config, self.port),
            TokioRuntimeProvider::default(),
        );
        *builder.options_mut() = bounded(options);
        let resolver = builder.build().map_err(|error| failure(name, servers.clone(), &error))?;
        Ok((resolver, servers))
    }
}

fn with_port(config: &ResolverConfig, port: u16) -> ResolverConfig {
    let mut servers = config.name_servers().to_vec();
    for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
        connection.port = port;
    }
    ResolverConfig::from_parts(config.domain().cloned(), config.search().to_vec(), servers)
}

fn bounded(mut options: ResolverOpts) -> ResolverOpts {
    options.timeout = options.timeout.min(TRY_LIMIT);
    options.use_hosts_file = ResolveHosts::Never;
    options
}

/// A name with a dot is whole: the machine's own domain, which hickory searches too, is not to be
/// tried behind it when a name server fails.
fn absolute(name: &str) -> String {
    if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.to_owned() }
}

/// IPv6 addresses are asked for where there is none of IPv4; some servers refuse to say that there is
/// none. A failure is not to look like a name that does not exist.
async fn lookup(resolver: &TokioResolver, name: &str) -> Result<Vec<IpAddr>, NetError> {
    let no_ipv4 = match resolver.ipv4_lookup(name).await {
        Ok(found) => return Ok(addresses_of(&found)),
        Err(error) => error,
    };
    match resolver.ipv6_lookup(name).await {
        Ok(found) => Ok(addresses_of(&found)),
        Err(error) if is_absence(&no_ipv4) => Err(error),
        Err(_) => Err(no_ipv4),
    }
}

fn addresses_of(found: &Lookup) -> Vec<IpAddr> {
    found.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

fn is_absence(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(_)))
}

fn failure(name: &str, servers: String, error: &NetError) -> Error {
    let name = name.to_owned();
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) => Error::Unknown { name, servers },
        NetError::Timeout => Error::NoAnswer { name, servers },
        other => Error::Failed { name, servers, problem: other.to_string() },
    }
}

/// The addresses of a name in hosts(5), IPv4 first.
fn listed(hosts: &str, name: &str) -> Vec<IpAddr> {
    let wanted = name.trim_end_matches('.');
    let mut addresses: Vec<IpAddr> = hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(wanted)).then_some(address)
        })
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tokio::net::UdpSocket;

    /// A name server that knows `boot.example`, and nothing else; it fails at `ill.…`.
    async fn name_server() -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut query).await.unwrap();
                socket.send_to(&answer(&query[..length]), peer).await.unwrap();
            }
        });
        port
    }

    /// RFC 1035 section 4: the question again, and one A record if it is the right question.
    fn answer(query: &[u8]) -> Vec<u8> {
        const QUESTION: &[u8] = b"\x04boot\x07example\x00\x00\x01\x00\x01";
        const RECORD: &[u8] = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x01\x02\x03";
        let end = 12 + query[12..].iter().position(|b| *b == 0).unwrap() + 5;
        let question = &query[12..end];
        let known = question.to_ascii_lowercase() == QUESTION;
        let fails = question.starts_with(b"\x03ill");
        let mut answer = query[..2].to_vec();
        answer.extend(match (known, fails) {
            (true, _) => [0x81, 0x80],
            (false, true) => [0x81, 0x82],
            (false, false) => [0x81, 0x83],
        });
        answer.extend([0, 1, 0, u8::from(known), 0, 0, 0, 0]);
        answer.extend(question);
        answer.extend(if known { RECORD } else { b"" });
        answer
    }

    fn names(dir: &Path, resolv_conf: &str, port: u16) -> Names {
        std::fs::write(dir.join("hosts"), "127.0.0.1 localhost # here\n::1 x\n10.9.8.7 other X\n")
            .unwrap();
        std::fs::write(dir.join("resolv.conf"), resolv_conf).unwrap();
        let (hosts, resolv_conf) = (dir.join("hosts"), dir.join("resolv.conf"));
        Names { hosts, resolv_conf, port, limit: Duration::from_millis(500) }
    }

    async fn addresses(names: &Names, name: &str) -> Result<Vec<String>, String> {
        let found = names.addresses(name).await.map_err(|error| error.to_string())?;
        Ok(found.iter().map(IpAddr::to_string).collect())
    }

    #[tokio::test]
    async fn hosts_are_honoured_first_and_need_no_name_server() {
        let dir = tempfile::tempdir().unwrap();
        let names = names(dir.path(), "", 53);
        assert_eq!(addresses(&names, "LOCALHOST").await, Ok(vec!["127.0.0.1".into()]));
        let both = vec!["10.9.8.7".to_owned(), "::1".to_owned()];
        assert_eq!(addresses(&names, "x").await, Ok(both));
    }

    #[tokio::test]
    async fn the_name_servers_of_resolv_conf_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let names = names(dir.path(), "nameserver 127.0.0.1\n", name_server().await);
        assert_eq!(addresses(&names, "boot.example").await, Ok(vec!["10.1.2.3".into()]));
        let unknown = "cannot resolve boot.exampel: 127.0.0.1 knows no address for it";
        assert_eq!(addresses(&names, "boot.exampel").await, Err(unknown.into()));
    }

    #[tokio::test]
    async fn a_name_server_that_fails_does_not_make_a_name_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let conf = "search example\nnameserver 127.0.0.1\n";
        let names = names(dir.path(), conf, name_server().await);
        let error = names.addresses("ill.example").await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(addresses(&names, "boot").await, Ok(vec!["10.1.2.3".into()]), "searched");
    }

    #[tokio::test]
    async fn nobody_else_is_asked_when_no_name_server_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "search example\n", "nameserver nonsense\n", "\u{0}\n"] {
            let names = names(dir.path(), text, 53);
            let conf = names.resolv_conf.display();
            let expected = format!("cannot resolve boot.example: no name server in {conf}");
            assert_eq!(addresses(&names, "boot.example").await, Err(expected), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_silent_name_server_is_named_within_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let names = names(dir.path(), "nameserver 127.0.0.1\noptions timeout:9\n", port);
        let expected = "cannot resolve boot.example: no answer from 127.0.0.1";
        assert_eq!(addresses(&names, "boot.example").await, Err(expected.into()));
    }
}
