//! What PID 1 decides: which role runs, when it is started again, when the machine is left.
//!
//! A state machine without I/O: [`Supervisor::on_event`] takes what has happened and the time, and
//! answers with what to do. Whoever carries the orders out reports back with more events. After any
//! failure there is an order or a time to wake up, and a line that says which and why.

mod departure;
mod surroundings;
mod worker;

use std::time::Duration;

use agent_types::exit::BootExit;
use log::Level;

use self::departure::{Departure, Reason};
pub(crate) use self::surroundings::{Flasher, Hold, Keys, Surroundings};
pub(crate) use self::worker::Role;
use self::worker::{LONGEST_PAUSE, State, Worker};
use crate::boot::ATTEMPTS_LIMIT;
use crate::reap::End;
use crate::sys::Reboot;
use crate::watch::{Announcement, Word};

/// An operator's shell lives longer; one whose console has hung up reads the end of its input at once.
const SHORTEST_SHELL: Duration = Duration::from_secs(1);
/// The boot role announces its first step at once; loading it takes far less than this.
const FIRST_ANNOUNCEMENT: Duration = Duration::from_secs(30);
/// A killed process is gone at once, unless it hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// A boot role that can only fail restarts the machine as late as one that gives up by itself.
const GIVE_UP_AFTER: Duration = ATTEMPTS_LIMIT;

/// When there is a shell on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shell {
    /// When nobody can log in any other way.
    LastResort,
    /// From the start, as the image's policy has it.
    Always,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The role runs.
    Started(Role, u32),
    /// The role could not be started; the reason has been logged.
    StartFailed(Role),
    /// A process has ended, a role or an orphan.
    Ended(u32, End),
    /// The boot role says what it does and until when, or that it is through.
    Heard(Word),
    /// Somebody asks to leave this kernel.
    Asked(Reboot),
    /// Somebody asks for another boot attempt.
    AskedToRetry,
    /// Leaving did not work, and every role has been stopped for it.
    NotLeft(Reboot),
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Start the role as a child.
    Start(Role),
    /// Kill the process and everything of its session.
    Kill(u32),
    /// Leave this kernel.
    Leave(Reboot),
    /// Tell the operator.
    Say(Level, String),
}

/// By when the boot role must speak or be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deadline {
    Announcement { announced: Announcement, at: Duration },
    Death { pid: u32, at: Duration },
}

impl Deadline {
    fn at(&self) -> Duration {
        match self {
            Self::Announcement { at, .. } | Self::Death { at, .. } => *at,
        }
    }
}

/// The state of the machine as PID 1 sees it.
#[derive(Debug)]
pub(crate) struct Supervisor {
    boot: Worker,
    /// When the boot role has failed first since the boot began, or since an operator has cared.
    failing_since: Option<Duration>,
    rescue: Option<Worker>,
    shell: Worker,
    deadline: Option<Deadline>,
    departure: Departure,
    surroundings: Surroundings,
}

impl Supervisor {
    /// A machine that has just started; `rescue` tells whether an operator could log in.
    pub(crate) fn new(rescue: bool) -> Self {
        let keys = if rescue { Keys::Some } else { Keys::None };
        Self {
            surroundings: Surroundings { keys, hold: Hold::Off, flasher: Flasher::None },
            boot: Worker::new(Role::Boot),
            failing_since: None,
            rescue: rescue.then(|| Worker::new(Role::Rescue)),
            shell: Worker::new(Role::Shell),
            deadline: None,
            departure: Departure::Staying,
        }
    }

    /// The roles that run from the start, the boot role first.
    pub(crate) fn begin(&mut self, shell: Shell) -> Vec<Order> {
        let shell = (shell == Shell::Always).then_some(&mut self.shell);
        let others = self.rescue.iter_mut().chain(shell);
        std::iter::once(&mut self.boot).chain(others).map(Worker::start).collect()
    }

    /// Takes what PID 1 sees; what follows from it comes with the next event.
    pub(crate) fn look(&mut self, surroundings: Surroundings) {
        self.surroundings = surroundings;
    }

