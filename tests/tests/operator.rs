//! What an operator sees and can do: the `stage2` command in a shell on the serial console.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use serde_json::{Value, json};
use vmtest::document::{self, Artifact, InitrdForm};
use vmtest::image::Image;
use vmtest::machine::{Card, Machine};
use vmtest::scenario::{HOST, Scenario};
use vmtest::shell::answer;
use vmtest::stage3::minimal;
use vmtest::vm::Vm;

const END: Duration = Duration::from_secs(60);

/// Opens a shell on the serial console, once; the image has it only where nothing else helps.
const SHELL: &str = "[ -e /tmp/shell ] || { touch /tmp/shell; \
                     setsid -c sh -l </dev/ttyS0 >/dev/ttyS0 2>&1 & }";

/// The last line of a message of the day.
const HINT: &str = "`stage2 --help` tells what you can do: hold, set, retry, resume, log, plan ...";

/// Boots a machine that has nothing to do: PID 1 opens the shell.
fn idle(scenario: &Scenario) -> anyhow::Result<Vm> {
    let ip = format!("192.168.0.2::192.168.0.1:255.255.255.0:{HOST}:eth0:off::");
    scenario.start(&scenario.machine_with(&format!("net.ifnames=0 epoxy.ip={ip}")))
}

/// Boots a machine whose boot document opens the shell and runs `script`, before `more`.
fn with_a_shell(scenario: &Scenario, script: &str, more: &str) -> anyhow::Result<Vm> {
    let mut document: Value = serde_json::from_str(more)?;
    let commands = document["v1"]["commands"].as_array_mut().unwrap();
    commands.insert(0, json!(["/bin/sh", "-c", format!("{script}; {SHELL}")]));
    scenario.document(document.to_string());
    scenario.boot()
}

/// The JSON that a command answers with.
fn json_of(vm: &mut Vm, command: &str) -> anyhow::Result<Value> {
    let (answer, _) = answer(vm, command)?;
    let line = answer.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    serde_json::from_str(line).map_err(|error| anyhow::anyhow!("{error}: {answer}"))
}

#[test]
fn a_machine_that_has_nothing_to_do_is_told_what_to_boot() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(document::commands(&[], &[&["/bin/echo", "hello from the document"]]));
    let mut vm = idle(&scenario)?;
    vm.expect("nobody can log in: starting a shell on the console")?;
    vm.expect("phase   nothing to do: neither epoxy.stage1 nor epoxy.stage2 is given")?;
    vm.expect(HINT)?;
    let (text, status) = answer(&mut vm, "stage2")?;
    assert!(text.lines().count() <= 24 && text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(text.contains("address eth0 192.168.0.2/24\n") && status == 0, "{text}");
    let (text, status) = answer(&mut vm, "stage2 plan")?;
    assert!(text.contains("stage2: no boot document has been read yet") && status == 1, "{text}");
    let url = scenario.server.https_url(&scenario.route("stage2"));
    let (text, status) = answer(&mut vm, &format!("stage2 set epoxy.stage2={url}"))?;
    assert!(text.contains("set: it counts from the next attempt on") && status == 0, "{text}");
    vm.type_line("stage2 retry")?;
    vm.expect("starting the boot role again, as asked")?;
    vm.expect("hello from the document")?;
    vm.expect("the boot document ran to its end: the machine stays in rescue")?;
    let (plan, _) = answer(&mut vm, "stage2 plan")?;
    assert!(plan.contains("hello from the document") && !plan.contains("session0001"), "{plan}");
    let status = json_of(&mut vm, "stage2 status --json")?;
    assert_eq!((&status["phase"], &status["boot_role"]), (&json!("done"), &json!("ended")));
    let redacted = url.replace("session0001", "…");
    assert_eq!(status["set"], json!({ "epoxy.stage2": redacted }));
    Ok(())
}

#[test]
fn a_held_boot_is_mended_and_goes_on_into_stage3() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let document = scenario.minimal_stage3("console=ttyS0", InitrdForm::OneWord)?;
    let hold = "[ -e /tmp/shell ] || stage2 hold";
    let mut vm = with_a_shell(&scenario, hold, &document)?;
    vm.expect("held by the operator before /sbin/kexec: `stage2 resume` lets the boot go on")?;
    vm.expect("held    nothing is started or entered until `stage2 resume`")?;
    vm.expect(HINT)?;
    let status = json_of(&mut vm, "stage2 status --json")?;
    assert_eq!((&status["phase"], &status["held"]), (&json!("hold"), &json!(true)), "{status}");
    let (text, _) = answer(&mut vm, "stage2 set epoxy.project=mended")?;
    assert!(text.contains("set: it counts from `stage2 resume` on"), "{text}");
    vm.has_no("entering the loaded kernel")?;
    vm.type_line("stage2 resume")?;
    vm.expect("beginning anew, as the operator wishes")?;
    vm.expect("entering the loaded kernel")?;
    vm.expect_in_order(&[minimal::GREETING, " epoxy.project=mended "])?;
    assert!(vm.wait_exit(END)?.success());
    assert_eq!(scenario.server.reports(), [], "nothing has failed");
    Ok(())
}

