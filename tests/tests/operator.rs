//! What an operator sees and can do: the `stage2` command, on the serial console's shell and as a
//! command of a boot document.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use vmtest::document;
use vmtest::scenario::{DOCUMENT, Scenario};
use vmtest::server::{Fault, Times};
use vmtest::vm::Vm;

/// Ends a command's output on the console. Split, so that the echo of what is typed has none.
const END: &str = "echo end-of''-answer";

/// A shell on the serial console, beside the boot role: a document's command starts it, as PID 1
/// does when nobody else can log in.
const SHELL: &str = "setsid /init shell </dev/null >/dev/null 2>&1 &";

/// What a document runs first.
fn with_a_shell(more: &[&[&str]]) -> String {
    let mut commands = vec![&["/bin/sh", "-c", SHELL][..]];
    commands.extend(more);
    document::commands(&[], &commands)
}

/// Types a command and returns what it answers.
fn answer(vm: &mut Vm, command: &str) -> anyhow::Result<String> {
    vm.type_line(&format!("{command}; {END}"))?;
    let before = vm.console.lines().len();
    vm.expect("end-of-answer")?;
    let lines = vm.console.lines();
    Ok(lines[before.saturating_sub(1)..].join("\n"))
}

/// The JSON that a command answers with.
fn json(vm: &mut Vm, command: &str) -> anyhow::Result<Value> {
    let answer = answer(vm, command)?;
    let line = answer.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    Ok(serde_json::from_str(line).map_err(|error| anyhow::anyhow!("{error}: {answer}"))?)
}

#[test]
fn a_failed_attempt_is_told_on_the_console_and_by_every_command() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(with_a_shell(&[&["/bin/sh", "-c", "exit 7"]]));
    let mut vm = scenario.boot()?;
    vm.expect("phase   pause for")?;
    vm.expect("exit status 7")?;
    vm.expect("address eth0 192.168.0.2/24")?;
    vm.expect("exit status 7; next try in 10s")?;
    let status = json(&mut vm, "stage2 status --json")?;
    assert_eq!(status["version"], 1, "{status}");
    assert!(
        status["last_error"]["message"].as_str().unwrap().contains("exit status 7"),
        "{status}"
    );
    assert_eq!(status["addresses"][0]["address"], "192.168.0.2/24", "{status}");
    Ok(())
}
