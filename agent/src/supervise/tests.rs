mod failing;
mod flashing;
mod resting;

use super::*;

const BOOT: u32 = 40;
const RESCUE: u32 = 41;
const SHELL: u32 = 42;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn say(level: Level, text: &str) -> Order {
    Order::Say(level, text.to_owned())
}

fn announce(seconds: u64, step: &str) -> Event {
    Event::Heard(Word::Step(Announcement { step: step.to_owned(), limit: secs(seconds) }))
}

fn nobody_can_log_in() -> [Order; 2] {
    [
        say(Level::Warn, "nobody can log in: starting a shell on the console"),
        Order::Start(Role::Shell),
    ]
}

/// A machine whose boot role runs since second 0.
fn booting(rescue: bool) -> Supervisor {
    let mut machine = Supervisor::new(rescue);
    machine.begin(Shell::LastResort);
    machine.on_event(secs(0), Event::Started(Role::Boot, BOOT));
    if rescue {
        machine.on_event(secs(0), Event::Started(Role::Rescue, RESCUE));
    }
    machine
}

fn boot_ends(machine: &mut Supervisor, at: u64, end: End) -> Vec<Order> {
    machine.on_event(secs(at), Event::Ended(BOOT, end))
}

#[test]
fn the_boot_role_is_started_before_everything_else() {
    assert_eq!(
        Supervisor::new(true).begin(Shell::LastResort),
        [Order::Start(Role::Boot), Order::Start(Role::Rescue)]
    );
    assert_eq!(Supervisor::new(false).begin(Shell::LastResort), [Order::Start(Role::Boot)]);
}

#[test]
fn a_shell_that_the_policy_wants_is_there_from_the_start_and_is_no_second_one_later() {
    let mut machine = Supervisor::new(false);
    assert_eq!(machine.begin(Shell::Always), [Order::Start(Role::Boot), Order::Start(Role::Shell)]);
    machine.on_event(secs(0), Event::Started(Role::Boot, BOOT));
    machine.on_event(secs(0), Event::Started(Role::Shell, SHELL));
    let stays = say(Level::Info, "the boot document ran to its end: the machine stays in rescue");
    assert_eq!(boot_ends(&mut machine, 1, End::Exit(0)), [stays]);
    assert_eq!(
        machine.on_event(secs(2), Event::Ended(SHELL, End::Exit(0))),
        [Order::Start(Role::Shell)]
    );
}

#[test]
fn every_end_of_the_boot_role_has_its_line_and_its_consequence() {
    for (end, orders, wake_at) in [
        (
            End::Exit(0),
            vec![say(Level::Info, "the boot document ran to its end: the machine stays in rescue")],
            None,
        ),
        (
            End::Exit(3),
            vec![say(
                Level::Info,
                "the kernel command line asks for no boot: the machine stays in rescue",
            )],
            None,
        ),
        (
            End::Exit(4),
            vec![say(
                Level::Error,
                "a network card or a disk needs an operator, and the machine must not restart: \
                 the machine stays in rescue",
            )],
            None,
        ),
        (
            End::Exit(5),
            vec![say(Level::Error, "the update is done: restarting the machine in 10 s")],
            Some(secs(110)),
        ),
        (
            End::Exit(2),
            vec![say(
                Level::Error,
                "boot role gave up (exit status 2): restarting the machine in 10 s",
            )],
            Some(secs(110)),
        ),
        (
            End::Exit(1),
            vec![
                Order::Kill(BOOT),
                say(Level::Error, "boot role ended with exit status 1: starting it again in 1 s"),
            ],
            Some(secs(101)),
        ),
        (
            End::Signal(9),
            vec![
                Order::Kill(BOOT),
                say(
                    Level::Error,
                    "boot role ended with signal 9 (SIGKILL): starting it again in 1 s",
                ),
            ],
            Some(secs(101)),
        ),
    ] {
        let mut machine = booting(true);
        assert_eq!(boot_ends(&mut machine, 100, end), orders);
        assert_eq!(machine.wake_at(), wake_at);
    }
}

#[test]
fn pauses_grow_up_to_a_minute_and_start_over_after_five_healthy_minutes() {
    let mut machine = booting(true);
    let mut now = 0;
    let mut pauses = vec![];
    for lived in [0, 0, 0, 0, 0, 0, 0, 0, 299, 300, 0] {
        now += lived;
        boot_ends(&mut machine, now, End::Signal(11));
        let until = machine.wake_at().unwrap();
        pauses.push(until.as_secs() - now);
        now = until.as_secs();
        assert_eq!(machine.on_event(until, Event::Tick), [Order::Start(Role::Boot)]);
        machine.on_event(until, Event::Started(Role::Boot, BOOT));
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 1, 2]);
}

