//! A boot role that is through, and stays for the network or for keys.

use super::*;

#[test]
fn a_boot_role_that_stays_for_the_lease_is_through_all_the_same() {
    for (exit, text) in [
        (BootExit::Done, "the boot document ran to its end: the machine stays in rescue"),
        (
            BootExit::NothingToDo,
            "the kernel command line asks for no boot: the machine stays in rescue",
        ),
    ] {
        let mut machine = booting(false);
        let [warning, shell] = nobody_can_log_in();
        let over = machine.on_event(secs(5), Event::Heard(Word::Over(exit)));
        assert_eq!(over, [say(Level::Info, text), warning, shell]);
        assert_eq!(machine.wake_at(), None, "it has no deadline any more");
        let gone = "boot role ended with signal 9 (SIGKILL): until `stage2 retry` nothing keeps the \
                    network, and no keys are fetched";
        assert_eq!(
            boot_ends(&mut machine, 900, End::Signal(9)),
            [Order::Kill(BOOT), say(Level::Warn, gone)],
            "what it had to do is not done twice"
        );
        assert_eq!(machine.on_event(secs(9999), Event::Tick), []);
    }
}

#[test]
fn a_boot_role_that_was_through_may_end_without_another_word() {
    let mut machine = booting(true);
    machine.on_event(secs(5), Event::Heard(Word::Over(BootExit::NeedsOperator)));
    assert_eq!(boot_ends(&mut machine, 9, End::Exit(4)), []);
    assert_eq!(machine.wake_at(), None);
    assert_eq!(machine.on_event(secs(20), Event::AskedToRetry)[1], Order::Start(Role::Boot));
}

#[test]
fn a_boot_role_that_begins_anew_after_its_rest_has_deadlines_again() {
    let mut machine = booting(true);
    machine.on_event(secs(5), Event::Heard(Word::Over(BootExit::Done)));
    machine.on_event(secs(50), announce(30, "network"));
    assert_eq!(machine.wake_at(), Some(secs(80)));
    let restart =
        say(Level::Error, "boot role ended with signal 9 (SIGKILL): starting it again in 1 s");
    assert_eq!(boot_ends(&mut machine, 60, End::Signal(9)), [Order::Kill(BOOT), restart]);
}

#[test]
fn what_a_resting_boot_role_called_for_does_not_follow_when_it_begins_anew() {
    for exit in [BootExit::GaveUp, BootExit::Restart] {
        let mut machine = booting(true);
        machine.on_event(secs(5), Event::Heard(Word::Over(exit)));
        assert_eq!(machine.wake_at(), Some(secs(15)), "the restart");
        machine.on_event(secs(9), announce(30, "network"));
        assert_eq!(machine.on_event(secs(16), Event::Tick), []);
        assert_eq!(machine.wake_at(), Some(secs(39)));
    }
}

#[test]
fn a_held_restart_follows_after_all_when_the_resting_boot_role_does_not_begin_anew() {
    let mut machine = booting(true);
    machine.on_event(secs(5), Event::Heard(Word::Over(BootExit::GaveUp)));
    looking(&mut machine, Keys::Some, Hold::On).on_event(secs(6), Event::Tick);
    let restart =
        say(Level::Error, "boot role gave up (exit status 2): restarting the machine in 10 s");
    let off = looking(&mut machine, Keys::Some, Hold::Off);
    assert_eq!(off.on_event(secs(50), Event::Tick), [restart]);
    assert_eq!(off.on_event(secs(60), Event::Tick), [Order::Leave(Reboot::Restart)]);
}
