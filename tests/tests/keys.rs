//! Keys that are not in the image: from a parameter, from a boot document; and none at all.

use std::fs;
use std::path::PathBuf;

use vmtest::document::{self, Artifact};
use vmtest::machine::USER_NETWORK_GUEST;
use vmtest::operator::{self, Operator};
use vmtest::scenario::Scenario;
use vmtest::server::{Fault, Times};
use vmtest::shell::answer;

use crate::rescue::machine;

/// An operator and a scenario whose image lets nobody in.
fn nobody() -> anyhow::Result<(Operator, Scenario)> {
    Ok((Operator::new()?, Scenario::new()?))
}

/// A document that says hello, after it has fetched these files.
fn hello(files: &[(&str, &Artifact)]) -> String {
    document::commands(files, &[&["/bin/echo", "hello from the document"]])
}

#[test]
fn keys_from_the_network_let_operators_in_and_hold_nobody_up() -> anyhow::Result<()> {
    let (operator, scenario) = nobody()?;
    scenario.document(hello(&[]));
    let keys = fs::read(operator.public_key())?;
    scenario.server.serve("/keys", &keys[..]).fault("/keys", Fault::Status(404), Times::Always);
    let cmdline = format!(
        "{} epoxy.ssh_keys={} epoxy.ssh_keys_sha256={}",
        scenario.cmdline(),
        scenario.server.https_url("/keys"),
        document::sha256(&keys)
    );
    let mut vm = scenario.start(&machine(&scenario.image, &cmdline))?;
    let access = operator.reach(&mut vm)?;
    vm.expect("hello from the document")?;
    vm.expect("the boot document ran to its end: the machine stays in rescue")?;
    assert_eq!(access.run("echo in")?.status.code(), Some(255), "there are no keys yet");
    vm.has_no("may log in")?;
    // Whoever is at the console is let in meanwhile, and sees why.
    vm.expect("no key has come that could log in: starting a shell on the console")?;
    vm.expect("  login   nobody yet: no key has come from epoxy.ssh_keys; mend its server")?;
    scenario.server.heal("/keys");
    vm.expect("ssh: 1 key from https://")?;
    let file = "/run/stage2/parameter/authorized_keys";
    assert_eq!(access.ask(&format!("echo in; stat -c %a {file}"))?, "in\n600\n");
    let (status, _) = answer(&mut vm, "stage2 status")?;
    assert!(!status.contains("  login "), "{status}");
    // What is named no more is taken back with the next attempt; who is in stays.
    access.ask("stage2 set epoxy.ssh_keys= && stage2 retry")?;
    vm.expect("ssh: the keys of an earlier epoxy.ssh_keys are taken back")?;
    assert_eq!(access.run("echo in")?.status.code(), Some(255), "the key is not known any more");
    Ok(())
}

/// A host key, and the line of `known_hosts` for it.
fn host_key(directory: &tempfile::TempDir) -> anyhow::Result<(PathBuf, String)> {
    let path = directory.path().join("host");
    operator::make_key(&path)?;
    let public = fs::read_to_string(path.with_extension("pub"))?;
    let line = format!("{USER_NETWORK_GUEST} {}", public.trim_end_matches(" test\n"));
    Ok((path, line))
}

#[test]
fn a_verified_document_brings_operators_keys_and_the_host_key() -> anyhow::Result<()> {
    let (operator, scenario) = nobody()?;
    let directory = tempfile::tempdir()?;
    let (private, known_hosts) = host_key(&directory)?;
    let keys = scenario.artifact("/keys", &fs::read(operator.public_key())?);
    let host = scenario.artifact("/host-key", &fs::read(&private)?);
    let failing = [&["/bin/sh", "-c", "cat /run/stage2/document/*; exit 7"][..]];
    let files = [("stage2_authorized_keys", &keys), ("stage2_ssh_host_key", &host)];
    scenario.document(document::commands(&files, &failing[..]));
    let mut vm = scenario.start(&machine(&scenario.image, &scenario.cmdline()))?;
    vm.expect("ssh: 1 key of the boot document may log in")?;
    vm.expect(&format!("ssh: known_hosts: {known_hosts}"))?;
    let access = operator.reach_known(&vm, &known_hosts)?;
    vm.expect("next try in 10s")?;
    assert_eq!(access.ask("echo in; stat -c %a /run/stage2/document/ssh*")?, "in\n600\n");
    let report = &scenario.server.reports()[0];
    assert_eq!(report.ssh_known_hosts.as_deref(), Some(known_hosts.as_str()));
    let secret = fs::read_to_string(&private)?;
    let secret = secret.lines().nth(2).unwrap_or_default();
    let said = access.ask("stage2 log --all; stage2 plan; stage2 status --json")?;
    assert!(!secret.is_empty() && !said.contains(secret), "{said}");
    assert!(!format!("{:?}", scenario.server.reports()).contains(secret));
    // A document without them takes them back.
    scenario.document(hello(&[]));
    access.ask("stage2 retry")?;
    vm.expect("the keys of an earlier boot document may not log in any more")?;
    vm.expect("hello from the document")?;
    assert_eq!(access.run("true")?.status.code(), Some(255));
    Ok(())
}

#[test]
fn keys_without_a_digest_let_nobody_in_and_the_boot_goes_on() -> anyhow::Result<()> {
    let (operator, scenario) = nobody()?;
    let keys = scenario.artifact("/keys", &fs::read(operator.public_key())?);
    let keys = Artifact { sha256: None, ..keys };
    scenario.document(hello(&[("stage2_authorized_keys", &keys)]));
    let mut vm = scenario.start(&machine(&scenario.image, &scenario.cmdline()))?;
    vm.expect("ssh: stage2_authorized_keys is left out: expected a sha256 in the boot document")?;
    vm.expect("hello from the document")?;
    vm.expect("nobody can log in: starting a shell on the console")?;
    vm.expect("  login   nobody: this image has no keys, and epoxy.ssh_keys does not name any")?;
    vm.has_no("ssh: listening")
}
