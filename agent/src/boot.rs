//! The role *boot*: network, clock, boot document, files, commands; again, until one attempt works.
//!
//! PID 1 starts it, and starts it again if it dies before it is through. It announces every step
//! with the time by which it will speak again, and never reboots: its exit code says what PID 1 is to
//! do. The usual end is none of them: a command, the role *kexec*, has loaded the next kernel and
//! tells PID 1 to enter it. Where the command line asks for a new ROM or a disk image
//! ([`crate::update`]), the boot document is our own, and its command is `/sbin/flasher`.

use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use agent_types::cmdline::{self, Cmdline};
use agent_types::exit::BootExit;
use agent_types::params::{Action, BootParams};
use anyhow::Context as _;
use futures_util::future::{FusedFuture as _, FutureExt as _};

use crate::artifact::{self, FILE_LIMIT, Machine};
use crate::attempt::{self, Attempt, Followup, Mode, Source};
use crate::build_info::{BUILD_INFO, BuildInfo};
use crate::chain::Chain;
use crate::clock::Monotonic;
use crate::commands::Output;
use crate::downloads::{self, DOWNLOADS};
use crate::evidence::Evidence;
use crate::fetch::{Https, Settings};
use crate::flash_reports::FlashReports;
use crate::hold::{self, Next, Operators, Pauses};
use crate::keyring::OF_THE_PARAMETER;
use crate::meminfo::MEMINFO;
use crate::network;
use crate::policy::{POLICY, Policy};
use crate::resolve::AddKargs;
use crate::retry::{Backoff, Transient, Tries};
use crate::screen::Consoles;
use crate::ssh_keys;
use crate::state::{self, Board};
use crate::sys::{Linux, System as _};
use crate::tls::{self, PACKED_ROOTS};
use crate::uplink::Uplink;
use crate::utc::Utc;
use crate::wallclock;
use crate::watch::{MARGIN, Watch};
use crate::wishes::{WISHES, Wishes};

/// The original client gives up, and restarts the machine, after the same time.
pub(crate) const ATTEMPTS_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);
/// For a network, and again for the attempts with it.
const ATTEMPTS: Backoff = Backoff {
    first: Duration::from_secs(10),
    longest: Duration::from_secs(60),
    deadline: ATTEMPTS_LIMIT,
};
/// Waiting for the network says something every 10 s.
const NETWORK_LIMIT: Duration = Duration::from_secs(60);
/// Between tries to get a network that only operators need.
const NETWORK_PAUSE: Duration = Duration::from_secs(60);
const CMDLINE: &str = "/proc/cmdline";

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
    let given = cmdline()?;
    let version = set_clock_floor();
    let evidence = Evidence::of_this_machine();
    let mut uplink = Uplink::default();
    loop {
        operators.watch.begin_anew();
        if operators.wishes.is_retry_wanted() {
            FlashReports::forget(Path::new(state::DIRECTORY));
        }
        let cmdline = cmdline::replace(&given, &operators.wishes.begin_anew());
        let params = BootParams::parse(&cmdline);
        warn_of_contradictions(&cmdline, &params);
        let boot = Boot { params: &params, version: &version, operators, evidence: &evidence };
        if let Course::Ended(exit) = boot.run(&mut uplink).await {
            operators.watch.board.over(exit);
            return Ok(exit);
        }
        log::info!("beginning anew, as the operator wishes");
    }
}

/// Boot loaders pass whatever bytes they were given.
fn cmdline() -> anyhow::Result<String> {
    let bytes = std::fs::read(CMDLINE).context("cannot read /proc/cmdline")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How far we came.
enum Course {
    /// Nothing is left to do.
    Ended(BootExit),
    /// The operator wishes a new beginning, perhaps with another command line.
    Anew,
}

/// One beginning, with one command line.
struct Boot<'a> {
    params: &'a BootParams,
    version: &'a str,
    operators: &'a Operators<'a>,
    evidence: &'a Evidence,
}

