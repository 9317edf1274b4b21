//! The role *init*: PID 1.
//!
//! It mounts the file systems, opens the console and the log, starts the roles, starts again what
//! died, and leaves this kernel when it is told to. The kernel panics when PID 1 ends, so nothing
//! here can fail: every error is a line in the log, and [`run`] does not return. What to do when
//! is decided in [`crate::supervise`]; here it is done:
//!
//! | The boot role | PID 1 |
//! |---|---|
//! | has loaded a kernel: SIGRTMIN+6 comes | stops everything, turns the links off, enters it |
//! | dies, or misses a deadline of its own and is killed | starts it again after 1, 2, 4, … 60 s |
//! | gave up, has died for six hours, or has written a ROM or a disk | restarts the machine in 10 s, unless it is held |
//! | is through, has nothing to do, or needs an operator | stays |
//!
//! A flasher is not cut off: while one runs, whoever asks to leave is refused, and a restart waits.
//!
//! Operators get in by ssh, the role *rescue*, as soon as there is a key; where nobody can log in and
//! the boot role is through or has failed five times, there is a shell on the console. Their command
//! `stage2` writes wishes (hold, resume, retry, set) that the boot role obeys ([`crate::wishes`]).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Child, ExitCode};
use std::time::Duration;

use agent_types::cmdline::Cmdline;
use agent_types::params::SSH_KEYS;

use crate::chain::Chain;
use crate::console;
use crate::flash_reports::FlashReports;
use crate::keyring;
use crate::kmsg::{self, Readers};
use crate::leave;
use crate::mounts::{self, EARLY_MOUNTS, LATER_MOUNTS};
use crate::pid1::kernel_is_loaded;
use crate::policy::{self, POLICY};
use crate::reap;
use crate::signals::{Meaning, Received, Signals};
use crate::spawn;
use crate::state;
use crate::supervise::{
    Event, Flasher, Hold, Keys, Order, Role, Shell, Supervisor, Surroundings, doing,
};
use crate::sys::{self, Linux, Reboot, System};
use crate::watch::{self, Announcements, ParseWordError, Word};
use crate::wishes::{WISHES, Wishes};

/// How often it is looked for the first key: nobody tells of one that an operator's command or a
/// parameter set later has brought.
const KEY_LOOK: Duration = Duration::from_secs(5);

const PROC: &str = "/proc";
const CMDLINE: &str = "/proc/cmdline";
const DEFAULT_HOSTNAME: &str = "default-net";

/// Seconds that a panic stays on the screen before the kernel restarts the machine.
const PANIC_TIMEOUT: &str = "10";

/// The kernel never kills PID 1 for its memory in any case. What it starts gets a score of its own.
const OOM_SCORE_OF_INIT: i32 = -1000;

/// Runs the machine.
pub(crate) fn run(_arguments: &[String]) -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("init: expected to be PID 1, got PID {}", std::process::id());
        return ExitCode::FAILURE;
    }
    let (signals, heard) = Signals::take_over();
    let mut machine = Machine::new(signals);
    machine.make_habitable(heard);
    machine.start_roles();
    machine.finish_set_up();
    machine.look_after()
}

/// PID 1's hands and ears.
struct Machine {
    system: Linux,
    signals: Signals,
    supervisor: Supervisor,
    announcements: Option<Announcements>,
}

impl Machine {
    fn new(signals: Signals) -> Self {
        // Nobody could say yet whether an operator could log in.
        let supervisor = Supervisor::new(false);
        Self { system: Linux, signals, supervisor, announcements: None }
    }

    /// What the boot role needs: file systems, console, log, a host name.
    fn make_habitable(&mut self, heard: io::Result<()>) {
        let missing = mounts::mount_all(&mut self.system, EARLY_MOUNTS);
        let console = console::open();
        let rate_limit = kmsg::lift_rate_limit();
        kmsg::start(Readers::Machine);
        missing.iter().for_each(|error| log::error!("{}", Chain(error)));
        warn_of(heard, "cannot hear signals");
        warn_of(console, "cannot open the console");
        warn_of(rate_limit, "cannot lift the rate limit of the kernel log");
        warn_of(self.system.set_hostname(DEFAULT_HOSTNAME), "cannot set the host name");
    }

    fn start_roles(&mut self) {
        self.supervisor = Supervisor::new(operator_could_log_in());
        let orders = self.supervisor.begin(console_shell());
        self.carry_out(orders);
    }

    /// What can wait until the boot role runs.
    fn finish_set_up(&mut self) {
        for error in mounts::mount_all(&mut self.system, LATER_MOUNTS) {
            log::warn!("{}", Chain(&error));
        }
        warn_of(restart_after_panic(), "cannot make a panic restart the machine");
        warn_of(self.system.hear_ctrl_alt_del(), "cannot take ctrl-alt-del from the kernel");
        warn_of(spawn::set_oom_score("self", OOM_SCORE_OF_INIT), "cannot protect PID 1");
    }

    /// Waits for something to happen and does what follows from it, for ever.
    fn look_after(&mut self) -> ! {
        warn_of(sys::let_go_of_program(), "cannot let go of what only the start needed");
        loop {
            self.wait();
            for event in self.what_happened() {
                self.handle(event);
            }
        }
    }

    fn wait(&self) {
        let limit = self.supervisor.wake_at().map(|at| at.saturating_sub(sys::uptime()));
        let look = self.supervisor.waits_for_a_key().then_some(KEY_LOOK);
        let limit = limit.into_iter().chain(look).min();
        self.signals.wait(self.announcements.as_ref().map(AsFd::as_fd), limit);
    }

