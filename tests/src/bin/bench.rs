//! Measures the image and the agent against what people use in their place; see [`vmtest::bench`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nix::unistd::Uid;
use vmtest::bench::boot::{Interval, Milestones, PHASES, WHOLE};
use vmtest::bench::debian::Programs;
use vmtest::bench::download::{Download, Fetched};
use vmtest::bench::figure::{self, Figure, Table};
use vmtest::bench::flash::{self, Flash, Job};
use vmtest::bench::memory::smallest_mib;
use vmtest::bench::payload::Payload;
use vmtest::bench::ramdisk::{Contender, Ramdisks};
use vmtest::bench::repack::Repack;
use vmtest::bench::resident::Resident;
use vmtest::bench::rotation::rotation;
use vmtest::bench::sftp::{self, Sftp, TRANSFERS, Transfer};
use vmtest::bench::ssh::{Server, Servers};

/// Measure the image and the agent against ramdisks and programs made of Debian's packages.
#[derive(Parser)]
#[command(after_help = "\
Machines run in QEMU, without KVM unless STAGE2_TEST_ACCEL=kvm says so: compare ratios, not seconds.
Nothing else should run meanwhile. The kernel and the peers' packages are kept in $STAGE2_CACHE
(~/.cache/stage2).

Examples:
  bench --agent output/agent --flasher output/flasher --simulating-flasher target/release/flasher
  bench … --only boot --only memory --runs 1")]
