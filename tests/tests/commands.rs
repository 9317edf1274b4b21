//! What the commands of a boot document meet in the machine.

use vmtest::document;
use vmtest::scenario::Scenario;

/// Flow control of a terminal, on by default: the other side takes no more.
const XOFF: &str = "\x13";

#[test]
fn a_console_that_takes_nothing_does_not_hold_a_command_up() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let print = "echo line $((40 + 2)), please; head -n 1 < /dev/console; yes | head -c 400000";
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", print]]));
    let mut vm = scenario.boot()?;
    vm.expect("line 42, please")?;
    vm.type_line(XOFF)?;
    // The kernel's log takes no notice of flow control.
    vm.expect("the console takes nothing: dropping what the command prints")?;
    vm.expect("Result: success")?;
    Ok(())
}

#[test]
fn commands_are_not_the_first_to_go_when_memory_is_short() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let scores = "read own < /proc/self/oom_score_adj; read boot < /proc/$PPID/oom_score_adj; \
                  echo command $own, boot role $boot";
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", scores]]));
    scenario.boot()?.expect("command 0, boot role 200")?;
    Ok(())
}

#[test]
fn what_a_command_of_ours_logs_is_on_the_console_once() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(document::commands(&[], &[&["/sbin/kexec", "/nothing"]]));
    let mut vm = scenario.boot()?;
    vm.expect("stage2: kexec: cannot ")?;
    vm.expect("Result: error: ")?;
    assert_eq!(vm.evidence().matches("stage2: kexec: cannot ").count(), 1, "{}", vm.evidence());
    Ok(())
}
