//! Every way in which a boot attempt fails: the line that an operator sees, the report that the
//! boot server gets, and what the machine does next.

use std::fs::File;
use std::time::Duration;

use vmtest::document::{self, Artifact, InitrdForm};
use vmtest::machine::Machine;
use vmtest::scenario::{DOCUMENT, Scenario};
use vmtest::server::{Fault, Times};
use vmtest::vm::Vm;

const PAYLOAD: &str = "/payload";

/// Two thirds of what the machine has free.
const LARGE_BYTES: u32 = 120 << 20;

/// More than a socket buffers, so that a body that is cut is cut in the middle.
fn payload() -> Vec<u8> {
    bytes(1_000_000)
}

fn bytes(length: u32) -> Vec<u8> {
    (0..length).map(|number| (number >> 3) as u8).collect()
}

/// A document that fetches `artifact` and greets.
fn greet_with(artifact: &Artifact) -> String {
    document::commands(
        &[("payload", artifact)],
        &[&["/bin/busybox", "echo", "hello from the document"]],
    )
}

/// The attempt fails with `reason`, which the console and the boot server are told; the machine is
/// in no other kernel, and says when it will try again.
fn expect_failure(scenario: &Scenario, vm: &mut Vm, reason: &str) -> anyhow::Result<()> {
    vm.expect(&format!("Result: error: {reason}"))?;
    vm.expect(&format!("boot attempt: {reason}; next try in 10s"))?;
    vm.has_no("entering the loaded kernel")?;
    let reports = scenario.server.reports();
    let told = reports.last().map(|report| report.message.as_str());
    assert_eq!(told, Some(format!("error: {reason}").as_str()));
    Ok(())
}

/// A document with the right payload is followed to its end.
fn expect_success(vm: &mut Vm) -> anyhow::Result<()> {
    vm.expect_in_order(&[
        "hello from the document",
        "Result: success",
        "the boot document ran to its end: the machine stays in rescue",
    ])?;
    Ok(())
}

#[test]
fn a_file_with_the_wrong_digest_is_never_used() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let right = scenario.artifact(PAYLOAD, &payload());
    let wrong = "0".repeat(64);
    scenario.document(greet_with(&Artifact { sha256: Some(wrong.clone()), ..right.clone() }));
    let mut vm = scenario.boot()?;
    let got = right.sha256.unwrap_or_default();
    let reason = format!("cannot fetch payload: {}: expected sha256 {wrong}, got {got}", right.url);
    expect_failure(&scenario, &mut vm, &reason)?;
    vm.has_no("hello from the document")
}

#[test]
fn a_body_that_ends_early_is_fetched_on_from_there() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(greet_with(&scenario.artifact(PAYLOAD, &payload())));
    scenario.server.fault(PAYLOAD, Fault::TruncateAfter(500_000), Times::First(1));
    let mut vm = scenario.boot()?;
    let url = scenario.server.https_url(PAYLOAD);
    vm.expect(&format!("payload: cannot GET {url}: "))?;
    vm.expect("after 500000 of 1000000 bytes; next try in 1s")?;
    expect_success(&mut vm)?;
    let requests = scenario.server.requests_for(PAYLOAD);
    let ranges: Vec<_> = requests.iter().map(|request| request.header("range")).collect();
    assert_eq!(ranges.last(), Some(&Some("bytes=500000-")));
    Ok(())
}

#[test]
fn a_file_that_the_server_has_not_fails_the_attempt_at_once() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let artifact = scenario.artifact(PAYLOAD, &payload());
    scenario.document(greet_with(&artifact));
    scenario.server.fault(PAYLOAD, Fault::Status(404), Times::Always);
    let mut vm = scenario.boot()?;
    let reason = format!("cannot fetch payload: cannot GET {}: HTTP 404 Not Found", artifact.url);
    expect_failure(&scenario, &mut vm, &reason)
}

#[test]
fn a_server_that_is_broken_for_a_while_is_asked_again() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let artifact = scenario.artifact(PAYLOAD, &payload());
    scenario.document(greet_with(&artifact));
    scenario.server.fault(PAYLOAD, Fault::Status(500), Times::First(2));
    let mut vm = scenario.boot()?;
    let reason = format!("payload: cannot GET {}: HTTP 500 Internal Server Error", artifact.url);
    vm.expect(&format!("{reason}; next try in 1s"))?;
    vm.expect(&format!("{reason}; next try in 2s"))?;
    expect_success(&mut vm)
}