struct Options {
    /// The agent to be measured: a static program
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The flasher to be measured, as it is packed into an image
    #[arg(long, value_name = "FILE")]
    flasher: PathBuf,
    /// The same, built with flashrom's simulated chip
    #[arg(long, value_name = "FILE")]
    simulating_flasher: PathBuf,
    /// Where bench.json goes
    #[arg(long, value_name = "DIR", default_value = "output")]
    output: PathBuf,
    /// Measure only this; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<Measurement>,
    /// How often each time is taken
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Boots with a virtio card: first request, hand-over, phases
    Boot,
    /// Boots with an e1000e card, whose link takes seconds: first request
    E1000e,
    /// The smallest memory that boots the payload
    Memory,
    /// The image's and the ramdisks' bytes
    Size,
    /// Memory of PID 1 and of the boot role
    Resident,
    /// The ssh server: first byte, memory; only as root
    Ssh,
    /// On the host: files in and out by SFTP, more is better; only as root
    Sftp,
    /// On the host: fetch and verify 1 GiB over HTTPS
    Download,
    /// Pack the image again with another authorized key
    Repack,
    /// On the host: write a ROM to a simulated chip
    Flash,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match bench(&options) {
        Ok(figures) => {
            println!("\n{}", Table(&figures));
            println!("bench: {}", options.output.join(FILE).display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const FILE: &str = "bench.json";

fn bench(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let chosen = |measurement| options.only.is_empty() || options.only.contains(&measurement);
    let bench = Bench::prepare(options)?;
    let mut figures = Vec::new();
    for measurement in Measurement::value_variants().iter().filter(|it| chosen(**it)) {
        say(&format!("bench: {measurement:?}"));
        figures.extend(bench.measure(*measurement)?);
        figure::write(&options.output.join(FILE), &figures)?;
    }
    Ok(figures)
}

fn say(line: &str) {
    println!("{line}");
}

/// Everything that is measured, ready to run.
struct Bench {
    agent: PathBuf,
    flasher: PathBuf,
    simulating_flasher: PathBuf,
    runs: usize,
    programs: Programs,
    ramdisks: Ramdisks,
    payload: Payload,
    /// Where ramdisks and payload are.
    _directory: tempfile::TempDir,
}

impl Bench {
    fn prepare(options: &Options) -> anyhow::Result<Self> {
        let Options { agent, flasher, simulating_flasher, runs, .. } = options;
        let programs = Programs::prepare(&say)?;
        let directory = tempfile::tempdir()?;
        say("bench: packing the ramdisks");
        let ramdisks = Ramdisks::pack(agent, &programs, directory.path())?;
        let payload = Payload::write(&ramdisks.kernel, &programs, directory.path())?;
        Ok(Self {
            agent: agent.clone(),
            flasher: flasher.clone(),
            simulating_flasher: simulating_flasher.clone(),
            runs: (*runs).into(),
            programs,
            ramdisks,
            payload,
            _directory: directory,
        })
    }

    fn measure(&self, measurement: Measurement) -> anyhow::Result<Vec<Figure>> {
        Ok(match measurement {
            Measurement::Boot => {
                boot_figures(&self.boots("virtio-net-pci", &Contender::BOOT_PEERS)?)
            }
            Measurement::E1000e => e1000e_figures(&self.boots("e1000e", &Contender::PEERS)?),
            Measurement::Memory => self.memory()?,
            Measurement::Size => self.sizes()?,
            Measurement::Resident => self.resident()?,
            Measurement::Ssh => self.ssh()?,
            Measurement::Sftp => self.sftp()?,
            Measurement::Download => self.download()?,
            Measurement::Repack => self.repack()?,
            Measurement::Flash => self.flash()?,
        })
    }

    fn boots(&self, card: &str, peers: &'static [Contender]) -> anyhow::Result<Boots> {
        let mut boots = Boots { peers, taken: Vec::new() };
        let contenders = [&[Contender::Ours], peers].concat();
        for contender in rotation(&contenders, self.runs) {
            let at = Milestones::of(contender, &self.ramdisks, &self.payload, card)?;
            let (request, stage3) = (at.first_request - at.kernel, at.stage3 - at.kernel);
            say(&format!("  {contender}: first request {request:.2} s, stage3 {stage3:.2} s"));
            boots.taken.push((contender, at));
        }
        Ok(boots)
    }

    fn memory(&self) -> anyhow::Result<Vec<Figure>> {
        let smallest =
            |contender| smallest_mib(contender, &self.ramdisks, &self.payload, &say).map(f64::from);
        let ours = smallest(Contender::Ours)?;
        let mut figures = Vec::new();
        for peer in Contender::PEERS {
            let theirs = smallest(peer)?;
            figures.extend(Figure::against(
                "smallest memory",
                "MiB",
                &[ours],
                peer.name(),
                &[theirs],
            ));
        }
        Ok(figures)
    }

    fn sizes(&self) -> anyhow::Result<Vec<Figure>> {
        let ours = self.ramdisks.of(Contender::Ours);
        let peers = Contender::PEERS.into_iter().flat_map(|peer| {
            let theirs = self.ramdisks.of(peer);
            [
                ("initramfs, zstd -19", ours.compressed_bytes, theirs.compressed_bytes),
                ("initramfs, unpacked", ours.unpacked_bytes, theirs.unpacked_bytes),
            ]
            .map(|(name, ours, theirs)| {
                Figure::against(name, "bytes", &[ours as f64], peer.name(), &[theirs as f64])
            })
        });
        let flasher = flash::added_bytes(&self.agent, &self.flasher)?;
        let limits = [
            ("initramfs, zstd -19", ours.compressed_bytes, INITRAMFS_LIMIT),
            ("stage2_vmlinuz", self.ramdisks.vmlinuz_bytes, VMLINUZ_LIMIT),
            ("flasher in the initramfs", flasher, FLASHER_LIMIT),
        ];
        let limits = limits
            .map(|(name, bytes, limit)| Figure::within(name, "bytes", &[bytes as f64], limit));
        Ok(peers.chain(limits).flatten().collect())
    }

    fn resident(&self) -> anyhow::Result<Vec<Figure>> {
        let Resident { init_kib, boot_kib } = Resident::measure(&self.ramdisks, &self.payload)?;
        let figures = [
            Figure::within("PID 1 resident", "KiB", &[init_kib.into()], INIT_LIMIT),
            Figure::within("boot role, peak resident", "KiB", &[boot_kib.into()], BOOT_LIMIT),
        ];
        Ok(figures.into_iter().flatten().collect())
    }

    fn ssh(&self) -> anyhow::Result<Vec<Figure>> {
        if !Uid::effective().is_root() {
            say("  left out: only root can make the network for it");
            return Ok(vec![]);
        }
        let servers = Servers::pack(&self.agent, &self.programs, &self.ramdisks.kernel)?;
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for contender in rotation(&[Contender::Ours, Contender::Baseline], self.runs) {
            let server = servers.measure(contender)?;
            let Server { banner, listening_kib, session_kib } = server;
            say(&format!("  {contender}: {banner:.2} s, {listening_kib} KiB, {session_kib} KiB"));
            if contender == Contender::Ours { ours.push(server) } else { peer.push(server) }
        }
        Ok(ssh_figures(&ours, &peer))
    }

    fn sftp(&self) -> anyhow::Result<Vec<Figure>> {
        if !Uid::effective().is_root() {
            say("  left out: only root can start OpenSSH's server");
            return Ok(vec![]);
        }
        let sftp = Sftp::start(&self.agent, &self.programs)?;
        let figures: Vec<_> = TRANSFERS
            .into_iter()
            .map(|transfer| self.sftp_figure(&sftp, transfer))
            .collect::<Result<_, _>>()?;
        Ok(figures.into_iter().flatten().collect())
    }

    fn sftp_figure(&self, sftp: &Sftp, transfer: Transfer) -> anyhow::Result<Option<Figure>> {
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for side in rotation(&[sftp::Side::Ours, sftp::Side::OpenSsh], self.runs) {
            let speed = sftp.speed(side, transfer)?;
            say(&format!("  {side:?}: {}: {speed:.0} MB/s", transfer.name));
            if side == sftp::Side::Ours { ours.push(speed) } else { peer.push(speed) }
        }
        Ok(Figure::against(transfer.name, "MB/s", &ours, "sftp-server", &peer))
    }

    fn download(&self) -> anyhow::Result<Vec<Figure>> {
        let download = Download::prepare(&self.agent)?;
        let (mut ours, mut peaks, mut peer) = (Vec::new(), Vec::new(), Vec::new());
        for side in rotation(&Side::BOTH, self.runs) {
            match side {
                Side::Ours => {
                    let Fetched { seconds, peak_kib } = download.ours()?;
                    say(&format!("  epoxy_client: {seconds:.2} s, {peak_kib} KiB"));
                    ours.push(seconds);
                    peaks.push(f64::from(peak_kib));
                }
                Side::Peer => {
                    let seconds = download.peer()?;
                    say(&format!("  curl | sha256sum: {seconds:.2} s"));
                    peer.push(seconds);
                }
            }
        }
        let figures = [
            Figure::against("fetch and verify 1 GiB", "s", &ours, "curl | sha256sum", &peer),
            Figure::within("epoxy_client, peak resident", "KiB", &peaks, BOOT_LIMIT),
        ];
        Ok(figures.into_iter().flatten().collect())
    }

    fn repack(&self) -> anyhow::Result<Vec<Figure>> {
        let mut repack = Repack::prepare(&self.agent, &self.programs)?;
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for side in rotation(&Side::BOTH, self.runs) {
            match side {
                Side::Ours => ours.push(repack.ours()?),
                Side::Peer => peer.push(repack.peer()?),
            }
        }
        let name = "repack with another key";
        Ok(Figure::against(name, "s", &ours, "cpio | zstd -19", &peer).into_iter().collect())
    }
}

fn ssh_figures(ours: &[Server], peer: &[Server]) -> Vec<Figure> {
    type Pick = fn(&Server) -> f64;
    let all = |servers: &[Server], pick: Pick| -> Vec<f64> { servers.iter().map(pick).collect() };
    let rows: [(_, _, Pick); 3] = [
        ("ssh_banner: kernel entry to first byte", "s", |server| server.banner),
        ("rescue_resident: listening", "KiB", |server| server.listening_kib.into()),
        ("rescue_resident: with a session", "KiB", |server| server.session_kib.into()),
    ];
    let figures = rows.map(|(name, unit, pick)| {
        Figure::against(name, unit, &all(ours, pick), "dropbear", &all(peer, pick))
    });
    let sessions = all(ours, |server| server.session_kib.into());
    let limit = figure::median(&all(peer, |server| server.session_kib.into()));
    let limit = limit.map(|kib| kib + RESCUE_MORE_KIB);
    let within = limit
        .and_then(|kib| Figure::within("rescue_resident: with a session", "KiB", &sessions, kib));
    figures.into_iter().flatten().chain(within).collect()
}

impl Bench {
    fn flash(&self) -> anyhow::Result<Vec<Figure>> {
        let flash = Flash::prepare(&self.simulating_flasher)?;
        let mut taken: Vec<(Job, f64)> = Vec::new();
        for job in rotation(&Job::ALL, self.runs) {
            let seconds = flash.seconds(job)?;
            say(&format!("  {job:?}: {seconds:.2} s"));
            taken.push((job, seconds));
        }
        let of = |wanted: Job| -> Vec<f64> {
            taken.iter().filter(|(job, _)| *job == wanted).map(|(_, seconds)| *seconds).collect()
        };
        let figures = [
            ("flash 5 % of a chip", Job::OurWrite, "flashrom -w", Job::TheirWrite),
            ("flash what is there already", Job::OurIdentical, "flashrom -r", Job::TheirRead),
        ];
        let figures = figures.map(|(name, ours, peer, theirs)| {
            Figure::against(name, "s", &of(ours), peer, &of(theirs))
        });
        Ok(figures.into_iter().flatten().collect())
    }
}

/// What was promised, in seconds, bytes or KiB.
const CARRIER_LIMIT: f64 = 0.3;
const VMLINUZ_LIMIT: f64 = (8 << 20) as f64;
const INITRAMFS_LIMIT: f64 = (4 << 20) as f64;
const FLASHER_LIMIT: f64 = 1.5 * (1 << 20) as f64;
const INIT_LIMIT: f64 = 3.0 * 1024.0;
const BOOT_LIMIT: f64 = 12.0 * 1024.0;
/// What rescue may take more than dropbear.
const RESCUE_MORE_KIB: f64 = 3.0 * 1024.0;

#[derive(Clone, Copy)]
enum Side {
    Ours,
    Peer,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Ours, Self::Peer];
}

/// Boots of ours and of its peers.
struct Boots {
    peers: &'static [Contender],
    taken: Vec<(Contender, Milestones)>,
}

impl Boots {
    fn of(&self, contender: Contender) -> impl Iterator<Item = &Milestones> {
        self.taken.iter().filter(move |(who, _)| *who == contender).map(|(_, at)| at)
    }

    fn against_each(&self, (name, seconds): Interval) -> impl Iterator<Item = Figure> {
        self.peers.iter().filter_map(move |peer| {
            let [ours, theirs] = [Contender::Ours, *peer]
                .map(|contender| self.of(contender).map(seconds).collect::<Vec<f64>>());
            Figure::against(name, "s", &ours, peer.name(), &theirs)
        })
    }

    /// From the driver's word that the link is up to the first request.
    fn after_carrier(&self, contender: Contender) -> Vec<f64> {
        self.of(contender).filter_map(|at| Some(at.first_request - at.carrier?)).collect()
    }
}

fn boot_figures(boots: &Boots) -> Vec<Figure> {
    WHOLE.iter().chain(PHASES).flat_map(|interval| boots.against_each(*interval)).collect()
}

fn e1000e_figures(boots: &Boots) -> Vec<Figure> {
    let mut figures: Vec<Figure> = boots
        .against_each(("e1000e: kernel entry to first request", |at| at.first_request - at.kernel))
        .collect();
    let name = "e1000e: carrier to first request";
    let ours = boots.after_carrier(Contender::Ours);
    for peer in boots.peers {
        figures.extend(Figure::against(name, "s", &ours, peer.name(), &boots.after_carrier(*peer)));
    }
    figures.extend(Figure::within(name, "s", &ours, CARRIER_LIMIT));
    figures
}
