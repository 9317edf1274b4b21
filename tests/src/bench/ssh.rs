//! How soon an operator could log in, and what the ssh server takes of the memory until then.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mkinitramfs::cpio;
use mkinitramfs::image::Image;
use mkinitramfs::spec::ImageSpec;
use mkinitramfs::tree::Tree;

use super::boot::PLENTY_MIB;
use super::debian::Programs;
use super::ramdisk::{Contender, DATE, baseline};
use crate::command;
use crate::lab::{self, Dhcp};
use crate::machine::{Card, MAC, Machine};
use crate::operator::{Access, Operator};
use crate::vm::Vm;

const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);

/// From power on to the server's first byte; emulation on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(120);

/// An attempt to connect that is not answered so soon was made too early.
const ATTEMPT: Duration = Duration::from_millis(20);

/// A boot document that nobody serves: both sides ask for it again and again.
const CMDLINE: &str = "console=ttyS0 net.ifnames=0 server=http://192.168.0.1:9 \
                       epoxy.ip=192.168.0.2::192.168.0.1:255.255.255.0:bench:eth0:off:: \
                       epoxy.stage2=https://192.168.0.1:9/document";

/// Lists what each process of a server has in memory, the oldest first: dropbear's, and ours.
const RESIDENT: &str = "awk '/^Name:/ { name = $2 } /^Pid:/ { pid = $2 } \
                        /^VmRSS:/ && name ~ /^(dropbear|rescue|ssh)$/ { print pid, $2 }' \
                        /proc/[0-9]*/status | sort -n";

/// What an operator meets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    /// From the kernel's first line to the server's first byte, in seconds.
    pub banner: f64,
    /// What the listening process has in memory, in KiB.
    pub listening_kib: u32,
    /// The same with the processes of one session.
    pub session_kib: u32,
}

/// Two ramdisks that let the same operator in.
pub struct Servers {
    operator: Operator,
    kernel: PathBuf,
    directory: tempfile::TempDir,
}

impl Servers {
    /// Packs them for this kernel.
    pub fn pack(agent: &Path, programs: &Programs, kernel: &Path) -> anyhow::Result<Self> {
        let (operator, directory) = (Operator::new()?, tempfile::tempdir()?);
        let servers = Self { operator, kernel: kernel.to_owned(), directory };
        let authorized_keys = vec![servers.operator.public_key()];
        let key = std::fs::read_to_string(servers.operator.public_key())?;
        let spec = ImageSpec { authorized_keys, ..ImageSpec::default() };
        servers.write(Contender::Ours, &Image::collect(&spec, agent, DATE)?.tree)?;
        servers.write(Contender::Baseline, &baseline(programs, &key)?)?;
        Ok(servers)
    }

    fn write(&self, contender: Contender, tree: &Tree) -> anyhow::Result<()> {
        std::fs::write(self.ramdisk(contender), cpio::archive(tree, DATE)?)?;
        Ok(())
    }

    fn ramdisk(&self, contender: Contender) -> PathBuf {
        self.directory.path().join(contender.name())
    }

    /// Boots one of them in a network of its own. Only root can make one for another program.
    pub fn measure(&self, contender: Contender) -> anyhow::Result<Server> {
        let mut measured = None;
        lab::run("", Dhcp::Off, |lab| {
            // Without it, the host would ask for the machine's address once a second only.
            let neighbour = format!("neighbour add {GUEST} lladdr {MAC} dev br0");
            command::output(Command::new("ip").args(neighbour.split(' ')))?;
            let machine = Machine::new(PLENTY_MIB)
                .with_kernel(&self.kernel, Some(&self.ramdisk(contender)), CMDLINE)
                .with_card(Card::new("virtio-net-pci").on(lab.wire()));
            measured = Some(self.meet(&Vm::start(&machine)?)?);
            Ok(())
        })?;
        measured.context("nothing was measured")
    }

    fn meet(&self, vm: &Vm) -> anyhow::Result<Server> {
        let banner = banner(vm)?.saturating_duration_since(vm.started());
        let kernel = vm.console.from_start().expect_within(Duration::ZERO, "Linux version")?.at;
        let access = self.operator.trust((GUEST, 22).into())?;
        let (listening_kib, session_kib) = resident(&access)?;
        let banner = banner.saturating_sub(kernel).as_secs_f64();
        Ok(Server { banner, listening_kib, session_kib })
    }
}

/// Connects again and again, one connection at a time, until the server says who it is.
fn banner(vm: &Vm) -> anyhow::Result<Instant> {
    let deadline = vm.started() + LIMIT;
    while Instant::now() < deadline {
        let begun = Instant::now();
        if let Ok(mut stream) = TcpStream::connect_timeout(&(GUEST, 22).into(), ATTEMPT) {
            stream.set_read_timeout(Some(LIMIT))?;
            stream.read_exact(&mut [0])?;
            return Ok(Instant::now());
        }
        std::thread::park_timeout(ATTEMPT.saturating_sub(begun.elapsed()));
    }
    bail!("no ssh server within {LIMIT:?}\n{}", vm.evidence())
}

fn resident(access: &Access) -> anyhow::Result<(u32, u32)> {
    let table = access.ask(RESIDENT)?;
    let kib: Option<Vec<u32>> =
        table.lines().map(|line| line.split_once(' ')?.1.parse().ok()).collect();
    let kib = kib.filter(|kib| kib.len() > 1);
    let kib = kib.with_context(|| format!("expected two processes or more, got {table:?}"))?;
    Ok((kib.first().copied().unwrap_or_default(), kib.iter().sum()))
}
