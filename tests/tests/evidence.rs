//! What is left of a boot after it: its log, over a hand-over and over the death of the kernel.

use std::time::Duration;

use serde_json::json;
use vmtest::document::{self, Artifact, InitrdForm};
use vmtest::machine::{Machine, OnRestart};
use vmtest::scenario::Scenario;
use vmtest::stage3::minimal;

const END: Duration = Duration::from_secs(60);

/// Where the document is that follows stage3.
const STAGE3POST: &str = "/stage3post.json";

/// A document whose only command fails, so that it is reported.
fn failing() -> String {
    document::commands(&[], &[&["/bin/sh", "-c", "exit 7"]])
}

#[test]
fn the_next_system_finds_the_log_of_this_boot_in_its_root() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document_into_minimal_stage3("console=ttyS0", InitrdForm::OneWord)?;
    let mut vm = scenario.boot()?;
    vm.expect_in_order(&["entering the loaded kernel", minimal::GREETING])?;
    // It was written just before the kernel was loaded.
    let command = vm.expect("stage2: Command: \"/sbin/kexec\" \"--force\"")?;
    assert!(!command.line.contains("session0001"), "{}", command.line);
    vm.expect("stage3: that was the last line of the boot before")?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}

#[test]
fn a_kernel_without_an_initramfs_of_its_own_reports_the_boot_before() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    // The image itself is a kernel that brings its root along.
    let url = scenario.server.https_url("/again");
    let again = Artifact::of_file(&url, &scenario.image.vmlinuz)?;
    scenario.server.serve("/again", scenario.image.vmlinuz.clone());
    let cmdline = "console=ttyS0 net.ifnames=0 epoxy.ip={{kargs `epoxy.ip`}} \
                   epoxy.stage2={{kargs `epoxy.stage3`}} epoxy.report={{kargs `epoxy.report`}}";
    let kexec = format!("--command-line={cmdline}");
    let document = json!({ "v1": {
        "files": { "again": { "url": again.url, "sha256": again.sha256 } },
        "commands": [["/sbin/kexec", "--force", kexec, "{{.files.again.name}}"]],
    }});
    scenario.document(document.to_string());
    scenario.server.serve(STAGE3POST, failing());
    let mut vm = scenario.boot()?;
    vm.expect("entering the loaded kernel")?;
    vm.expect("reported to ")?;
    vm.expect("; next try in 10s")?;
    vm.expect("reported to ")?;
    let reports = scenario.server.reports();
    let told = reports[0].previous_boot.as_deref().unwrap();
    assert!(told.starts_with("stage2 0.1.0 on mlab1.stage2.test, up "), "{told}");
    assert!(told.contains("stage2: again: ") && told.contains("sha256 verified"), "{told}");
    assert!(!told.contains("session0001"), "{told}");
    assert_eq!(reports[1].previous_boot, None, "evidence is sent once");
    Ok(())
}

#[test]
fn a_dead_kernels_last_words_are_in_the_next_report() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(document::commands(
        &[],
        &[&["/bin/sh", "-c", "echo 1 > /proc/sys/kernel/panic; echo c > /proc/sysrq-trigger"]],
    ));
    let cmdline = format!(
        "{} memmap=1M$0xe000000 ramoops.mem_address=0xe000000 ramoops.mem_size=0x100000 \
         ramoops.record_size=0x20000",
        scenario.cmdline()
    );
    let machine = scenario.machine_with(&cmdline);
    let mut vm = scenario.start(&Machine { on_restart: OnRestart::BootAgain, ..machine })?;
    vm.expect("Kernel panic - not syncing: sysrq triggered crash")?;
    scenario.document(failing());
    vm.expect("reported to ")?;
    vm.expect("; next try in 10s")?;
    vm.expect("reported to ")?;
    let reports = scenario.server.reports();
    let told = reports[0].pstore.as_deref().unwrap();
    assert!(told.contains("Kernel panic - not syncing: sysrq triggered crash"), "{told}");
    assert!(!told.contains("session0001"), "{told}");
    assert_eq!(reports[1].pstore, None, "evidence is sent once");
    Ok(())
}
