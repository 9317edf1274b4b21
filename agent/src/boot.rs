//! The role *boot*: network, clock, boot document, files, commands; again, until one attempt works.
//!
//! PID 1 starts it and starts it again if it dies. It announces every step with the time by which it
//! will speak again, and never reboots: its exit code says what PID 1 is to do. The usual end is
//! none of them: a command has loaded the next kernel, and PID 1 enters it.

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use agent_types::cmdline::{self, Cmdline, Kargs};
use agent_types::exit::BootExit;
use agent_types::net::NetworkConfig;
use agent_types::params::{Action, BootParams};
use anyhow::Context as _;

use crate::artifact::{self, FILE_LIMIT, Machine};
use crate::attempt::{self, Attempt, Mode};
use crate::build_info::{BUILD_INFO, BuildInfo};
use crate::chain::Chain;
use crate::clock::Monotonic;
use crate::commands::Output;
use crate::downloads::{self, DOWNLOADS};
use crate::fetch::{Https, Settings};
use crate::hold::{self, Next, Operators, Pauses};
use crate::memory::MEMINFO;
use crate::network::{self, Limits, Network};
use crate::policy::{POLICY, Policy};
use crate::resolve::AddKargs;
use crate::retry::{Backoff, Transient, Tries};
use crate::screen::Consoles;
use crate::state::{self, Board};
use crate::sys::{Linux, System as _};
use crate::tls::{self, PACKED_ROOTS};
use crate::utc::Utc;
use crate::wallclock;
use crate::watch::{FOR_AN_OPERATOR, Watch};
use crate::wishes::{WISHES, Wishes};

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
    let watch = Watch::from_env().on(Board::open(Path::new(state::DIRECTORY)));
    empty_downloads();
    let (consoles, wishes) = (Consoles::default(), wishes());
    let operators = Operators { watch: &watch, consoles: &consoles, wishes: &wishes };
    let end = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(boot(&operators)));
    match end {
        Ok(exit) => exit.into(),
        Err(error) => {
            log::error!("{}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// A killed boot role has left its files. Documents without files can be followed in any case.
fn empty_downloads() {
    if let Err(error) = downloads::empty(Path::new(DOWNLOADS)) {
        log::warn!("{}", Chain(&error));
    }
}

/// A machine that cannot be told wishes still boots.
fn wishes() -> Wishes {
    let wishes = Wishes::at(Path::new(WISHES));
    if let Err(error) = wishes.prepare() {
        log::warn!("cannot take wishes from {WISHES}: {error}");
    }
    wishes
}

async fn boot(operators: &Operators<'_>) -> anyhow::Result<BootExit> {
    let given = std::fs::read_to_string(CMDLINE).context("cannot read /proc/cmdline")?;
    let version = set_clock_floor();
    let mut network = None;
    loop {
        let cmdline = cmdline::replace(&given, &operators.wishes.begin_attempt());
        let boot = Boot { cmdline: &cmdline, version: &version, operators };
        if let Course::Ended(exit) = boot.run(&mut network).await? {
            operators.watch.board.step(phase(exit));
            return Ok(exit);
        }
        log::info!("beginning anew, as the operator wishes");
    }
}

/// How far we came.
enum Course {
    /// Nothing is left to do.
    Ended(BootExit),
    /// The operator wishes a new beginning, perhaps with another command line.
    Anew,
}

/// What operators read when the boot role has ended.
fn phase(exit: BootExit) -> &'static str {
    match exit {
        BootExit::Done => "done",
        BootExit::GaveUp => "gave up",
        BootExit::NothingToDo => "nothing to do",
    }
}

/// The network, and what it was set up from.
struct Up {
    config: NetworkConfig,
    network: Network,
}

/// One beginning, with one command line.
struct Boot<'a> {
    cmdline: &'a str,
    version: &'a str,
    operators: &'a Operators<'a>,
}

impl Boot<'_> {
    /// `up` is the network of an earlier beginning, kept if nothing about it has changed.
    async fn run(&self, up: &mut Option<Up>) -> anyhow::Result<Course> {
        let cmdline = Cmdline::parse(self.cmdline);
        let params = BootParams::from(&cmdline);
        warn_of_contradictions(&cmdline, &params);
        let config = &params.network.config;
        if up.as_ref().is_none_or(|up| up.config != *config) {
            match self.bring_network_up(config).await {
                Ok(network) => *up = Some(Up { config: config.clone(), network }),
                Err(course) => return Ok(course),
            }
        }
        let Some(Up { network, .. }) = up else { return Ok(Course::Anew) };
        self.operators.watch.board.network(&network.interface);
        tokio::select! {
            course = self.follow(&params, network.lease.is_some()) => Ok(course),
            Err(lost) = keep_lease(network.clone(), config) => Err(lost.into()),
        }
    }

    /// Follows the boot document, then stays if there is a `Lease` to be kept.
    async fn follow(&self, params: &BootParams, leased: bool) -> Course {
        let exit = match self.follow_boot_document(params).await {
            Course::Ended(exit) if leased && exit != BootExit::GaveUp => exit,
            course => return course,
        };
        self.operators.watch.step(phase(exit), FOR_AN_OPERATOR);
        log::info!("renewing the DHCP lease while an operator may need it");
        self.operators.wishes.until(Wishes::is_retry_wanted).await;
        Course::Anew
    }

    /// Tries until there is a network, or until the time for attempts is over.
    async fn bring_network_up(&self, config: &NetworkConfig) -> Result<Network, Course> {
        let clock = Pauses(self.operators.wishes);
        let mut tries = Tries::new(&clock, ATTEMPTS);
        let on_wait = |_: &str| self.operators.watch.step("network", NETWORK_LIMIT);
        loop {
            self.operators.watch.step("network", NETWORK_LIMIT);
            let (limits, root) = (Limits::default(), Path::new(ROOT));
            let up = network::bring_up(config, &limits, root, &on_wait);
            let result = tokio::select! {
                result = up => result,
                () = self.operators.wishes.until(Wishes::is_retry_wanted) => return Err(Course::Anew),
            };
            match result {
                Ok(network) => return Ok(network),
                Err(error) => {
                    self.operators.watch.board.failed(&Chain(&error).to_string());
                    course(hold::pause(&mut tries, "network", error, self.operators).await)?;
                }
            }
        }
    }

    async fn follow_boot_document(&self, params: &BootParams) -> Course {
        let Some(action) = params.action else {
            log::warn!(
                "nothing to boot: neither epoxy.stage1 nor epoxy.stage2 is on the kernel command \
                 line; waiting for an operator"
            );
            return Course::Ended(BootExit::NothingToDo);
        };
        let roots = tls::roots_file(Path::new(PACKED_ROOTS), None);
        let fetch = Https::new(Settings::new(self.version, policy(), roots));
        let machine = Machine {
            dir: Path::new(DOWNLOADS),
            meminfo: Path::new(MEMINFO),
            processors: processors(),
            tries: artifact::TRIES,
            limit: FILE_LIMIT,
            alive: &|within| self.operators.watch.step("fetch", within + MARGIN),
        };
        let attempt = Attempt {
            fetch: &fetch,
            clock: &Monotonic,
            machine: &machine,
            watch: self.operators.watch,
            wishes: self.operators.wishes,
            action: action.key(),
            add_kargs: add_kargs(action),
            report: params.report,
            output: Output::of_the_machine(),
            mode: Mode::Run,
        };
        self.until_one_works(&attempt).await
    }

    async fn until_one_works(&self, attempt: &Attempt<'_, Https, Monotonic>) -> Course {
        let clock = Pauses(self.operators.wishes);
        let mut tries = Tries::new(&clock, ATTEMPTS);
        let mut kargs = Kargs::parse(self.cmdline);
        loop {
            let error = match attempt.run(&mut kargs).await {
                Ok(()) => return Course::Ended(BootExit::Done),
                Err(attempt::Error::NewAttempt) => return Course::Anew,
                Err(error) => error,
            };
            let next = hold::pause(&mut tries, "boot attempt", error, self.operators);
            if let Err(course) = course(next.await) {
                return course;
            }
        }
    }
}

/// Whether it goes on, or how it ends.
fn course(next: Next) -> Result<(), Course> {
    match next {
        Next::Again => Ok(()),
        Next::Anew => Err(Course::Anew),
        Next::GiveUp => Err(Course::Ended(BootExit::GaveUp)),
    }
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

async fn keep_lease(
    network: Network,
    config: &NetworkConfig,
) -> Result<Infallible, network::Error> {
    let renewed = |network: &Network| log::debug!("renewed: {network}");
    network::keep(network, config, &Limits::default(), Path::new(ROOT), &renewed).await
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