impl Boot<'_> {
    /// Follows the boot document; then stays if operators still wait for the network or for their
    /// keys, or if there is a DHCP lease to be kept.
    async fn run(&self, uplink: &mut Uplink) -> Course {
        if self.params.ask_for_nothing() {
            tokio::select! {
                () = self.try_network(uplink) => {}
                () = self.operators.wishes.until(Wishes::is_retry_wanted) => return Course::Anew,
            }
        } else if let Err(course) = self.bring_network_up(uplink).await {
            return course;
        }
        // One each: how long one server has been silent is not to depend on another.
        let settings = self.settings();
        let (fetch, fetch_keys) = (Https::new(settings.clone()), Https::new(settings));
        let mut keys = pin!(self.bring_ssh_keys(&fetch_keys).fuse());
        let course = beside(keys.as_mut(), self.follow(&fetch, uplink)).await;
        let waits_for_keys = self.params.ssh_keys.is_some() && !keys.is_terminated();
        match course {
            Course::Ended(exit) if uplink.is_down() || uplink.is_leased() || waits_for_keys => {
                beside(keys, self.rest(exit, uplink)).await
            }
            course => course,
        }
    }

    fn settings(&self) -> Settings {
        let roots = tls::roots_file(Path::new(PACKED_ROOTS), None);
        Settings::new(self.version, policy(), roots)
    }

    async fn bring_ssh_keys(&self, fetch: &Https) {
        let file = Path::new("/").join(OF_THE_PARAMETER);
        match &self.params.ssh_keys {
            Some(keys) => ssh_keys::bring(fetch, &Monotonic, keys, &file).await,
            None => ssh_keys::take_back(&file),
        }
    }

    async fn follow(&self, fetch: &Https, uplink: &mut Uplink) -> Course {
        let hostname = uplink.hostname().unwrap_or_default().to_owned();
        match source(self.params, &hostname) {
            Some(source) => self.follow_boot_document(fetch, source, uplink).await,
            None => {
                log::warn!(
                    "nothing to boot: neither epoxy.stage1 nor epoxy.stage2 is on the kernel \
                     command line; waiting for an operator"
                );
                Course::Ended(BootExit::NothingToDo)
            }
        }
    }

    /// Nothing is left to do but what operators may need, until they want more. A machine that is
    /// going to restart does so meanwhile, unless it is held.
    async fn rest(&self, exit: BootExit, uplink: &mut Uplink) -> Course {
        let Operators { watch, wishes, .. } = self.operators;
        if uplink.is_leased() {
            log::info!("renewing the DHCP lease while an operator may need it");
        }
        watch.over(exit);
        let gave_up = exit == BootExit::GaveUp;
        let more_is_wanted =
            |wishes: &Wishes| wishes.is_retry_wanted() || (gave_up && wishes.is_held());
        tokio::select! {
            () = wishes.until(more_is_wanted) => {}
            never = self.keep_network(uplink) => match never {},
        }
        watch.begin_anew();
        if !wishes.is_retry_wanted() {
            hold::obey(wishes, watch, "a new beginning").await;
        }
        Course::Anew
    }

    /// An operator may sit at the console, so it is quiet.
    async fn keep_network(&self, uplink: &mut Uplink) -> Infallible {
        let quietly = |word: &str| log::debug!("{word}");
        let mut told = String::new();
        while let Err(error) = uplink.ready(&self.params.network.config, &quietly).await {
            let reason = Chain(&error).to_string();
            if reason != told {
                let seconds = NETWORK_PAUSE.as_secs();
                log::warn!("{reason}; for operators this is tried every {seconds} s");
                told = reason;
            }
            tokio::time::sleep(NETWORK_PAUSE).await;
        }
        uplink.keep_during(std::future::pending()).await
    }

    /// Tries until there is a network, or until the time for attempts is over.
    async fn bring_network_up(&self, uplink: &mut Uplink) -> Result<(), Course> {
        let Operators { watch, wishes, .. } = self.operators;
        let clock = Pauses(wishes);
        let mut tries = Tries::new(&clock, ATTEMPTS);
        loop {
            let up = tokio::select! {
                up = self.connect(uplink) => up,
                () = wishes.until(Wishes::is_retry_wanted) => return Err(Course::Anew),
            };
            match up {
                Ok(()) => return Ok(()),
                Err(error) => {
                    watch.board.failed(&Chain(&error).to_string());
                    course(hold::pause(&mut tries, "network", error, self.operators).await)?;
                }
            }
        }
    }

    /// Once: what needs no network goes on without.
    async fn try_network(&self, uplink: &mut Uplink) {
        if let Err(error) = self.connect(uplink).await {
            log::warn!("going on without a network: {}", Chain(&error));
        }
    }

    async fn connect(&self, uplink: &mut Uplink) -> Result<(), network::Error> {
        let watch = self.operators.watch;
        let on_wait = |word: &str| {
            network::aloud(word);
            watch.step("network", NETWORK_LIMIT);
        };
        watch.step("network", NETWORK_LIMIT);
        let network = uplink.ready(&self.params.network.config, &on_wait).await?;
        watch.board.network(&network.interface);
        Ok(())
    }

    async fn follow_boot_document(
        &self,
        fetch: &Https,
        source: Source<'_>,
        uplink: &mut Uplink,
    ) -> Course {
        let machine = Machine {
            dir: Path::new(DOWNLOADS),
            meminfo: Path::new(MEMINFO),
            processors: processors(),
            tries: artifact::TRIES,
            limit: FILE_LIMIT,
            alive: &|within| self.operators.watch.step("fetch", within + MARGIN),
        };
        let attempt = Attempt {
            fetch,
            clock: &Monotonic,
            machine: &machine,
            watch: self.operators.watch,
            wishes: self.operators.wishes,
            source,
            report: self.params.report,
            evidence: self.evidence,
            flash_reports: Path::new(state::DIRECTORY),
            keys_below: Some(Path::new("/")),
            output: Output::of_the_machine(),
            mode: Mode::Run,
        };
        self.until_one_works(&attempt, uplink).await
    }

    async fn until_one_works(
        &self,
        attempt: &Attempt<'_, Https, Monotonic>,
        uplink: &mut Uplink,
    ) -> Course {
        let clock = Pauses(self.operators.wishes);
        let mut tries = Tries::new(&clock, ATTEMPTS);
        let mut kargs = self.params.kargs.clone();
        loop {
            let ended = uplink.keep_during(attempt.run(&mut kargs)).await;
            if let Err(attempt::Error::NewAttempt) = ended.result {
                return Course::Anew;
            }
            if ended.needs_operator() {
                // Whoever wished for another attempt did not know yet.
                self.operators.wishes.forget_retry();
                // PID 1 knows it before the driver of that card is asked for anything.
                self.operators.watch.over(BootExit::NeedsOperator);
            }
            // A command may have taken the card: a flasher that writes to it does.
            self.try_network(uplink).await;
            let followup = Followup::after(&tries);
            uplink.keep_during(attempt.report(&kargs, &ended, followup)).await;
            let error = match ended.result {
                Ok(()) if self.operators.wishes.is_retry_wanted() => return Course::Anew,
                Ok(()) => return Course::Ended(after_success(attempt.source)),
                Err(error) => error,
            };
            if error.needs_operator() {
                log::error!("boot attempt: {}", Chain(&error));
                if self.operators.wishes.is_retry_wanted() {
                    return Course::Anew;
                }
                return Course::Ended(BootExit::NeedsOperator);
            }
            let pause = hold::pause(&mut tries, "boot attempt", error, self.operators);
            if let Err(course) = course(uplink.keep_during(pause).await) {
                return course;
            }
            // The card may have gone meanwhile.
            if let Err(course) = self.bring_network_up(uplink).await {
                return course;
            }
        }
    }
}

