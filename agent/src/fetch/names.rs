//! Names to addresses: `/etc/hosts`, then the name servers of `/etc/resolv.conf`.
//!
//! Both files are read anew for each connection, since a DHCP renewal may have written them; that
//! also keeps a failure of a minute ago from being remembered. Addresses in URLs never come here.
//! IPv4 is preferred: the boot server knows machines by their IPv4 address. Only name servers that
//! somebody configured are asked.

mod servers;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::net::NetError;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use self::servers::{Servers, is_absence};

/// All tries together, below the 30 s in which a connection must stand: so the console says that
/// names are the problem.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

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
        let servers = self.servers(name)?;
        log::debug!("asking {} for the address of {name}", servers.shown);
        match tokio::time::timeout(self.limit, servers.addresses(name)).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(failure(name, servers.shown, &error)),
            Err(_) => Err(Error::NoAnswer { name: name.to_owned(), servers: servers.shown }),
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

    fn servers(&self, name: &str) -> Result<Servers, Error> {
        let resolv_conf = std::fs::read(&self.resolv_conf).unwrap_or_default();
        Servers::listed(&resolv_conf, self.port).ok_or_else(|| Error::NoServers {
            name: name.to_owned(),
            resolv_conf: self.resolv_conf.display().to_string(),
        })
    }
}

fn failure(name: &str, servers: String, error: &NetError) -> Error {
    let name = name.to_owned();
    match error {
        absence if is_absence(absence) => Error::Unknown { name, servers },
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

    /// A name server that knows `boot.example`, and nothing else; it fails where a label is `ill`, and
    /// is silent where one is `mum`.
    async fn name_server() -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut query).await.unwrap();
                if query[..length].windows(4).any(|label| label == b"\x03mum") {
                    continue;
                }
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
        let fails = question.windows(4).any(|label| label == b"\x03ill");
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
    }

    #[tokio::test]
    async fn a_name_without_a_dot_is_searched_and_a_failing_domain_does_not_make_it_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let port = name_server().await;
        let within = |domains: &str| {
            names(dir.path(), &format!("search {domains}\nnameserver 127.0.0.1\n"), port)
        };
        let too_long = format!("{0}.{0}.{0}.{0} example", "long".repeat(15));
        let usable = ["example", "none example", "ill.none example", "a_b example", ". example"];
        for domains in usable.into_iter().chain([&*too_long]) {
            let found = addresses(&within(domains), "boot").await;
            assert_eq!(found, Ok(vec!["10.1.2.3".into()]), "{domains}");
        }
        let unknown = within("none").addresses("boot").await.unwrap_err();
        assert!(!unknown.is_transient(), "{unknown}");
        for domains in ["ill", "ill none", "none ill"] {
            let error = within(domains).addresses("boot").await.unwrap_err();
            assert!(error.is_transient(), "{domains}: {error}");
        }
    }

    #[tokio::test]
    async fn a_silent_domain_leaves_time_for_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let conf = "search mum example\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
        let names = names(dir.path(), conf, name_server().await);
        let names = Names { limit: Duration::from_secs(3), ..names };
        assert_eq!(addresses(&names, "boot").await, Ok(vec!["10.1.2.3".into()]));
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
