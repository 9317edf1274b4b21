//! What an operator wants to know at first sight, gathered from what the boot role publishes, what
//! operators wished, and the kernel.
//!
//! Everything that cannot be found out is left out: a status must be there when nothing else works.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use agent_types::cmdline;
use agent_types::params::BootParams;
use agent_types::redact::redact_map;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use serde::Serialize;

use crate::build_info::{BUILD_INFO, BuildInfo};
use crate::keyring;
use crate::pid1::Pid1;
use crate::state::{self, State};
use crate::wishes::{Replacements, WISHES, Wishes};

const CMDLINE: &str = "/proc/cmdline";

/// The machine at one moment, as `stage2 status --json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Status {
    /// The image's version.
    pub(crate) stage2: String,
    /// The machine's name.
    pub(crate) hostname: String,
    /// Seconds since the kernel started.
    pub(crate) uptime_s: u64,
    /// Whether the boot role's process is there.
    pub(crate) boot_role: BootRole,
    /// Whether an operator wishes that nothing is started or entered.
    pub(crate) held: bool,
    /// Whether anybody could log in.
    pub(crate) login: Login,
    /// Kernel parameters that an operator has set, without secrets.
    pub(crate) set: BTreeMap<String, String>,
    /// All addresses but those of the loopback.
    pub(crate) addresses: Vec<Address>,
    /// What the boot role has published.
    #[serde(flatten)]
    pub(crate) state: State,
}

/// Whether the boot role's process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BootRole {
    /// It is.
    Running,
    /// It has ended, or it never began.
    Ended,
}

/// Whether anybody could log in over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Login {
    /// There are keys; or this is not our machine, and none of our business.
    Possible,
    /// Keys are named, and none has come yet.
    AwaitsKeys,
    /// There are no keys, and none are named.
    Impossible,
}

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Address {
    /// The interface's name.
    pub(crate) interface: String,
    /// The address with the length of its prefix.
    pub(crate) address: String,
}

impl Status {
    /// Looks at the machine.
    pub(crate) fn now() -> Self {
        let state = State::read(Path::new(state::DIRECTORY)).unwrap_or_default();
        let wishes = Wishes::at(Path::new(WISHES));
        Self {
            stage2: version(),
            hostname: read_line("/proc/sys/kernel/hostname"),
            uptime_s: state::now_s(),
            boot_role: BootRole::of(Path::new("/proc"), state.pid),
            held: wishes.is_held(),
            login: Login::here(&wishes.kargs()),
            set: redact_map(&wishes.kargs()),
            addresses: addresses(),
            state,
        }
    }
}

impl Login {
    fn here(set: &Replacements) -> Self {
        if Pid1::find() != Pid1::Ours {
            return Self::Possible;
        }
        let given = fs::read(CMDLINE).unwrap_or_default();
        Self::of(Path::new("/"), &cmdline::replace(&String::from_utf8_lossy(&given), set))
    }

    fn of(root: &Path, cmdline: &str) -> Self {
        if keyring::has_keys(root) {
            return Self::Possible;
        }
        match BootParams::parse(cmdline).ssh_keys {
            Some(_) => Self::AwaitsKeys,
            None => Self::Impossible,
        }
    }
}

impl BootRole {
    fn of(proc: &Path, pid: u32) -> Self {
        match fs::read_to_string(proc.join(pid.to_string()).join("comm")) {
            Ok(name) if name.trim() == "boot" => Self::Running,
            _ => Self::Ended,
        }
    }
}

/// The image's version; on other hosts the program's own.
fn version() -> String {
    let build = BuildInfo::read(Path::new(BUILD_INFO));
    build.map_or_else(|_| env!("CARGO_PKG_VERSION").to_owned(), |build| build.version)
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// IPv4 first. Addresses that only neighbours can reach count if there are no others.
fn addresses() -> Vec<Address> {
    let mut found: Vec<_> =
        getifaddrs().into_iter().flatten().filter_map(|entry| address(&entry)).collect();
    if found.iter().any(|(ip, _)| !is_link_local(*ip)) {
        found.retain(|(ip, _)| !is_link_local(*ip));
    }
    found.sort_by_key(|(ip, _)| ip.is_ipv6());
    found.into_iter().map(|(_, address)| address).collect()
}

fn address(entry: &InterfaceAddress) -> Option<(IpAddr, Address)> {
    if entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
        return None;
    }
    let address = ip(entry.address.as_ref()?)?;
    let prefix_len = match ip(entry.netmask.as_ref()?)? {
        IpAddr::V4(mask) => mask.to_bits().count_ones(),
        IpAddr::V6(mask) => mask.to_bits().count_ones(),
    };
    let interface = entry.interface_name.clone();
    Some((address, Address { interface, address: format!("{address}/{prefix_len}") }))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_role_runs_if_the_process_has_its_name() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, name, expected) in
            [(7, "boot\n", BootRole::Running), (8, "sh\n", BootRole::Ended)]
        {
            fs::create_dir(proc.path().join(pid.to_string())).unwrap();
            fs::write(proc.path().join(format!("{pid}/comm")), name).unwrap();
            assert_eq!(BootRole::of(proc.path(), pid), expected, "{name}");
        }
        assert_eq!(BootRole::of(proc.path(), 9), BootRole::Ended);
    }

    #[test]
    fn somebody_can_log_in_with_a_key_that_is_there() {
        let root = tempfile::tempdir().unwrap();
        for (cmdline, expected) in [
            ("epoxy.ssh_keys=https://x/y", Login::AwaitsKeys),
            ("epoxy.ssh_keys=", Login::Impossible),
            ("quiet", Login::Impossible),
        ] {
            assert_eq!(Login::of(root.path(), cmdline), expected, "{cmdline}");
        }
        keyring::replace(&root.path().join(keyring::OF_THE_DOCUMENT), b"key").unwrap();
        assert_eq!(Login::of(root.path(), "quiet"), Login::Possible);
    }

    #[test]
    fn a_script_finds_what_it_looks_for_in_the_json() {
        let status = Status {
            stage2: "1.2".to_owned(),
            hostname: "host".to_owned(),
            uptime_s: 5,
            boot_role: BootRole::Running,
            held: true,
            login: Login::AwaitsKeys,
            set: BTreeMap::new(),
            addresses: vec![Address { interface: "eth0".into(), address: "10.0.0.2/8".into() }],
            state: State { version: 1, phase: "fetch".to_owned(), ..State::default() },
        };
        let expected = serde_json::json!({
            "stage2": "1.2", "hostname": "host", "uptime_s": 5, "boot_role": "running",
            "held": true, "login": "awaits_keys", "set": {}, "addresses": [{"interface": "eth0", "address": "10.0.0.2/8"}],
            "version": 1, "pid": 0, "phase": "fetch", "phase_since_s": 0, "attempt": 0,
            "last_error": null, "next_try_s": null, "interface": null
        });
        assert_eq!(serde_json::to_value(status).unwrap(), expected);
    }
}
