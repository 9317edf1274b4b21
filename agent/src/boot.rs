//! The role *boot*: network, clock, boot document, files, commands; again, until one attempt works.
//!
//! PID 1 starts it and starts it again if it dies. It announces every step with the time by which it
//! will speak again, and never reboots: its exit code says what PID 1 is to do. The usual end is
//! none of them: a command has loaded the next kernel, and PID 1 enters it.

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use agent_types::cmdline::{Cmdline, Kargs};
use agent_types::exit::BootExit;
use agent_types::params::{Action, BootParams};
use anyhow::Context as _;

use crate::artifact::{self, FILE_LIMIT, Machine};
use crate::attempt::{self, Attempt, Mode, Source};
use crate::build_info::{BUILD_INFO, BuildInfo};
use crate::chain::Chain;
use crate::clock::Monotonic;
use crate::fetch::{Https, Settings};
use crate::memory::MEMINFO;
use crate::network::{self, Limits, Network};
use crate::policy::{POLICY, Policy};
use crate::resolve::AddKargs;
use crate::retry::{Backoff, Transient, Tries};
use crate::sys::{Linux, System as _};
use crate::tls::{self, PACKED_ROOTS};
use crate::utc::Utc;
use crate::wallclock;
use crate::watch::Watch;

/// The original client gives up, and restarts the machine, after the same time.
const ATTEMPTS: Backoff = Backoff {
    first: Duration::from_secs(10),
    longest: Duration::from_secs(60),
    deadline: Duration::from_secs(6 * 60 * 60),
};
/// Waiting for the network says something every 10 s.
const NETWORK_LIMIT: Duration = Duration::from_secs(60);
/// What PID 1 waits longer than we do ourselves.
const MARGIN: Duration = Duration::from_secs(60);
/// An operator may come next week, or next year.
const FOR_AN_OPERATOR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Commands and files go here unless `TMPDIR` says otherwise.
const DOWNLOADS: &str = "/tmp";
const CMDLINE: &str = "/proc/cmdline";
const ROOT: &str = "/";

impl Transient for network::Error {
    /// Cables are plugged in, switches learn, servers come back.
    fn is_transient(&self) -> bool {
        true
    }
}