#[test]
fn a_server_that_is_silent_before_its_answer_is_asked_again_after_30_s() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let artifact = scenario.artifact(PAYLOAD, &payload());
    scenario.document(greet_with(&artifact));
    scenario.server.fault(PAYLOAD, Fault::Silence, Times::First(1));
    let mut vm = scenario.boot()?;
    let url = &artifact.url;
    vm.expect(&format!("payload: cannot GET {url}: no answer within 30s; next try in 1s"))?;
    expect_success(&mut vm)
}

#[test]
fn a_file_whose_length_is_not_told_is_taken_and_verified_too() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let artifact = scenario.artifact(PAYLOAD, &payload());
    scenario.document(greet_with(&artifact));
    scenario.server.fault(PAYLOAD, Fault::Chunked, Times::Always);
    let mut vm = scenario.boot()?;
    vm.expect(&format!("fetching payload from {} (length not known)", artifact.url))?;
    vm.expect("payload: 976.5 KiB in ")?;
    vm.expect(", sha256 verified")?;
    expect_success(&mut vm)?;
    vm.has_no("next try in")
}

/// The report of an attempt that worked is lost for this reason, and the machine minds no further;
/// returns how many warnings there are.
fn expect_lost_report(scenario: &Scenario, cmdline: &str, reason: &str) -> anyhow::Result<usize> {
    scenario.document(greet_with(&scenario.artifact(PAYLOAD, &payload())));
    let mut vm = scenario.start(&scenario.machine_with(cmdline))?;
    vm.expect_in_order(&["hello from the document", "Result: success"])?;
    vm.expect("stage2: cannot report: cannot POST https://192.168.0.1:")?;
    vm.expect(reason)?;
    vm.expect("the boot document ran to its end: the machine stays in rescue")?;
    let lines = vm.console.lines();
    let warnings = lines.iter().filter(|line| line.contains("cannot report")).count();
    assert_eq!(scenario.server.reports(), []);
    Ok(warnings)
}

#[test]
fn the_last_report_is_sent_again_until_it_arrives() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(greet_with(&scenario.artifact(PAYLOAD, &payload())));
    scenario.server.fault(&scenario.route("report"), Fault::Status(500), Times::First(2));
    let mut vm = scenario.boot()?;
    vm.expect_in_order(&[
        "Result: success",
        ": HTTP 500 Internal Server Error; next try in 2s",
        ": HTTP 500 Internal Server Error; next try in 4s",
        "reported to ",
    ])?;
    assert_eq!(scenario.server.reports().len(), 1);
    Ok(())
}

#[test]
fn a_report_that_does_not_arrive_is_a_warning_for_each_try_and_changes_nothing()
-> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    drop(scenario.server.open_session());
    let warnings = expect_lost_report(&scenario, &scenario.cmdline(), ": HTTP 403 Forbidden")?;
    assert_eq!(warnings, 1, "the server has said no");

    let scenario = Scenario::new()?;
    scenario.server.fault(&scenario.route("report"), Fault::Status(500), Times::Always);
    let reason = ": HTTP 500 Internal Server Error";
    let warnings = expect_lost_report(&scenario, &scenario.cmdline(), reason)?;
    assert_eq!(warnings, scenario.server.requests_for(&scenario.route("report")).len());
    assert!(warnings > 1);

    let scenario = Scenario::new()?;
    let report = scenario.server.https_url(&scenario.route("report"));
    // Port 1 is reserved, and nobody listens there.
    let nowhere = scenario.cmdline().replace(&report, "https://192.168.0.1:1/report");
    let reason = ": cannot connect to 192.168.0.1:1: Connection refused (os error 111)";
    assert!(expect_lost_report(&scenario, &nowhere, reason)? > 1);
    Ok(())
}