#[test]
fn a_boot_role_that_gave_up_restarts_the_machine_ten_seconds_later() {
    let mut machine = booting(false);
    boot_ends(&mut machine, 100, End::Exit(2));
    assert_eq!(machine.on_event(secs(109), Event::Tick), []);
    assert_eq!(machine.on_event(secs(110), Event::Tick), [Order::Leave(Reboot::Restart)]);
    assert_eq!(machine.on_event(secs(111), Event::Tick), []);
}

#[test]
fn a_step_that_takes_longer_than_announced_ends_the_boot_role() {
    let mut machine = booting(true);
    assert_eq!(machine.on_event(secs(2), announce(120, "network")), []);
    assert_eq!(machine.wake_at(), Some(secs(122)));
    assert_eq!(machine.on_event(secs(121), Event::Tick), []);
    assert_eq!(
        machine.on_event(secs(122), Event::Tick),
        [
            say(Level::Error, "boot role hangs in network for more than 120s: killing it"),
            Order::Kill(BOOT)
        ]
    );
    // What it said just before it died does not save it.
    machine.on_event(secs(122), announce(7200, "commands"));
    assert_eq!(machine.wake_at(), Some(secs(152)));
    assert_eq!(
        boot_ends(&mut machine, 122, End::Signal(9)),
        [
            Order::Kill(BOOT),
            say(Level::Error, "boot role ended with signal 9 (SIGKILL): starting it again in 1 s")
        ]
    );
    assert_eq!(machine.wake_at(), Some(secs(123)));
}

#[test]
fn a_boot_role_that_never_announces_anything_is_replaced() {
    let mut machine = booting(true);
    assert_eq!(
        machine.on_event(secs(30), Event::Tick),
        [
            say(Level::Error, "boot role hangs in its first step for more than 30s: killing it"),
            Order::Kill(BOOT)
        ]
    );
}

#[test]
fn a_boot_role_that_cannot_even_be_killed_restarts_the_machine() {
    let mut machine = booting(true);
    machine.on_event(secs(30), Event::Tick);
    assert_eq!(
        machine.on_event(secs(60), Event::Tick),
        [say(
            Level::Error,
            "boot role (process 40) hangs in the kernel: restarting the machine in 10 s"
        )]
    );
    assert_eq!(machine.on_event(secs(70), Event::Tick), [Order::Leave(Reboot::Restart)]);
}

#[test]
fn rescue_is_started_again_and_the_boot_role_does_not_notice() {
    let mut machine = booting(true);
    assert_eq!(
        machine.on_event(secs(5), Event::Ended(RESCUE, End::Exit(0))),
        [say(Level::Warn, "rescue role ended with exit status 0: starting it again in 1 s")]
    );
    assert_eq!(machine.on_event(secs(6), Event::Tick), [Order::Start(Role::Rescue)]);
}

#[test]
fn orphans_are_nobodys_business() {
    assert_eq!(booting(true).on_event(secs(1), Event::Ended(999, End::Signal(11))), []);
}

#[test]
fn a_machine_that_stays_without_rescue_has_a_shell_on_the_console_for_good() {
    let mut machine = booting(false);
    let orders = boot_ends(&mut machine, 7, End::Exit(3));
    assert_eq!(orders.get(1..).unwrap(), nobody_can_log_in());
    machine.on_event(secs(7), Event::Started(Role::Shell, SHELL));
    assert_eq!(
        machine.on_event(secs(9), Event::Ended(SHELL, End::Exit(0))),
        [Order::Start(Role::Shell)]
    );
    machine.on_event(secs(9), Event::Started(Role::Shell, SHELL));
    assert_eq!(
        machine.on_event(secs(9), Event::Ended(SHELL, End::Exit(1))),
        [say(Level::Warn, "shell role ended with exit status 1: starting it again in 1 s")]
    );
}

#[test]
fn a_boot_role_that_cannot_be_started_five_times_brings_the_shell_and_is_tried_further() {
    let mut machine = Supervisor::new(false);
    machine.begin(Shell::LastResort);
    let mut now = secs(0);
    for pause in [1, 2, 4, 8] {
        let text = format!("boot role cannot be started: starting it again in {pause} s");
        assert_eq!(
            machine.on_event(now, Event::StartFailed(Role::Boot)),
            [say(Level::Error, &text)]
        );
        now = machine.wake_at().unwrap();
        assert_eq!(machine.on_event(now, Event::Tick), [Order::Start(Role::Boot)]);
    }
    let orders = machine.on_event(now, Event::StartFailed(Role::Boot));
    assert_eq!(orders.get(1..).unwrap(), nobody_can_log_in());
    assert_eq!(machine.wake_at(), Some(now + secs(16)));
}

