//! PID 1 is given every signal: it dies of none, and does what four of them ask for.

use std::process::Command;
use std::time::Duration;

use vmtest::command;
use vmtest::document;
use vmtest::machine::{Card, Machine};
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

/// Each of so many programs has the kernel's network lock for some five seconds.
const HOLDERS: u32 = 16;

#[test]
fn a_driver_that_holds_the_kernels_network_lock_does_not_keep_the_machine() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let holder = scenario.artifact("/hold", &compiled(HOLD_NETWORK_LOCK)?);
    let hold_and_restart = format!(
        "chmod 755 {{{{.files.hold.name}}}}; \
         for i in $(seq {HOLDERS}); do setsid {{{{.files.hold.name}}}} eth0 & done; \
         sleep 2; kill -15 1; sleep 60"
    );
    let command: &[&str] = &["/bin/sh", "-c", &hold_and_restart];
    scenario.document(document::commands(&[("hold", &holder)], &[command]));
    let machine = Machine { cards: vec![Card::new("e1000")], ..scenario.machine() };
    let mut vm = scenario.start(&machine)?;
    vm.expect_in_order(&["restarting the machine", "not waiting for hold"])?;
    vm.expect_within(END, "a driver or a disk holds this kernel for 30 s: leaving it by force")?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}

const HOLD_NETWORK_LOCK: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/programs/hold_network_lock.c");

/// A static program that runs in the ramdisk.
fn compiled(source: &str) -> anyhow::Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let program = directory.path().join("program");
    command::output(Command::new("gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
    Ok(std::fs::read(program)?)
}
