//! A boot role that can only fail.

use super::*;

/// It fails at this second and is due again.
fn fails(machine: &mut Supervisor, at: u64) -> Vec<Order> {
    let orders = boot_ends(machine, at, End::Signal(9));
    if let Some(wake_at) = machine.wake_at() {
        machine.on_event(wake_at, Event::Tick);
        machine.on_event(wake_at, Event::Started(Role::Boot, BOOT));
    }
    orders
}

fn is_started_again(orders: &[Order]) -> bool {
    let again = |order: &Order| matches!(order, Order::Say(_, text) if text.contains("again in"));
    orders.iter().any(again)
}

#[test]
fn a_boot_role_that_has_died_for_six_hours_restarts_the_machine() {
    let mut machine = booting(true);
    assert!(is_started_again(&fails(&mut machine, 1000)));
    let six_hours_later = 1000 + GIVE_UP_AFTER.as_secs();
    assert!(is_started_again(&fails(&mut machine, six_hours_later - 1)));
    assert_eq!(
        boot_ends(&mut machine, six_hours_later + 100, End::Signal(9)),
        [
            Order::Kill(BOOT),
            say(Level::Error, "boot role ended with signal 9 (SIGKILL)"),
            say(Level::Error, "the boot role has failed for 6 h: restarting the machine in 10 s"),
        ]
    );
    assert_eq!(
        machine.on_event(secs(six_hours_later + 110), Event::Tick),
        [Order::Leave(Reboot::Restart)]
    );
}

#[test]
fn a_boot_role_that_dies_after_hours_of_work_is_started_again() {
    let mut machine = booting(true);
    fails(&mut machine, 1);
    assert!(is_started_again(&fails(&mut machine, 2 * GIVE_UP_AFTER.as_secs())));
}

#[test]
fn a_kernel_that_cannot_be_entered_for_six_hours_restarts_the_machine() {
    let mut machine = booting(true);
    machine.on_event(secs(5), Event::NotLeft(Reboot::Kexec));
    let orders = machine.on_event(GIVE_UP_AFTER + secs(5), Event::NotLeft(Reboot::Kexec));
    let restart = "the boot role has failed for 6 h: restarting the machine in 10 s";
    assert_eq!(
        orders[1..],
        [say(Level::Error, "cannot enter the loaded kernel"), say(Level::Error, restart)]
    );
}

#[test]
fn the_six_hours_begin_when_an_operator_cares_or_the_boot_has_an_outcome() {
    let ends: [fn(&mut Supervisor, Duration); 3] = [
        |machine, now| {
            machine.on_event(now, Event::Ended(BOOT, End::Signal(9)));
            machine.on_event(now, Event::AskedToRetry);
            machine.on_event(now, Event::Started(Role::Boot, BOOT));
        },
        |machine, now| {
            looking(machine, Keys::Some, Hold::On).on_event(now, Event::Tick);
            looking(machine, Keys::Some, Hold::Off);
        },
        |machine, now| {
            machine.on_event(now, Event::Heard(Word::Over(BootExit::Done)));
            machine.on_event(now, announce(1, "boot document"));
        },
    ];
    for end in ends {
        let mut machine = booting(true);
        fails(&mut machine, 1);
        end(&mut machine, GIVE_UP_AFTER - secs(100));
        let orders = fails(&mut machine, GIVE_UP_AFTER.as_secs() + 1);
        assert!(is_started_again(&orders), "{orders:?}");
    }
}

#[test]
fn a_hold_stops_the_restart_and_its_end_begins_anew() {
    let mut machine = booting(true);
    fails(&mut machine, 1);
    let late = GIVE_UP_AFTER.as_secs() + 1;
    assert!(!is_started_again(&boot_ends(&mut machine, late, End::Signal(9))));
    looking(&mut machine, Keys::Some, Hold::On).on_event(secs(late + 1), Event::Tick);
    assert_eq!(machine.on_event(secs(late + 99), Event::Tick), []);
    let resumed =
        looking(&mut machine, Keys::Some, Hold::Off).on_event(secs(late + 100), Event::Tick);
    assert_eq!(resumed.last(), Some(&Order::Start(Role::Boot)));
}
