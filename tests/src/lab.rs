//! A network of our own, with a real DHCP and DNS server: a network namespace with a bridge, a tap
//! for a machine, and dnsmasq. Nothing in it can reach, or be reached from, the host's networks.
//!
//! It needs root; an ordinary user's test is run again as root of a user namespace of its own.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::certificate::{Authority, Presented};
use crate::command;
use crate::console::Console;
use crate::machine::{MAC, Wire};
use crate::server::{BootServer, ServerSetup};

/// The lab's own address: gateway, DHCP, DNS and boot server.
pub const HOST: &str = "192.168.0.1";

/// The name that the lab's DNS has for it.
pub const HOST_NAME: &str = "boot.lab.test";

/// The lab's own address in IPv6, for the same.
pub const HOST_IPV6: &str = "fd00::1";

/// The name that the lab's DNS has for that, and for no IPv4 address.
pub const HOST_IPV6_NAME: &str = "boot6.lab.test";

/// The address that DHCP gives to the machine, which no static default says by chance.
pub const GUEST: &str = "192.168.0.77";

/// The name that DHCP gives to the machine.
pub const GUEST_NAME: &str = "mlab1";

const TAP: &str = "tap0";

/// What answers DHCP in a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcp {
    /// dnsmasq.
    On,
    /// Nobody: only DNS.
    Off,
}

/// A lab network; it goes when dropped.
pub struct Lab {
    dnsmasq: Child,
    /// What dnsmasq says, each DHCP message too.
    pub journal: Console,
    /// dnsmasq's leases.
    directory: tempfile::TempDir,
    // Declared last: the test's thread leaves the namespace when all else is gone.
    namespace: Namespace,
}

/// Runs a test in a lab; `test` is the name that the test has in its program. An ordinary user's test is run by a copy of
/// this program in a user namespace.
pub fn run(
    test: &str,
    dhcp: Dhcp,
    body: impl FnOnce(&mut Lab) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if Uid::effective().is_root() {
        return body(&mut Lab::new(dhcp)?);
    }
    let myself = std::env::current_exe()?;
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--"])
        .arg(myself)
        .args([test, "--exact", "--nocapture"])
        .status()
        .context("cannot run unshare")?;
    if !status.success() {
        bail!(
            "{test} in a user namespace: {status}; if unshare is not permitted here \
             (kernel.unprivileged_userns_clone, AppArmor), or /dev/net/tun may not be opened, \
             run the tests as root"
        );
    }
    Ok(())
}

impl Lab {
    /// Takes the calling thread into a new network and starts dnsmasq there.
    fn new(dhcp: Dhcp) -> anyhow::Result<Self> {
        let namespace = Namespace::enter_new()?;
        for line in [
            "link set lo up",
            "link add br0 type bridge",
            "link set br0 up",
            "address add 192.168.0.1/24 dev br0",
            "address add fd00::1/64 dev br0 nodad",
            "tuntap add tap0 mode tap",
            "link set tap0 master br0 up",
        ] {
            command::output(Command::new("ip").env("PATH", SEARCH_PATH).args(line.split(' ')))?;
        }
        let directory = tempfile::tempdir()?;
        let mut dnsmasq = start_dnsmasq(directory.path(), dhcp)?;
        let journal = dnsmasq.stderr.take().context("dnsmasq has no standard error")?;
        let mut journal = Console::read(journal, std::time::Instant::now())?;
        journal.expect("started, version")?;
        Ok(Self { dnsmasq, journal, directory, namespace })
    }

    /// A boot server in this network, at [`HOST`] and [`HOST_NAME`].
    pub fn server(&self, authority: &Authority, presents: Presented) -> anyhow::Result<BootServer> {
        self.server_at(HOST, HOST_NAME, authority, presents)
    }

    /// A boot server at another address of this network, which machines know by this name.
    pub fn server_at(
        &self,
        listen: &str,
        known_as: &str,
        authority: &Authority,
        presents: Presented,
    ) -> anyhow::Result<BootServer> {
        let (listen, known_as) = (listen.parse::<IpAddr>()?, known_as.to_owned());
        BootServer::start(&ServerSetup { listen, known_as, authority, presents })
    }

    /// Where a machine's card is plugged in.
    #[must_use]
    pub fn wire(&self) -> Wire {
        Wire::Tap(TAP.to_owned())
    }

    /// Lets DHCP tell machines to boot from this URL.
    pub fn offer_bootfile(&mut self, url: &str) -> anyhow::Result<()> {
        std::fs::write(
            self.directory.path().join(BOOTFILE),
            format!("option:bootfile-name,{url}\n"),
        )?;
        // On this signal dnsmasq reads its files again.
        let dnsmasq = Pid::from_raw(self.dnsmasq.id().try_into()?);
        kill(dnsmasq, Signal::SIGHUP).context("cannot tell dnsmasq to read its files")?;
        self.journal.expect(BOOTFILE)?;
        Ok(())
    }

    /// The leases that dnsmasq has given.
    pub fn leases(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.directory.path().join("leases"))?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.dnsmasq.kill().and_then(|()| self.dnsmasq.wait()) {
            eprintln!("vmtest: cannot end dnsmasq: {error}");
        }
        self.namespace.leave();
    }
}

/// Where Debian keeps programs of this kind, which ordinary users do not search.
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// dnsmasq reads options from here when it is told to.
const BOOTFILE: &str = "bootfile";

fn start_dnsmasq(directory: &Path, dhcp: Dhcp) -> anyhow::Result<Child> {
    let mut dnsmasq = Command::new("setpriv");
    dnsmasq
        .env("PATH", SEARCH_PATH)
        .args(["--pdeathsig", "KILL", "--", "dnsmasq"])
        // As its own debugging mode it changes no group, which a user namespace does not permit.
        .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args(["--interface=br0", "--bind-interfaces", "--log-queries"])
        .arg(format!("--address=/{HOST_NAME}/{HOST}"))
        .arg(format!("--host-record={HOST_IPV6_NAME},{HOST_IPV6}"))
        .arg(format!("--dhcp-leasefile={}", directory.join("leases").display()));
    if dhcp == Dhcp::On {
        dnsmasq
            .args(["--log-dhcp", "--dhcp-authoritative", "--no-ping"])
            // Two minutes is the shortest lease that dnsmasq gives; half of it is until a renewal.
            .arg(format!("--dhcp-range={GUEST},{GUEST},255.255.255.0,2m"))
            .arg(format!("--dhcp-host={MAC},{GUEST},{GUEST_NAME},2m"))
            .arg("--domain=lab.test")
            .arg(format!("--dhcp-optsfile={}", directory.join(BOOTFILE).display()));
    }
    dnsmasq
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run dnsmasq by setpriv")
}

/// The thread that made this is in a network namespace of its own until it is left.
struct Namespace {
    before: File,
}

impl Namespace {
    fn enter_new() -> anyhow::Result<Self> {
        let before = File::open("/proc/thread-self/ns/net")?;
        unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
        Ok(Self { before })
    }

    fn leave(&self) {
        match setns(self.before.as_fd(), CloneFlags::CLONE_NEWNET) {
            // From a user namespace there is no way back, and nothing runs after its one test.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(error) => eprintln!("vmtest: cannot leave a network namespace: {error}"),
        }
    }
}