    fn what_happened(&mut self) -> Vec<Event> {
        let mut events = self.announced();
        // A sender that has ended keeps its name until it is reaped.
        events.extend(self.signals.received().filter_map(asked));
        events.extend(reap::ended().map(|(pid, end)| Event::Ended(pid, end)));
        events.push(Event::Tick);
        events
    }

    fn announced(&mut self) -> Vec<Event> {
        let Some(mut announcements) = self.announcements.take() else { return vec![] };
        let lines = announcements.read();
        // A closed pipe can always be read: keeping it would make waiting a busy loop.
        self.announcements = announcements.are_open().then_some(announcements);
        lines.into_iter().filter_map(understood).map(Event::Heard).collect()
    }

    fn handle(&mut self, event: Event) {
        self.supervisor.look(self.surroundings());
        let orders = self.supervisor.on_event(sys::uptime(), event);
        self.carry_out(orders);
    }

    /// Flashers matter to a restart only.
    fn surroundings(&self) -> Surroundings {
        let keys = if keyring::has_keys(Path::new("/")) { Keys::Some } else { Keys::None };
        let hold = if wishes().is_held() { Hold::On } else { Hold::Off };
        let flasher = if self.supervisor.leaves_later() { flasher() } else { Flasher::None };
        Surroundings { keys, hold, flasher }
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Say(level, text) => log::log!(level, "{text}"),
                Order::Kill(pid) => reap::kill_session(&mut self.system, Path::new(PROC), pid),
                Order::Start(role) => self.start(role),
                Order::Leave(way) => self.leave(way),
            }
        }
    }

    fn start(&mut self, role: Role) {
        let event = match self.spawn(role) {
            Ok(child) => Event::Started(role, child.id()),
            Err(error) => {
                log::error!("cannot start the {} role: {error}", role.name());
                Event::StartFailed(role)
            }
        };
        self.handle(event);
    }

    fn spawn(&mut self, role: Role) -> io::Result<Child> {
        let mut command = spawn::role(role.name());
        let ours = match role {
            Role::Boot => {
                let (announcements, inherited) = Announcements::open()?;
                command.env(watch::VARIABLE, inherited.as_raw_fd().to_string());
                self.announcements = Some(announcements);
                Some(inherited)
            }
            Role::Rescue | Role::Shell => None,
        };
        let child = command.spawn();
        drop(ours);
        let child = child?;
        let score = spawn::set_oom_score(&child.id().to_string(), oom_score(role));
        warn_of(score, "cannot tell the kernel whom to kill when memory is short");
        Ok(child)
    }

    fn leave(&mut self, way: Reboot) {
        leave::leave(&mut self.system, &self.signals, way);
        self.handle(Event::NotLeft(way));
    }
}

fn understood(line: Result<Word, ParseWordError>) -> Option<Word> {
    line.inspect_err(|error| log::warn!("boot role: {error}")).ok()
}

fn asked(received: Received) -> Option<Event> {
    match received.meaning {
        Meaning::Asked(way) => may_leave(&received, way).then_some(Event::Asked(way)),
        Meaning::Wish => wishes().is_retry_wanted().then_some(Event::AskedToRetry),
        Meaning::Child => None,
        Meaning::Nothing => {
            log::debug!("{received}: means nothing to PID 1");
            None
        }
    }
}

fn may_leave(received: &Received, way: Reboot) -> bool {
    let doing = doing(way);
    if way == Reboot::Kexec && !kernel_is_loaded() {
        log::warn!("{received}: no kernel is loaded that could be entered, going on");
        return false;
    }
    if let Some(flasher) = reap::running_flasher(Path::new(PROC)) {
        log::error!(
            "{received}: {flasher} may be writing to a card: not {doing} before it has ended; ask again \
             then, or with `-f`"
        );
        return false;
    }
    log::info!("{received}: {doing}");
    true
}

fn flasher() -> Flasher {
    let left = || FlashReports::left_for_an_operator(Path::new(state::DIRECTORY));
    match reap::running_flasher(Path::new(PROC)) {
        Some(flasher) => Flasher::Running(flasher.pid),
        None if left().is_some() => Flasher::LeftForAnOperator,
        None => Flasher::None,
    }
}

fn wishes() -> Wishes {
    Wishes::at(Path::new(WISHES))
}

/// Rescue makes sense only with a key that opens it: of the image, or from the network. A document
/// may bring one later.
fn operator_could_log_in() -> bool {
    keyring::has_keys(Path::new("/")) || gets_keys()
}

fn gets_keys() -> bool {
    let cmdline = fs::read(CMDLINE).unwrap_or_default();
    let cmdline = String::from_utf8_lossy(&cmdline);
    Cmdline::parse(&cmdline).value_of(SSH_KEYS).is_some_and(|url| !url.is_empty())
}

/// A machine without a policy is as strict as can be.
fn console_shell() -> Shell {
    match fs::read(POLICY) {
        Ok(text) if policy::offers_console_shell(&text) => Shell::Always,
        _ => Shell::LastResort,
    }
}

/// Rescue must outlive a boot role that takes too much memory, and a shell is dispensable.
fn oom_score(role: Role) -> i32 {
    match role {
        Role::Rescue => 0,
        Role::Boot | Role::Shell => 200,
    }
}

/// A dead kernel restarts the machine, unless the command line says otherwise.
fn restart_after_panic() -> io::Result<()> {
    let cmdline = fs::read(CMDLINE)?;
    if cmdline.split(u8::is_ascii_whitespace).any(|word| word.starts_with(b"panic=")) {
        return Ok(());
    }
    fs::write("/proc/sys/kernel/panic", PANIC_TIMEOUT)
}

fn warn_of(result: io::Result<()>, what: &str) {
    if let Err(error) = result {
        log::warn!("{what}: {error}");
    }
}