#[test]
fn a_boot_document_that_is_answered_with_500_fails_the_attempt() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(document::commands(&[], &[]));
    scenario.server.fault(DOCUMENT, Fault::Status(500), Times::Always);
    let mut vm = scenario.boot()?;
    let reason = format!(
        "cannot load the boot document: cannot GET {}: HTTP 500 Internal Server Error",
        scenario.server.https_url(DOCUMENT)
    );
    expect_failure(&scenario, &mut vm, &reason)
}

#[test]
fn a_redirect_loop_is_left_at_once() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let artifact = scenario.artifact(PAYLOAD, &payload());
    scenario.document(greet_with(&artifact));
    let elsewhere = scenario.server.https_url("/elsewhere");
    scenario.server.fault(PAYLOAD, Fault::Redirect(302, elsewhere.clone()), Times::Always);
    let back = Fault::Redirect(302, artifact.url.clone());
    scenario.server.fault("/elsewhere", back, Times::Always);
    let mut vm = scenario.boot()?;
    let url = &artifact.url;
    let reason = format!(
        "cannot fetch payload: cannot GET {elsewhere}: redirect loop: {url} was asked before"
    );
    expect_failure(&scenario, &mut vm, &reason)
}

#[test]
fn a_transfer_that_stalls_is_noticed_after_30_s_and_fetched_on_from_there() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let artifact = scenario.artifact(PAYLOAD, &payload());
    scenario.document(greet_with(&artifact));
    scenario.server.fault(PAYLOAD, Fault::StallAfter(500_000), Times::First(1));
    let mut vm = scenario.boot()?;
    let reason = format!(
        "payload: cannot GET {}: no byte for 30s after 500000 of 1000000 bytes; next try in 1s",
        artifact.url
    );
    vm.expect(&reason)?;
    expect_success(&mut vm)
}

#[test]
fn a_document_that_is_not_json_is_shown_and_refused() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document("<html>Please log in</html>");
    let mut vm = scenario.boot()?;
    let url = scenario.server.https_url(DOCUMENT);
    vm.expect(&format!("Result: error: cannot use the boot document of {url}: "))?;
    vm.expect("<html>Please log in")?;
    vm.expect("; next try in 10s")?;
    Ok(())
}

#[test]
fn documents_that_name_each_other_are_noticed() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let (here, there) =
        (scenario.server.https_url(DOCUMENT), scenario.server.https_url("/there.json"));
    scenario.document(document::chain(&there));
    scenario.server.serve("/there.json", document::chain(&here));
    let mut vm = scenario.boot()?;
    expect_failure(&scenario, &mut vm, &format!("chain loop: {here} was loaded before"))
}

#[test]
fn a_payload_that_memory_cannot_hold_is_refused_before_its_first_byte() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let huge = tempfile::NamedTempFile::new()?;
    File::options().write(true).open(huge.path())?.set_len(4 << 30)?;
    scenario.server.serve(PAYLOAD, huge.path().to_owned());
    let url = scenario.server.https_url(PAYLOAD);
    let artifact = Artifact { url: url.clone(), sha256: Some("0".repeat(64)) };
    scenario.document(greet_with(&artifact));
    let mut vm = scenario.boot()?;
    vm.expect(&format!("Result: error: cannot fetch payload: {url}: cannot hold 4.0 GiB in "))?;
    vm.expect("of available memory: add memory to the machine, or make the file smaller")?;
    vm.expect("; next try in 10s")?;
    Ok(())
}

#[test]
fn a_kernel_that_is_no_kernel_is_not_entered() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let artifact = scenario.artifact(PAYLOAD, &payload());
    scenario.document(document::kexec(&artifact, &artifact, "", InitrdForm::OneWord));
    let mut vm = scenario.boot()?;
    vm.expect("kexec: cannot load /tmp/boot/vmlinuz-")?;
    vm.expect(": expected an x86 kernel (bzImage), got ")?;
    vm.expect("Result: error: [\"/sbin/kexec\" \"--force\"")?;
    vm.expect("exit status 1")?;
    vm.expect("; next try in 10s")?;
    vm.has_no("entering the loaded kernel")
}