#[test]
fn a_kernel_that_is_loaded_can_still_be_held() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let document = scenario.minimal_stage3("console=ttyS0", InitrdForm::OneWord)?;
    // One command, in which the hold comes after the boot role's own look.
    let document = document.replace(
        "\"/sbin/kexec\"",
        "\"/bin/sh\", \"-c\", \
        \"stage2 hold; exec /sbin/kexec \\\"$@\\\"\", \"sh\"",
    );
    let mut vm = with_a_shell(&scenario, "true", &document)?;
    vm.expect("the next kernel is loaded, and held by the operator")?;
    let (text, _) = answer(&mut vm, "stage2 status; cat /sys/kernel/kexec_loaded")?;
    assert!(text.contains("phase   /bin/sh for ") && text.contains("  held "), "{text}");
    assert!(text.ends_with("\n1"), "{text}");
    vm.has_no("entering the loaded kernel")?;
    vm.type_line("stage2 resume")?;
    vm.expect_in_order(&["entering the loaded kernel", minimal::GREETING])?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}

#[test]
fn a_pause_between_two_attempts_ends_when_the_operator_wants() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let failing = document::commands(&[], &[&["/bin/sh", "-c", "exit 7"]]);
    let mut vm = with_a_shell(&scenario, "true", &failing)?;
    // The same state is not shown again after the second failure.
    vm.expect("phase   pause for 0 s, attempt 1, next try in 10 s")?;
    vm.expect("exit status 7; next try in 20s")?;
    let status = json_of(&mut vm, "stage2 status --json")?;
    assert_eq!((&status["phase"], &status["attempt"]), (&json!("pause"), &json!(2)), "{status}");
    assert_eq!(status["last_error"]["message"], "[\"/bin/sh\" \"-c\" \"exit 7\"] : exit status 7");
    scenario.document(document::commands(&[], &[&["/bin/echo", "hello from the document"]]));
    vm.type_line("stage2 retry")?;
    vm.expect("beginning anew, as the operator wishes")?;
    vm.expect("hello from the document")?;
    vm.has_no("attempt 2, next try in 20 s")
}

#[test]
fn an_operator_fetches_what_is_verified_and_nothing_else() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let Artifact { url, sha256 } = scenario.artifact("/tool", b"#!/bin/sh\necho tool\n");
    let sha256 = sha256.unwrap();
    let mut vm = idle(&scenario)?;
    vm.expect(HINT)?;
    let fetch = format!("cd /tmp; stage2 fetch {url} --sha256 {sha256} && sh ./tool");
    let (text, status) = answer(&mut vm, &fetch)?;
    assert!(text.ends_with("\ntool") && status == 0, "{text}");
    let wrong = "0".repeat(64);
    let fetch = format!("stage2 fetch {url} --sha256 {wrong} -o x; echo is $?; ls x*");
    let (text, _) = answer(&mut vm, &fetch)?;
    let refused = format!("stage2: cannot fetch x: {url}: expected sha256 {wrong}, got {sha256}");
    assert!(text.contains(&refused) && text.contains("\nis 1\n"), "{text}");
    assert!(text.ends_with("ls: x*: No such file or directory"), "{text}");
    Ok(())
}

#[test]
fn the_machine_is_shown_and_turned_off() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let mut vm = idle(&scenario)?;
    vm.expect(HINT)?;
    let inventory = json_of(&mut vm, "stage2 inventory --json")?;
    assert_eq!(inventory["processors"], 1, "{inventory}");
    assert_eq!(inventory["cards"][0]["driver"], "virtio_net", "{inventory}");
    let (net, _) = answer(&mut vm, "stage2 net")?;
    assert!(net.contains("\n           default route through 192.168.0.1\n"), "{net}");
    let (log, _) = answer(&mut vm, "stage2 log | grep stage2: | head -n 1")?;
    assert!(log.contains("] stage2: eth0: 192.168.0.2/24 through 192.168.0.1"), "{log}");
    let (usage, status) = answer(&mut vm, "stage2 stop")?;
    assert!(usage.contains("stage2: unknown command \"stop\": `stage2 --help` lists them"));
    assert_eq!(status, 2, "{usage}");
    vm.type_line("stage2 poweroff")?;
    vm.expect("reboot: Power down")?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}

#[test]
fn a_key_opens_a_shell_on_the_console_where_the_policy_has_it_so() -> anyhow::Result<()> {
    let specification = "cmdline = \"console=ttyS0\"\npolicy.console_shell = true\n";
    let image = Image::specified("shell", specification)?;
    let cmdline = "net.ifnames=0 epoxy.ip=192.168.0.2::192.168.0.1:255.255.255.0::eth0:off::";
    let machine = Machine::new(256)
        .with_kernel(&image.vmlinuz, None, cmdline)
        .with_card(Card::new("virtio-net-pci"));
    // Without a cable the boot role is busy with the network.
    let mut vm = Vm::start(&Machine { paused: true, ..machine })?;
    let mut control = vm.control()?;
    control.set_link(vmtest::machine::CARD, false)?;
    control.resume()?;
    vm.expect("press Enter on the console for a shell")?;
    vm.has_no(HINT)?;
    vm.type_line("")?;
    vm.expect(HINT)?;
    let status = json_of(&mut vm, "stage2 status --json")?;
    assert_eq!(status["phase"], "network", "{status}");
    // The same shell again.
    vm.type_line("exit")?;
    vm.expect("press Enter on the console for a shell")?;
    vm.type_line("")?;
    vm.expect(HINT)?;
    // What is wrong with the network is mended, too.
    vm.type_line("stage2 set epoxy.ip=192.168.0.3::192.168.0.1:255.255.255.0::eth0:off::")?;
    vm.expect("set: it counts from the next attempt on")?;
    vm.type_line("stage2 retry")?;
    vm.expect("beginning anew, as the operator wishes")?;
    control.set_link(vmtest::machine::CARD, true)?;
    vm.expect("eth0: 192.168.0.3/24 through 192.168.0.1")?;
    Ok(())
}
