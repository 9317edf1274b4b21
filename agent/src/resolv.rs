//! Tells the programs of this machine its name and its name servers.
//!
//! On return `etc/hosts` and `etc/resolv.conf` under the given root are complete: each is written
//! to a temporary name and renamed, so that a reader sees the old file or the new one. Names that
//! came from the network are refused if they could mean anything else in these files.
//!
//! <https://man7.org/linux/man-pages/man5/resolv.conf.5.html>

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// `__NEW_UTS_LEN`: the kernel keeps no longer name.
const LONGEST_NODE_NAME_BYTES: usize = 64;

/// RFC 1035, section 2.3.4.
const LONGEST_DOMAIN_NAME_BYTES: usize = 253;
const LONGEST_LABEL_BYTES: usize = 63;

/// Why the machine does not know its name or its name servers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file could not be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the name.
    #[error("cannot set the host name {name}")]
    HostName {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Whether `name` is a host or domain name and nothing else.
pub(crate) fn is_domain_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= LONGEST_DOMAIN_NAME_BYTES && name.split('.').all(is_label)
}

/// Sets the kernel's node name; of a name too long for it the first label only.
pub(crate) fn set_host_name(name: &str) -> Result<(), Error> {
    let first_label = name.split('.').next().unwrap_or(name);
    let node = if name.len() > LONGEST_NODE_NAME_BYTES { first_label } else { name };
    rustix::system::sethostname(node.as_bytes())
        .map_err(|errno| Error::HostName { name: node.to_owned(), source: errno.into() })
}

/// Writes `etc/hosts`: the loopback addresses, and the machine's own name if it has one.
pub(crate) fn write_hosts(
    root: &Path,
    name: Option<&str>,
    address: Option<IpAddr>,
) -> Result<(), Error> {
    let own = name.zip(address).map(|(name, address)| own_line(name, address)).unwrap_or_default();
    let text = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{own}");
    write_whole(&root.join("etc/hosts"), &text)
}

/// Writes `etc/resolv.conf`: the name servers, and the domain of names without a dot.
pub(crate) fn write_resolv_conf(
    root: &Path,
    servers: &[IpAddr],
    domain: Option<&str>,
) -> Result<(), Error> {
    let mut text = domain.map(|domain| format!("search {domain}\n")).unwrap_or_default();
    for server in servers {
        // Writing to a string cannot fail.
        writeln!(text, "nameserver {server}").unwrap_or_default();
    }
    write_whole(&root.join("etc/resolv.conf"), &text)
}

fn own_line(name: &str, address: IpAddr) -> String {
    match name.split_once('.') {
        Some((short, _)) => format!("{address} {name} {short}\n"),
        None => format!("{address} {name}\n"),
    }
}

fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let draft = path.with_extension("new");
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&draft, text))
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(root: &Path, name: &str) -> String {
        std::fs::read_to_string(root.join("etc").join(name)).unwrap()
    }

    #[test]
    fn the_hosts_file_knows_the_machine_by_its_long_and_its_short_name() {
        let address = Some("192.168.0.2".parse().unwrap());
        let loopback = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
        for (name, address, own) in [
            (
                Some("mlab1.lga0t.example.org"),
                address,
                "192.168.0.2 mlab1.lga0t.example.org mlab1\n",
            ),
            (Some("default-net"), address, "192.168.0.2 default-net\n"),
            (Some("default-net"), None, ""),
            (None, address, ""),
        ] {
            let root = tempfile::tempdir().unwrap();
            write_hosts(root.path(), name, address).unwrap();
            assert_eq!(read(root.path(), "hosts"), format!("{loopback}{own}"));
        }
    }

    #[test]
    fn name_servers_are_listed_in_order_and_replace_those_of_an_earlier_run() {
        let root = tempfile::tempdir().unwrap();
        let servers: Vec<IpAddr> =
            ["1.1.1.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into();
        write_resolv_conf(root.path(), &["9.9.9.9".parse().unwrap()], None).unwrap();
        write_resolv_conf(root.path(), &servers, Some("example.org")).unwrap();
        assert_eq!(
            read(root.path(), "resolv.conf"),
            "search example.org\nnameserver 1.1.1.1\nnameserver 2001:db8::1\n"
        );
        let files: Vec<_> = std::fs::read_dir(root.path().join("etc")).unwrap().collect();
        assert_eq!(files.len(), 1, "no draft stays behind: {files:?}");
    }

    #[test]
    fn a_name_from_the_network_is_a_name_and_nothing_else() {
        for (name, expected) in [
            ("mlab1.lga0t.example.org", true),
            ("default-net", true),
            ("a_b", true),
            ("", false),
            ("a..b", false),
            (".a", false),
            ("a.", false),
            ("-a", false),
            ("a b", false),
            ("a\nnameserver 6.6.6.6", false),
            ("$(reboot)", false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
            (&["a"; 127].join("."), true),
            (&["a"; 128].join("."), false),
        ] {
            assert_eq!(is_domain_name(name), expected, "{name:?}");
        }
    }
}