#[test]
fn a_boot_role_that_is_killed_is_replaced() -> anyhow::Result<()> {
    for (signal, name) in [(9, "SIGKILL"), (6, "SIGABRT")] {
        let scenario = Scenario::new()?;
        // Rust's own handler takes the first SIGSEGV, looking for a stack that overflowed.
        let kill = format!("kill -{signal} $PPID; kill -{signal} $PPID");
        scenario.document(document::commands(&[], &[&["/bin/sh", "-c", &kill]]));
        let mut vm = scenario.boot()?;
        let ended = format!("boot role ended with signal {signal} ({name}): starting it again in");
        vm.expect(&format!("{ended} 1 s"))?;
        scenario.document(greet_with(&scenario.artifact(PAYLOAD, &payload())));
        expect_success(&mut vm)?;
    }
    Ok(())
}

/// Lets no process and no thread begin until PID 1 has said that it cannot start the boot role.
/// What waits for that has begun before, in a session of its own: PID 1 ends that of the boot role.
/// Its pattern does not match itself, for the console shows this command too.
const NO_MORE_THREADS: &str = "mkfifo /tmp/ready; setsid sh -c \"\
        grep -q 'boot role cannot be [s]tarted' /dev/kmsg & \
        echo 20 > /proc/sys/kernel/threads-max; echo ready > /tmp/ready; \
        wait; echo 1000 > /proc/sys/kernel/threads-max\" & \
    read ready < /tmp/ready; exit 7";

#[test]
fn a_boot_role_that_panics_is_replaced_as_soon_as_that_is_possible() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", NO_MORE_THREADS]]));
    // With two processors a file is written by a thread of its own, without which tokio panics.
    let machine = Machine { extra: ["-smp", "2"].map(Into::into).into(), ..scenario.machine() };
    let mut vm = scenario.start(&machine)?;
    vm.expect("exit status 7; next try in 10s")?;
    scenario.document(greet_with(&scenario.artifact(PAYLOAD, &payload())));
    vm.expect("stage2: panicked at agent/src/verify/writer.rs:")?;
    vm.expect("OS can't spawn worker thread: Resource temporarily unavailable (os error 11)")?;
    vm.expect("stage2: boot role ended with signal 6 (SIGABRT): starting it again in 1 s")?;
    vm.expect("cannot start the boot role: Resource temporarily unavailable (os error 11)")?;
    vm.expect("boot role cannot be started: starting it again in 2 s")?;
    expect_success(&mut vm)
}

#[test]
fn what_a_killed_boot_role_had_fetched_is_not_in_the_way_of_the_next() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let payload = scenario.artifact(PAYLOAD, &bytes(LARGE_BYTES));
    let files = [("payload", &payload)];
    scenario.document(document::commands(&files, &[&["/bin/sh", "-c", "kill -9 $PPID"]]));
    let mut vm = scenario.boot()?;
    vm.expect("boot role ended with signal 9 (SIGKILL): starting it again in 1 s")?;
    scenario.document(greet_with(&payload));
    expect_success(&mut vm)
}

#[test]
fn a_boot_role_that_hangs_is_killed_and_replaced() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    // It is stopped while it waits for its next attempt, which takes 10 s, and is given 60 s more.
    // A failing command's process group is killed: who is to outlive it has one of its own.
    let stop = "boot=$PPID; setsid sh -c \"(sleep 2; kill -STOP $boot) &\"; exit 7";
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", stop]]));
    let mut vm = scenario.boot()?;
    vm.expect("exit status 7; next try in 10s")?;
    scenario.document(greet_with(&scenario.artifact(PAYLOAD, &payload())));
    vm.expect("boot role hangs in pause for more than 70s: killing it")?;
    vm.expect("boot role ended with signal 9 (SIGKILL): starting it again in 1 s")?;
    expect_success(&mut vm)
}

#[test]
fn without_a_cable_the_machine_says_so_and_goes_on_when_it_is_plugged_in() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(greet_with(&scenario.artifact(PAYLOAD, &payload())));
    let machine = Machine { paused: true, ..scenario.machine() };
    let mut vm = scenario.start(&machine)?;
    let mut control = vm.control()?;
    control.set_link(vmtest::machine::CARD, false)?;
    control.resume()?;
    vm.expect("carrier")?;
    control.set_link(vmtest::machine::CARD, true)?;
    vm.expect_within(Duration::from_secs(30), "boot document: ")?;
    expect_success(&mut vm)
}
