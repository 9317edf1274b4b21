//! One boot of one ramdisk, from its kernel's first line to stage3's, with all that lies between.

use std::time::Duration;

use anyhow::Context as _;

use super::payload::{GREETING, Payload};
use super::ramdisk::{Contender, Ramdisks};
use crate::machine::{Card, Machine};
use crate::server::BootServer;
use crate::vm::Vm;

/// Memory that is enough for everybody.
pub const PLENTY_MIB: u32 = 1024;

/// From power on to stage3; emulation on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(120);

/// When what happened, in seconds since the machine was switched on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Milestones {
    /// The kernel's first line.
    pub kernel: f64,
    /// The kernel starts `/init`.
    pub init: f64,
    /// The card's driver says that the link is up; not every driver does.
    pub carrier: Option<f64>,
    /// The server has read the first request.
    pub first_request: f64,
    /// All files are there and verified.
    pub verified: f64,
    /// The next kernel is loaded.
    pub loaded: f64,
    /// The next kernel's first line.
    pub next_kernel: f64,
    /// Stage3's own first line.
    pub stage3: f64,
}

/// A name, and how many seconds of a boot it stands for.
pub type Interval = (&'static str, fn(&Milestones) -> f64);

/// What users wait for.
pub const WHOLE: &[Interval] = &[
    ("kernel entry to first request", |at| at.first_request - at.kernel),
    ("kernel entry to stage3's first line", |at| at.stage3 - at.kernel),
];

/// What that is made of.
pub const PHASES: &[Interval] = &[
    ("kernel entry to /init", |at| at.init - at.kernel),
    ("/init to first request", |at| at.first_request - at.init),
    ("first request to last byte verified", |at| at.verified - at.first_request),
    ("last byte verified to kernel loaded", |at| at.loaded - at.verified),
    ("kernel loaded to stage3's kernel", |at| at.next_kernel - at.loaded),
    ("stage3's kernel to stage3's first line", |at| at.stage3 - at.next_kernel),
];

impl Milestones {
    /// Boots a contender once.
    pub fn of(
        contender: Contender,
        ramdisks: &Ramdisks,
        payload: &Payload,
        card: &str,
    ) -> anyhow::Result<Self> {
        let server = payload.serve()?;
        let machine = machine(contender, ramdisks, &server, card, PLENTY_MIB);
        let mut vm = Vm::start(&machine)?.asking(&server);
        vm.expect_within(LIMIT, GREETING).with_context(|| format!("{contender} does not boot"))?;
        let mut console = vm.console.from_start();
        let mut at = |text: &str| -> anyhow::Result<f64> {
            Ok(console.expect_within(Duration::ZERO, text)?.at.as_secs_f64())
        };
        let (kernel, init) = (at("Linux version")?, at("Run /init")?);
        let signs = signs(contender);
        let mut verified = init;
        for text in signs.verified {
            verified = at(text)?;
        }
        Ok(Self {
            kernel,
            init,
            carrier: carrier(&vm),
            first_request: first_request(&vm, &server)?,
            verified,
            loaded: at(signs.loaded)?,
            next_kernel: at("Linux version")?,
            stage3: at(GREETING)?,
        })
    }
}

/// A machine with this contender's ramdisk, which asks `server`.
#[must_use]
pub fn machine(
    contender: Contender,
    ramdisks: &Ramdisks,
    server: &BootServer,
    card: &str,
    memory_mib: u32,
) -> Machine {
    let kexec_option = match contender {
        Contender::Unchecked => "kexec_option=--no-checks ",
        Contender::Ours | Contender::Baseline | Contender::Floor => "",
    };
    // The kernel hands words without a dot to a script as variables; others it takes for a module's.
    let cmdline = format!(
        "console=ttyS0 net.ifnames=0 {kexec_option}server={} \
         epoxy.ip=192.168.0.2::192.168.0.1:255.255.255.0:bench:eth0:off:: epoxy.stage2={}",
        server.http_url("").trim_end_matches('/'),
        server.http_url("/document"),
    );
    Machine::new(memory_mib)
        .with_kernel(&ramdisks.kernel, Some(&ramdisks.of(contender).path), &cmdline)
        .with_card(Card::new(card))
}

/// What a contender says on its console.
struct Signs {
    verified: &'static [&'static str],
    loaded: &'static str,
}

fn signs(contender: Contender) -> Signs {
    match contender {
        Contender::Ours => {
            // One line per file, each at its last byte.
            Signs { verified: &["sha256 verified", "sha256 verified"], loaded: "loaded Linux" }
        }
        Contender::Baseline | Contender::Unchecked | Contender::Floor => {
            Signs { verified: &["bench: verified"], loaded: "bench: loaded" }
        }
    }
}

fn carrier(vm: &Vm) -> Option<f64> {
    let found = vm.console.from_start().expect_within(Duration::ZERO, "NIC Link is Up").ok()?;
    Some(found.at.as_secs_f64())
}

fn first_request(vm: &Vm, server: &BootServer) -> anyhow::Result<f64> {
    let requests = server.log().requests();
    let first = requests.first().context("the server was not asked for anything")?;
    let moment = server.log().started() + first.at;
    Ok(moment.saturating_duration_since(vm.started()).as_secs_f64())
}
