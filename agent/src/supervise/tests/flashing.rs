//! Nothing cuts a flasher off.

use super::*;

const FIRST: Flasher = Flasher::Running(93);
const SECOND: Flasher = Flasher::Running(94);

/// A machine that is to restart at second 110.
fn restarting() -> Supervisor {
    let mut machine = booting(true);
    boot_ends(&mut machine, 100, End::Exit(2));
    machine
}

/// What is done at this second, if this is what is seen then.
fn at(machine: &mut Supervisor, second: u64, flasher: Flasher) -> Vec<Order> {
    machine.look(Surroundings { keys: Keys::Some, hold: Hold::Off, flasher });
    machine.on_event(secs(second), Event::Tick)
}

fn waits_for(pid: u32) -> [Order; 1] {
    let text = format!(
        "flasher (process {pid}) may be writing to a card: not restarting the machine before it has \
         ended"
    );
    [say(Level::Warn, &text)]
}

const RESTARTS: [Order; 1] = [Order::Leave(Reboot::Restart)];

#[test]
fn a_restart_that_is_due_waits_for_a_flasher_and_says_so_every_ten_seconds() {
    let mut machine = restarting();
    assert_eq!(at(&mut machine, 109, FIRST), []);
    assert_eq!(at(&mut machine, 110, FIRST), waits_for(93));
    assert_eq!(at(&mut machine, 119, FIRST), []);
    assert_eq!(machine.wake_at(), Some(secs(120)));
    assert_eq!(at(&mut machine, 120, FIRST), waits_for(93));
    assert_eq!(at(&mut machine, 130, Flasher::None), RESTARTS);
}

#[test]
fn each_flasher_is_waited_for_as_long_as_a_command_may_take() {
    let mut machine = restarting();
    at(&mut machine, 110, FIRST);
    assert_eq!(at(&mut machine, 7309, FIRST), waits_for(93));
    assert_eq!(at(&mut machine, 7319, SECOND), waits_for(94));
    assert_eq!(at(&mut machine, 14_518, SECOND), waits_for(94));
    assert_eq!(at(&mut machine, 14_528, SECOND), RESTARTS);
}

#[test]
fn a_flasher_that_has_left_a_card_for_an_operator_ends_the_countdown() {
    let mut machine = restarting();
    at(&mut machine, 110, FIRST);
    let stays = "a network card or a disk needs an operator, and the machine must not restart: the \
                 machine stays in rescue";
    let ended = at(&mut machine, 120, Flasher::LeftForAnOperator);
    assert_eq!(ended, [say(Level::Error, stays)]);
    assert_eq!(at(&mut machine, 9999, Flasher::None), []);
}

#[test]
fn there_is_a_shell_while_a_flasher_is_waited_for_if_nobody_can_log_in() {
    let mut machine = booting(false);
    machine.on_event(secs(1), announce(10, "network"));
    machine.on_event(secs(11), Event::Tick);
    assert_eq!(machine.on_event(secs(41), Event::Tick).len(), 1, "the countdown, and no shell");
    machine.look(Surroundings { keys: Keys::None, hold: Hold::Off, flasher: FIRST });
    let [warning, shell] = nobody_can_log_in();
    let [wait] = waits_for(93);
    assert_eq!(machine.on_event(secs(51), Event::Tick), [wait, warning, shell]);
}

#[test]
fn an_operators_restart_that_the_kernel_refused_is_tried_again_whatever_a_flasher_left() {
    let mut machine = booting(true);
    machine.on_event(secs(5), Event::NotLeft(Reboot::Restart));
    assert_eq!(at(&mut machine, 15, Flasher::LeftForAnOperator).last(), RESTARTS.last());
}