/// Runs the role; the exit code is for PID 1.
pub(crate) fn run(_arguments: &[String]) -> ExitCode {
    let watch = Watch::from_env();
    let end = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(boot(&watch)));
    match end {
        Ok(exit) => exit.into(),
        Err(error) => {
            log::error!("{}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn boot(watch: &Watch) -> anyhow::Result<BootExit> {
    let text = std::fs::read_to_string(CMDLINE).context("cannot read /proc/cmdline")?;
    let params = BootParams::from(&Cmdline::parse(&text));
    warn_of_contradictions(&Cmdline::parse(&text), &params);
    let version = set_clock_floor();
    let Some(network) = bring_network_up(&params, watch).await else {
        return Ok(BootExit::GaveUp);
    };
    let leased = network.lease.is_some();
    let hostname = network.hostname.as_deref().unwrap_or_default();
    let exit = tokio::select! {
        exit = follow_boot_document(&params, &text, &version, hostname, watch) => exit,
        Err(lost) = keep_lease(network.clone(), &params) => return Err(lost.into()),
    };
    if leased && exit != BootExit::GaveUp {
        watch.step("lease", FOR_AN_OPERATOR);
        log::info!("renewing the DHCP lease while an operator may need it");
        let Err(lost) = keep_lease(network, &params).await;
        return Err(lost.into());
    }
    Ok(exit)
}

fn warn_of_contradictions(cmdline: &Cmdline<'_>, params: &BootParams) {
    let contradictions = cmdline.contradictions();
    contradictions.iter().for_each(|contradiction| log::warn!("{contradiction}"));
    params.network.warnings.iter().for_each(|warning| log::warn!("{warning}"));
}

/// Returns the image's version. A wrong clock is not worth more than a warning: only TLS minds.
fn set_clock_floor() -> String {
    let build = match BuildInfo::read(Path::new(BUILD_INFO)) {
        Ok(build) => build,
        Err(error) => {
            log::warn!("{}", Chain(&error));
            return env!("CARGO_PKG_VERSION").to_owned();
        }
    };
    let set = |since_1970| Linux.set_clock(SystemTime::UNIX_EPOCH + since_1970);
    if let Err(error) = wallclock::ensure(Utc::now(), build.built(), set) {
        log::warn!("{}", Chain(&error));
    }
    build.version
}

/// Tries until there is a network, or until the time for attempts is over.
async fn bring_network_up(params: &BootParams, watch: &Watch) -> Option<Network> {
    let mut tries = Tries::new(&Monotonic, ATTEMPTS);
    let on_wait = |_: &str| watch.step("network", NETWORK_LIMIT);
    loop {
        watch.step("network", NETWORK_LIMIT);
        let config = &params.network.config;
        match network::bring_up(config, &Limits::default(), Path::new(ROOT), &on_wait).await {
            Ok(network) => return Some(network),
            Err(error) => {
                watch.step("pause", tries.next_pause() + MARGIN);
                if let Err(error) = tries.pause_after("network", error).await {
                    log::error!("network: {}: giving up", Chain(&error));
                    return None;
                }
            }
        }
    }
}

async fn keep_lease(network: Network, params: &BootParams) -> Result<Infallible, network::Error> {
    let renewed = |network: &Network| log::debug!("renewed: {network}");
    let config = &params.network.config;
    network::keep(network, config, &Limits::default(), Path::new(ROOT), &renewed).await
}

async fn follow_boot_document(
    params: &BootParams,
    cmdline: &str,
    version: &str,
    hostname: &str,
    watch: &Watch,
) -> BootExit {
    let Some(source) = source(params, hostname) else {
        log::warn!(
            "nothing to boot: neither epoxy.stage1 nor epoxy.stage2 is on the kernel command line; \
             waiting for an operator"
        );
        return BootExit::NothingToDo;
    };
    let roots = tls::roots_file(Path::new(PACKED_ROOTS), None);
    let fetch = Https::new(Settings::new(version, policy(), roots));
    let machine = Machine {
        dir: Path::new(DOWNLOADS),
        meminfo: Path::new(MEMINFO),
        processors: processors(),
        tries: artifact::TRIES,
        limit: FILE_LIMIT,
        alive: &|within| watch.step("fetch", within + MARGIN),
    };
    let attempt = Attempt {
        fetch: &fetch,
        clock: &Monotonic,
        machine: &machine,
        watch,
        source,
        report: params.report,
        mode: Mode::Run,
    };
    until_one_works(&attempt, &mut Kargs::parse(cmdline)).await
}

async fn until_one_works(attempt: &Attempt<'_, Https, Monotonic>, kargs: &mut Kargs) -> BootExit {
    let mut tries = Tries::new(&Monotonic, ATTEMPTS);
    while let Err(error) = attempt.run(kargs).await {
        attempt.watch.step("pause", tries.next_pause() + MARGIN);
        if let Err(error) = tries.pause_after("boot attempt", error).await {
            log::error!("boot attempt: {}: giving up", Chain(&error));
            return after_failure(&error);
        }
    }
    match attempt.source {
        Source::Server { .. } => BootExit::Done,
        Source::RomUpdate { .. } => BootExit::Restart,
    }
}

/// A restart would take the way back from a card that was not written as it should.
fn after_failure(error: &attempt::Error) -> BootExit {
    if error.needs_operator() { BootExit::NeedsOperator } else { BootExit::GaveUp }
}

/// An update of ROMs comes before a boot: its kernel parameters are those of the boot, and more.
fn source<'a>(params: &'a BootParams, hostname: &'a str) -> Option<Source<'a>> {
    match (&params.rom_update, params.action) {
        (Some(update), _) => Some(Source::RomUpdate { update, hostname }),
        (None, Some(action)) => {
            Some(Source::Server { action: action.key(), add_kargs: add_kargs(action) })
        }
        (None, None) => None,
    }
}

/// The document of stage1 brings the addresses of the later stages.
fn add_kargs(action: Action) -> AddKargs {
    match action {
        Action::Stage1 => AddKargs::Yes,
        Action::Stage2 => AddKargs::No,
    }
}

/// What cannot be understood allows nothing.
fn policy() -> Policy {
    Policy::read(Path::new(POLICY)).unwrap_or_else(|error| {
        log::warn!("{}: the strictest policy holds", Chain(&error));
        Policy::default()
    })
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