    /// Takes what has happened and answers with what to do.
    pub(crate) fn on_event(&mut self, now: Duration, event: Event) -> Vec<Order> {
        let mut orders = match event {
            Event::Started(role, pid) => self.started(now, role, pid),
            Event::StartFailed(role) => self.failed(now, role, "cannot be started"),
            Event::Ended(pid, end) => self.ended(now, pid, end),
            Event::Heard(Word::Step(announced)) => self.announced(now, announced),
            Event::Heard(Word::Over(exit)) => self.over(now, exit),
            Event::Asked(way) => vec![self.leave_now(way)],
            Event::AskedToRetry => self.retry(),
            Event::NotLeft(way) => self.not_left(now, way),
            Event::Tick => self.tick(now),
        };
        orders.extend(self.obey_hold(now));
        orders.extend(self.rescue_if_wanted());
        orders.extend(self.shell_if_needed());
        orders
    }

    /// When to come back with a [`Event::Tick`] if nothing else happens.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let pauses = self.workers().filter_map(|worker| match worker.state {
            State::Pausing { until } => Some(until),
            _ => None,
        });
        let deadline = self.deadline.as_ref().map(Deadline::at);
        let departure = match self.departure {
            Departure::Later { at, .. } => Some(at),
            Departure::Staying | Departure::Held { .. } | Departure::Ordered => None,
        };
        pauses.chain(deadline).chain(departure).min()
    }

    /// Whether rescue begins when there is a key.
    pub(crate) fn waits_for_a_key(&self) -> bool {
        self.rescue.is_none()
    }

    /// Whether this kernel is to be left when the time has come.
    pub(crate) fn leaves_later(&self) -> bool {
        matches!(self.departure, Departure::Later { .. })
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        [&self.boot, &self.shell].into_iter().chain(&self.rescue)
    }

    fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        [&mut self.boot, &mut self.shell].into_iter().chain(&mut self.rescue)
    }

    fn started(&mut self, now: Duration, role: Role, pid: u32) -> Vec<Order> {
        for worker in self.workers_mut().filter(|worker| worker.role == role) {
            worker.state = State::Running { pid, since: now };
        }
        if role == Role::Boot {
            let step = "its first step".to_owned();
            self.expect_next(now, Announcement { step, limit: FIRST_ANNOUNCEMENT });
        }
        vec![]
    }

    fn ended(&mut self, now: Duration, pid: u32, end: End) -> Vec<Order> {
        let Some(role) = self.workers().find(|worker| worker.is(pid)).map(|worker| worker.role)
        else {
            return vec![];
        };
        match (role, end) {
            (Role::Boot, end) => self.boot_ended(now, pid, end),
            (Role::Shell, End::Exit(0)) if self.shell.has_lived(now, SHORTEST_SHELL) => {
                vec![self.shell.start()]
            }
            (Role::Rescue | Role::Shell, end) => {
                self.failed(now, role, &format!("ended with {end}"))
            }
        }
    }

    fn boot_ended(&mut self, now: Duration, pid: u32, end: End) -> Vec<Order> {
        self.deadline = None;
        match (self.boot.state, outcome(end)) {
            (State::Resting { .. }, Some(_)) => {
                self.boot.state = State::Done;
                vec![]
            }
            // What it had to do is done, and not to be done twice.
            (State::Resting { .. }, None) => {
                self.boot.state = State::Done;
                let text = format!(
                    "boot role ended with {end}: until `stage2 retry` nothing keeps the network, \
                     and no keys are fetched"
                );
                vec![Order::Kill(pid), Order::Say(Level::Warn, text)]
            }
            (_, Some(exit)) => {
                self.boot.state = State::Done;
                vec![self.through(now, exit)]
            }
            // What a dead boot role was running must not disturb the next one.
            (_, None) => {
                let mut orders = vec![Order::Kill(pid)];
                orders.extend(self.failed(now, Role::Boot, &format!("ended with {end}")));
                orders
            }
        }
    }

    /// The boot role is through, but stays for the network or for keys.
    fn over(&mut self, now: Duration, exit: BootExit) -> Vec<Order> {
        let State::Running { pid, .. } = self.boot.state else { return vec![] };
        self.deadline = None;
        self.boot.state = State::Resting { pid };
        vec![self.through(now, exit)]
    }

    fn through(&mut self, now: Duration, exit: BootExit) -> Order {
        match exit {
            BootExit::Done => stay(Level::Info, "the boot document ran to its end"),
            BootExit::NothingToDo => stay(Level::Info, "the kernel command line asks for no boot"),
            BootExit::NeedsOperator => needs_operator(),
            BootExit::Restart => self.leave_later(now, Reboot::Restart, Reason::Updated),
            BootExit::GaveUp => self.leave_later(now, Reboot::Restart, Reason::GaveUp),
        }
    }

    fn failed(&mut self, now: Duration, role: Role, how: &str) -> Vec<Order> {
        let what = format!("{} role {how}", role.name());
        if role == Role::Boot {
            return self.boot_failed(now, what, "it");
        }
        let worker = self.workers_mut().find(|worker| worker.role == role);
        let pause = worker.map_or(LONGEST_PAUSE, |worker| worker.fail(now));
        vec![Order::Say(Level::Warn, again_in(&what, "it", pause))]
    }

    /// One that can only fail cannot give up by itself.
    fn boot_failed(&mut self, now: Duration, what: String, name: &str) -> Vec<Order> {
        if self.boot.has_lived(now, GIVE_UP_AFTER) {
            self.failing_since = None;
        }
        let since = *self.failing_since.get_or_insert(now);
        let pause = self.boot.fail(now);
        if now.saturating_sub(since) < GIVE_UP_AFTER {
            return vec![Order::Say(Level::Error, again_in(&what, name, pause))];
        }
        self.boot.state = State::Done;
        let restart = self.leave_later(now, Reboot::Restart, Reason::Fails);
        vec![Order::Say(Level::Error, what), restart]
    }

    fn announced(&mut self, now: Duration, announced: Announcement) -> Vec<Order> {
        if let State::Resting { pid } = self.boot.state {
            self.begin_anew_after_rest(now, pid);
            self.expect_next(now, announced);
        } else if matches!(self.deadline, Some(Deadline::Announcement { .. })) {
            self.expect_next(now, announced);
        }
        vec![]
    }

    /// It does so when an operator wishes it: what its end had called for does not follow any more.
    fn begin_anew_after_rest(&mut self, now: Duration, pid: u32) {
        self.boot.state = State::Running { pid, since: now };
        self.failing_since = None;
        if self.departure != Departure::Ordered {
            self.departure = Departure::Staying;
        }
    }

    fn expect_next(&mut self, now: Duration, announced: Announcement) {
        let at = now.saturating_add(announced.limit);
        self.deadline = Some(Deadline::Announcement { announced, at });
    }

    /// A boot role that runs has been asked already; one that has ended begins anew.
    fn retry(&mut self) -> Vec<Order> {
        let ended = matches!(self.boot.state, State::Done | State::Pausing { .. });
        if !ended || self.departure == Departure::Ordered {
            return vec![];
        }
        self.departure = Departure::Staying;
        self.failing_since = None;
        let text = "starting the boot role again, as asked".to_owned();
        vec![Order::Say(Level::Info, text), self.boot.start()]
    }

    fn not_left(&mut self, now: Duration, way: Reboot) -> Vec<Order> {
        self.deadline = None;
        self.departure = Departure::Staying;
        self.shell.state = State::Off;
        let what = match way {
            Reboot::Kexec => "cannot enter the loaded kernel".to_owned(),
            way => format!("{} did not work", doing(way)),
        };
        let mut orders: Vec<_> = self.rescue.iter_mut().map(Worker::start).collect();
        orders.extend(self.boot_after_refusal(now, what));
        if way != Reboot::Kexec {
            orders.push(self.leave_later(now, way, Reason::Refused));
        }
        orders
    }

    /// What a boot role that was through had done is not to be done twice: it may have written to a
    /// card.
    fn boot_after_refusal(&mut self, now: Duration, what: String) -> Vec<Order> {
        if matches!(self.boot.state, State::Done | State::Resting { .. }) {
            self.boot.state = State::Done;
            let text = format!("{what}: the boot is over: `stage2 retry` begins anew");
            return vec![Order::Say(Level::Error, text)];
        }
        self.boot_failed(now, what, "the boot role")
    }

    fn tick(&mut self, now: Duration) -> Vec<Order> {
        let mut orders: Vec<_> = self
            .workers_mut()
            .filter(|worker| matches!(worker.state, State::Pausing { until } if until <= now))
            .map(Worker::start)
            .collect();
        orders.extend(self.missed_deadline(now));
        orders.extend(self.leave_if_due(now));
        orders
    }

    fn missed_deadline(&mut self, now: Duration) -> Vec<Order> {
        match self.deadline.take_if(|deadline| deadline.at() <= now) {
            None => vec![],
            Some(Deadline::Announcement { announced, .. }) => self.kill_boot(now, &announced),
            Some(Deadline::Death { pid, .. }) => {
                self.boot.state = State::Done;
                vec![self.leave_later(now, Reboot::Restart, Reason::Hangs { pid })]
            }
        }
    }

    fn kill_boot(&mut self, now: Duration, announced: &Announcement) -> Vec<Order> {
        let State::Running { pid, .. } = self.boot.state else { return vec![] };
        self.deadline = Some(Deadline::Death { pid, at: now + KILL_LIMIT });
        let Announcement { step, limit } = announced;
        let text = format!("boot role hangs in {step} for more than {limit:?}: killing it");
        vec![Order::Say(Level::Error, text), Order::Kill(pid)]
    }

    /// An image without keys has no use for rescue until a document or a command brings one.
    fn rescue_if_wanted(&mut self) -> Option<Order> {
        let unwanted = self.rescue.is_some() || self.surroundings.keys == Keys::None;
        if unwanted || self.departure == Departure::Ordered {
            return None;
        }
        Some(self.rescue.insert(Worker::new(Role::Rescue)).start())
    }

    /// The console's shell runs when the boot role is no hope and nobody can log in.
    fn shell_if_needed(&mut self) -> Vec<Order> {
        let is_up = self.rescue.as_ref().is_some_and(Worker::is_alive_or_promising);
        let leaving = self.departure.is_close();
        let idle = self.shell.state == State::Off && self.boot.state != State::Off;
        if leaving || !idle || self.boot.is_alive_or_promising() {
            return vec![];
        }
        let why = match self.surroundings.keys {
            Keys::Some if is_up => return vec![],
            Keys::None if is_up => "no key has come that could log in",
            _ => "nobody can log in",
        };
        let text = format!("{why}: starting a shell on the console");
        vec![Order::Say(Level::Warn, text), self.shell.start()]
    }
}

/// What the boot role has come to, if it has not died.
fn outcome(end: End) -> Option<BootExit> {
    match end {
        End::Exit(code) => code.try_into().ok(),
        End::Signal(_) => None,
    }
}

fn stay(level: Level, why: &str) -> Order {
    Order::Say(level, format!("{why}: the machine stays in rescue"))
}

fn needs_operator() -> Order {
    let why = "a network card or a disk needs an operator, and the machine must not restart";
    stay(Level::Error, why)
}

fn again_in(what: &str, name: &str, pause: Duration) -> String {
    format!("{what}: starting {name} again in {} s", pause.as_secs())
}

/// What is being done, for the operator.
pub(crate) fn doing(way: Reboot) -> &'static str {
    match way {
        Reboot::Kexec => "entering the loaded kernel",
        Reboot::Restart => "restarting the machine",
        Reboot::PowerOff => "powering the machine off",
        Reboot::Halt => "halting the machine",
    }
}

#[cfg(test)]
mod tests;