#[test]
fn with_rescue_there_is_no_shell_until_rescue_fails_too() {
    let mut machine = booting(true);
    boot_ends(&mut machine, 1, End::Exit(0));
    let mut now = secs(2);
    for failure in 1..=5 {
        let orders = machine.on_event(now, Event::Ended(RESCUE, End::Signal(6)));
        assert_eq!(orders.contains(&Order::Start(Role::Shell)), failure == 5, "{failure}");
        now = machine.wake_at().unwrap();
        machine.on_event(now, Event::Tick);
        machine.on_event(now, Event::Started(Role::Rescue, RESCUE));
    }
}

#[test]
fn every_way_out_that_is_asked_for_is_taken_at_once() {
    for way in [Reboot::Kexec, Reboot::Restart, Reboot::PowerOff, Reboot::Halt] {
        assert_eq!(booting(true).on_event(secs(1), Event::Asked(way)), [Order::Leave(way)]);
    }
}

#[test]
fn a_kernel_that_cannot_be_entered_is_followed_by_another_attempt_to_boot() {
    let mut machine = booting(true);
    machine.on_event(secs(1), Event::Asked(Reboot::Kexec));
    assert_eq!(
        machine.on_event(secs(5), Event::NotLeft(Reboot::Kexec)),
        [
            Order::Start(Role::Rescue),
            say(
                Level::Error,
                "cannot enter the loaded kernel: starting the boot role again in 1 s"
            ),
        ]
    );
    assert_eq!(machine.on_event(secs(6), Event::Tick), [Order::Start(Role::Boot)]);
}

#[test]
fn a_restart_that_is_refused_is_tried_again_and_so_is_booting() {
    let mut machine = booting(false);
    assert_eq!(
        machine.on_event(secs(5), Event::NotLeft(Reboot::Restart)),
        [
            say(
                Level::Error,
                "restarting the machine did not work: starting the boot role again in 1 s"
            ),
            say(Level::Error, "the kernel refused: restarting the machine in 10 s")
        ]
    );
    assert_eq!(machine.on_event(secs(6), Event::Tick), [Order::Start(Role::Boot)]);
    machine.on_event(secs(6), Event::Started(Role::Boot, BOOT));
    assert_eq!(machine.on_event(secs(15), Event::Tick), [Order::Leave(Reboot::Restart)]);
}

#[test]
fn a_boot_that_was_over_is_not_begun_again_because_the_kernel_refuses_to_be_left() {
    let resting = |machine: &mut Supervisor| {
        machine.on_event(secs(1), Event::Heard(Word::Over(BootExit::NeedsOperator)))
    };
    let ended = |machine: &mut Supervisor| boot_ends(machine, 1, End::Exit(4));
    for end in [resting, ended] {
        let mut machine = booting(true);
        end(&mut machine);
        machine.on_event(secs(2), Event::Asked(Reboot::Kexec));
        let text = "cannot enter the loaded kernel: the boot is over: `stage2 retry` begins anew";
        assert_eq!(
            machine.on_event(secs(5), Event::NotLeft(Reboot::Kexec)),
            [Order::Start(Role::Rescue), say(Level::Error, text)]
        );
        machine.on_event(secs(5), Event::Started(Role::Rescue, RESCUE));
        assert_eq!(machine.on_event(secs(500), Event::Tick), []);
        assert_eq!(machine.on_event(secs(501), Event::AskedToRetry)[1], Order::Start(Role::Boot));
    }
}

#[test]
fn a_boot_role_that_has_ended_begins_anew_when_asked_and_one_that_runs_does_not() {
    let again =
        [say(Level::Info, "starting the boot role again, as asked"), Order::Start(Role::Boot)];
    for (end, expected) in [
        (None, &[][..]),
        (Some(End::Exit(0)), &again),
        (Some(End::Exit(3)), &again),
        // It gave up, and the restart of the machine is only some seconds away.
        (Some(End::Exit(2)), &again),
        (Some(End::Signal(9)), &again),
    ] {
        let mut machine = booting(true);
        if let Some(end) = end {
            boot_ends(&mut machine, 1, end);
        }
        assert_eq!(machine.on_event(secs(2), Event::AskedToRetry), expected, "{end:?}");
        assert_eq!(machine.on_event(secs(20), Event::Tick), [], "{end:?}");
    }
}

fn looking(machine: &mut Supervisor, keys: Keys, hold: Hold) -> &mut Supervisor {
    machine.look(Surroundings { keys, hold, flasher: Flasher::None });
    machine
}