/// Does `work`, and something else meanwhile.
async fn beside<T>(other: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    let never = async {
        other.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        biased;
        done = work => done,
        never = never => match never {},
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

fn warn_of_contradictions(cmdline: &str, params: &BootParams) {
    let contradictions = Cmdline::parse(cmdline);
    contradictions.contradictions().iter().for_each(|contradiction| log::warn!("{contradiction}"));
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
    match wallclock::ensure(Utc::now(), build.built(), set) {
        Ok(wallclock::Decision::Keep) => {}
        Ok(wallclock::Decision::Set(_)) => wallclock::remember_guess(),
        Err(error) => log::warn!("{}", Chain(&error)),
    }
    build.version
}

/// What has been written is tried out.
fn after_success(source: Source<'_>) -> BootExit {
    match source {
        Source::Server { .. } => BootExit::Done,
        Source::Update { .. } => BootExit::Restart,
    }
}

/// An update comes before a boot: its kernel parameters are those of the boot, and more.
fn source<'a>(params: &'a BootParams, hostname: &'a str) -> Option<Source<'a>> {
    if !params.updates.is_empty() {
        return Some(Source::Update { updates: &params.updates, hostname });
    }
    let server = |action: Action| {
        let add_kargs = add_kargs(action);
        Source::Server { action: action.key(), add_kargs }
    };
    params.action.map(server)
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
