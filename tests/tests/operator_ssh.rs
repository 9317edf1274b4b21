//! What an operator sees and does over ssh: what follows the machine, and what changes it for good.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use vmtest::certificate::Presented;
use vmtest::document;
use vmtest::machine::{Machine, OnRestart};
use vmtest::operator::Access;
use vmtest::scenario::Scenario;
use vmtest::stage3::{Debian, minimal};
use vmtest::vm::Vm;

use crate::rescue::{Rescue, failing};

const END: Duration = Duration::from_secs(120);

/// A command that goes on talking until it is dropped.
struct Following {
    ssh: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn start(access: &Access, command: &str) -> anyhow::Result<Self> {
        let mut ssh = access.ssh(command).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(ssh.stdout.take().context("no output")?).lines();
        Ok(Self { ssh, lines })
    }

    /// The next line that is what is waited for; ssh ends by itself in the end.
    fn until(&mut self, is_it: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            let line = line?;
            if is_it(&line) {
                return Ok(line);
            }
            seen.push(line);
        }
        anyhow::bail!("it ended with {seen:#?}")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.ssh.kill();
        let _ended = self.ssh.wait();
    }
}

#[test]
fn status_and_log_follow_what_the_machine_does() -> anyhow::Result<()> {
    let (_scenario, _vm, access) = failing()?;
    let mut log = Following::start(&access, "stage2 log -f")?;
    log.until(|line| line.contains("stage2: eth0: 192.168.0.2/24 through 192.168.0.1"))?;
    let mut json = Following::start(&access, "stage2 status --follow --json")?;
    let json_of = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    json.until(|line| json_of(line)["held"] == false)?;
    let mut text = Following::start(&access, "stage2 status --follow")?;
    text.until(|line| line.starts_with("  phase   "))?;
    access.ask("stage2 hold")?;
    log.until(|line| line.contains("operator: hold"))?;
    json.until(|line| json_of(line)["held"] == true && json_of(line)["phase"] == "hold")?;
    text.until(|line| line == "  held    nothing is started or entered until `stage2 resume`")?;
    access.ask("stage2 resume")?;
    log.until(|line| line.contains("the operator lets the boot go on"))?;
    json.until(|line| json_of(line)["held"] == false)?;
    json.until(|line| json_of(line)["phase"] == "pause")?;
    Ok(())
}

#[test]
fn the_machine_shows_what_it_is_made_of_and_what_it_was_told() -> anyhow::Result<()> {
    let (_scenario, mut vm, access) = failing()?;
    let plan: Value = serde_json::from_str(&access.ask("stage2 plan")?)?;
    assert!(plan.to_string().contains("exit 7") && !plan.to_string().contains("session0001"));
    let inventory = access.ask("stage2 inventory")?;
    for part in ["\nprocessors 1, ", "\ncard       eth0, ", "virtio_net"] {
        assert!(inventory.contains(part), "{part}: {inventory}");
    }
    let net = access.ask("stage2 net")?;
    for part in ["192.168.0.2/24", "default route through 192.168.0.1"] {
        assert!(net.contains(part), "{part}: {net}");
    }
    access.ask("stage2 retry")?;
    vm.expect("beginning anew, as the operator wishes")?;
    vm.expect("next try in 10s")?;
    Ok(())
}

#[test]
fn what_an_operator_fetches_is_what_an_operator_enters() -> anyhow::Result<()> {
    let (scenario, mut vm, access) = failing()?;
    let debian = Debian::prepare(&|line| eprintln!("{line}"))?;
    let sha256 = document::sha256_of_file(&debian.kernel)?;
    scenario.server.serve("/vmlinuz", debian.kernel);
    let kernel = scenario.server.https_url("/vmlinuz");
    let root = scenario.artifact("/root", &minimal::packed()?);
    access.ask("stage2 hold")?;
    let fetched = access.ask(&format!(
        "cd /tmp && stage2 fetch {kernel} --sha256 {sha256} && stage2 fetch {} -o initrd && ls",
        root.url
    ))?;
    assert!(fetched.contains("vmlinuz\n") && fetched.contains("initrd\n"), "{fetched}");
    let load = "stage2 kexec -l /tmp/vmlinuz --initrd=/tmp/initrd --append='console=ttyS0 by=hand'";
    access.ask(load)?;
    vm.has_no("entering the loaded kernel")?;
    // The connection goes with the kernel.
    assert!(!access.run("stage2 kexec -e; sleep 100")?.status.success());
    vm.expect_in_order(&["entering the loaded kernel", minimal::GREETING, " by=hand"])?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}

#[test]
fn an_operator_restarts_the_machine() -> anyhow::Result<()> {
    let rescue = Rescue::shared()?;
    let machine = rescue.machine("");
    let mut vm = Vm::start(&Machine { on_restart: OnRestart::BootAgain, ..machine })?;
    let access = rescue.operator.reach(&mut vm)?;
    access.run("stage2 reboot; sleep 100")?;
    vm.expect_in_order(&["restarting the machine", "reboot: Restarting system", "Linux version"])?;
    rescue.operator.reach(&mut vm)?.run("stage2 poweroff; sleep 100")?;
    vm.expect("reboot: Power down")?;
    Ok(())
}

/// The command says in the boot role's name that it gave up, holds what follows, and has the boot
/// role ended, which does not know of it.
const GIVE_UP: &str = "[ -e /tmp/once ] && exit; touch /tmp/once; stage2 hold; \
    pipe=$(tr '\\0' '\\n' </proc/$PPID/environ | sed -n s/^STAGE2_WATCH_FD=//p); \
    echo over 2 >/proc/$PPID/fd/$pipe; kill -9 $PPID";

#[test]
fn a_hold_stops_the_restart_of_a_machine_that_has_given_up() -> anyhow::Result<()> {
    let rescue = Rescue::shared()?;
    let scenario = Scenario::with_image(Arc::clone(&rescue.image), Presented::Good)?;
    scenario.document(document::commands(
        &[],
        &[&["/bin/sh", "-c", GIVE_UP], &["/bin/echo", "hello from the document"]],
    ));
    let mut vm = scenario.start(&rescue.machine(&scenario.cmdline()))?;
    let access = rescue.operator.reach(&mut vm)?;
    vm.expect("boot role gave up (exit status 2): restarting the machine in 10 s")?;
    vm.expect("held by the operator, until `stage2 resume`: not restarting the machine")?;
    let status: Value = serde_json::from_str(&access.ask("stage2 status --json")?)?;
    assert_eq!((&status["held"], &status["boot_role"]), (&true.into(), &"ended".into()));
    // Longer than the countdown; it is the machine that waits.
    access.ask("sleep 12")?;
    vm.has_no("reboot: Restarting system")?;
    access.ask("stage2 resume")?;
    vm.expect("starting the boot role again, as asked")?;
    vm.expect("hello from the document")?;
    Ok(())
}
