//! PID 1 is given every signal: it dies of none, and does what four of them ask for.

use std::time::Duration;

use vmtest::document;
use vmtest::scenario::Scenario;
use vmtest::vm::Vm;

/// PID 1 has a few seconds to stop everything.
const END: Duration = Duration::from_secs(60);

/// What every signal means: SIGRTMIN is 34 with glibc.
const ENTER_LOADED_KERNEL: u32 = 40;

/// Boots a machine whose boot document runs this shell script.
fn boot_running(script: &str) -> anyhow::Result<(Scenario, Vm)> {
    let scenario = Scenario::new()?;
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", script]]));
    let vm = scenario.boot()?;
    Ok((scenario, vm))
}

#[test]
fn pid_1_survives_every_signal_that_asks_for_nothing() -> anyhow::Result<()> {
    let (_scenario, mut vm) = boot_running(
        "for signal in $(seq 1 64); do \
             case $signal in 2|10|12|15|40) continue;; esac; \
             kill -$signal 1; \
         done; \
         echo survived as $(cat /proc/1/comm)",
    )?;
    vm.expect("survived as init")?;
    vm.expect("Result: success")?;
    vm.has_no("Kernel panic")
}

#[test]
fn pid_1_stays_when_no_kernel_is_loaded_that_it_could_enter() -> anyhow::Result<()> {
    let (_scenario, mut vm) =
        boot_running(&format!("kill -{ENTER_LOADED_KERNEL} 1; sleep 1; echo still here"))?;
    vm.expect("no kernel is loaded that could be entered, going on")?;
    vm.expect("still here")?;
    Ok(())
}

#[test]
fn sigterm_and_sigint_restart_the_machine() -> anyhow::Result<()> {
    for signal in [15, 2] {
        let (_scenario, mut vm) = boot_running(&format!("kill -{signal} 1; sleep 60"))?;
        vm.expect_in_order(&["restarting the machine", "reboot: Restarting system"])?;
        assert!(vm.wait_exit(END)?.success());
    }
    Ok(())
}

#[test]
fn sigusr2_powers_the_machine_off() -> anyhow::Result<()> {
    let (_scenario, mut vm) = boot_running("kill -12 1; sleep 60")?;
    vm.expect_in_order(&["powering the machine off", "reboot: Power down"])?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}

#[test]
fn sigusr1_halts_the_machine() -> anyhow::Result<()> {
    let (_scenario, mut vm) = boot_running("kill -10 1; sleep 60")?;
    vm.expect_in_order(&["halting the machine", "reboot: System halted"])?;
    Ok(())
}

#[test]
fn busyboxs_reboot_and_poweroff_work_unchanged() -> anyhow::Result<()> {
    for (command, said) in
        [("reboot", "reboot: Restarting system"), ("poweroff", "reboot: Power down")]
    {
        let (_scenario, mut vm) = boot_running(&format!("{command}; sleep 60"))?;
        vm.expect(said)?;
        assert!(vm.wait_exit(END)?.success());
    }
    Ok(())
}

#[test]
fn ctrl_alt_del_restarts_the_machine() -> anyhow::Result<()> {
    let (_scenario, mut vm) = boot_running("echo ready; sleep 60")?;
    vm.expect("ready")?;
    vm.control()?.press(&["ctrl", "alt", "delete"])?;
    vm.expect_in_order(&["restarting the machine", "reboot: Restarting system"])?;
    Ok(())
}