#[test]
fn a_hold_stops_the_countdown_and_what_follows_it_depends_on_why() {
    let held =
        say(Level::Warn, "held by the operator, until `stage2 resume`: not restarting the machine");
    let again =
        [say(Level::Info, "starting the boot role again, as asked"), Order::Start(Role::Boot)];
    let restart = [say(Level::Error, "the update is done: restarting the machine in 10 s")];
    for (end, resumed, left) in [
        (End::Exit(2), &again[..], &[][..]),
        (End::Exit(5), &restart, &[Order::Leave(Reboot::Restart)]),
    ] {
        let mut machine = booting(true);
        boot_ends(&mut machine, 100, end);
        let on = looking(&mut machine, Keys::Some, Hold::On);
        assert_eq!(on.on_event(secs(109), Event::Tick), std::slice::from_ref(&held));
        assert_eq!(on.on_event(secs(9999), Event::Tick), [], "it is said once");
        assert_eq!(on.wake_at(), None);
        let off = looking(&mut machine, Keys::Some, Hold::Off);
        assert_eq!(off.on_event(secs(20_000), Event::Tick), resumed);
        assert_eq!(off.on_event(secs(20_010), Event::Tick), left);
    }
}

#[test]
fn a_hold_that_came_before_the_end_lets_no_countdown_begin() {
    let mut machine = booting(true);
    looking(&mut machine, Keys::Some, Hold::On);
    assert_eq!(boot_ends(&mut machine, 100, End::Exit(2)).len(), 2, "the countdown, and its stop");
    assert_eq!(machine.on_event(secs(110), Event::Tick), []);
    // A restart that somebody asks for is another matter.
    assert_eq!(
        machine.on_event(secs(111), Event::Asked(Reboot::Restart)),
        [Order::Leave(Reboot::Restart)]
    );
}

#[test]
fn a_retry_begins_anew_where_the_countdown_was_held() {
    let mut machine = booting(true);
    boot_ends(&mut machine, 100, End::Exit(2));
    looking(&mut machine, Keys::Some, Hold::On).on_event(secs(101), Event::Tick);
    assert_eq!(machine.on_event(secs(102), Event::AskedToRetry)[1], Order::Start(Role::Boot));
    assert_eq!(machine.on_event(secs(200), Event::Tick), []);
}

#[test]
fn keys_that_never_came_leave_the_shell_of_last_resort() {
    let mut machine = booting(true);
    looking(&mut machine, Keys::None, Hold::Off);
    assert_eq!(machine.on_event(secs(20), Event::Tick), [], "the boot role may still succeed");
    let why = "no key has come that could log in: starting a shell on the console";
    let orders = boot_ends(&mut machine, 100, End::Exit(0));
    assert_eq!(orders.get(1..).unwrap(), [say(Level::Warn, why), Order::Start(Role::Shell)]);
    let mut machine = booting(true);
    looking(&mut machine, Keys::Some, Hold::Off);
    assert_eq!(boot_ends(&mut machine, 100, End::Exit(0)).len(), 1, "somebody can log in");
}

#[test]
fn rescue_begins_when_the_first_key_comes_to_an_image_without_keys() {
    let mut machine = booting(false);
    looking(&mut machine, Keys::Some, Hold::Off);
    assert_eq!(machine.on_event(secs(5), announce(30, "fetch")), [Order::Start(Role::Rescue)]);
    machine.on_event(secs(5), Event::Started(Role::Rescue, RESCUE));
    assert_eq!(machine.on_event(secs(6), Event::Tick), []);
    assert_eq!(boot_ends(&mut machine, 7, End::Exit(0)).len(), 1, "no shell on the console");
}

#[test]
fn a_shell_that_ends_at_once_is_started_after_a_growing_pause() {
    let mut machine = booting(false);
    boot_ends(&mut machine, 7, End::Exit(3));
    let mut now = secs(7);
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        machine.on_event(now, Event::Started(Role::Shell, SHELL));
        let text = format!("shell role ended with exit status 0: starting it again in {pause} s");
        assert_eq!(
            machine.on_event(now, Event::Ended(SHELL, End::Exit(0))),
            [say(Level::Warn, &text)]
        );
        now += secs(pause);
        assert_eq!(machine.wake_at(), Some(now));
        assert_eq!(machine.on_event(now, Event::Tick), [Order::Start(Role::Shell)]);
    }
}

#[test]
fn it_is_looked_for_the_first_key_until_there_is_one() {
    let mut machine = booting(false);
    assert!(machine.waits_for_a_key());
    boot_ends(&mut machine, 1, End::Exit(3));
    let looked = looking(&mut machine, Keys::Some, Hold::Off).on_event(secs(6), Event::Tick);
    assert_eq!(looked, [Order::Start(Role::Rescue)]);
    assert!(!machine.waits_for_a_key());
}
