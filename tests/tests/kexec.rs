//! From stage2 into Debian's kernel, with every form of the command that boot documents use.

use std::time::Duration;

use serde_json::json;
use vmtest::document::{self, Artifact, InitrdForm};
use vmtest::scenario::{HOST, Scenario};
use vmtest::stage3::{Debian, minimal};

const END: Duration = Duration::from_secs(60);

#[test]
fn a_document_of_m_labs_shape_enters_debians_kernel_with_the_command_line_it_names()
-> anyhow::Result<()> {
    for form in [InitrdForm::OneWord, InitrdForm::TwoWords] {
        let scenario = Scenario::new()?;
        scenario.document_into_minimal_stage3("console=ttyS0 net.ifnames=0 autoconf=0", form)?;
        let mut vm = scenario.boot()?;
        vm.expect_in_order(&["entering the loaded kernel", "Linux version 6.1", "Debian"])?;
        let url = |step: &str| scenario.server.https_url(&scenario.route(step));
        let expected = format!(
            "{} epoxy.ip=192.168.0.2::192.168.0.1:255.255.255.0:{HOST}:eth0:off:: epoxy.ipv4= \
             epoxy.ipv6= epoxy.interface= epoxy.hostname= epoxy.stage2={} epoxy.stage3={} \
             epoxy.report={} epoxy.server= epoxy.project= epoxy.images_version= console=ttyS0 \
             net.ifnames=0 autoconf=0",
            minimal::GREETING,
            url("stage2"),
            url("stage3"),
            url("report"),
        );
        vm.expect(&expected)?;
        assert!(vm.wait_exit(END)?.success());
        assert_eq!(scenario.server.reports(), [], "a hand-over reports nothing");
    }
    Ok(())
}

#[test]
fn a_command_as_one_string_with_quotes_enters_the_kernel_too() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let debian = Debian::prepare(&|line| eprintln!("{line}"))?;
    let kernel = Artifact::of_file(&scenario.server.https_url("/vmlinuz"), &debian.kernel)?;
    scenario.server.serve("/vmlinuz", debian.kernel);
    let initramfs = scenario.artifact("/initramfs", &minimal::packed()?);
    let file = |artifact: &Artifact| json!({ "url": artifact.url, "sha256": artifact.sha256 });
    let document = json!({ "v1": {
        "files": { "vmlinuz": file(&kernel), "initram": file(&initramfs) },
        "commands": [
            "/sbin/kexec --force --command-line='console=ttyS0 \"quoted words\"' \
             --initrd {{.files.initram.name}} {{.files.vmlinuz.name}}"
        ],
    }});
    scenario.document(document.to_string());
    let mut vm = scenario.boot()?;
    vm.expect(&format!("{} console=ttyS0 \"quoted words\"", minimal::GREETING))?;
    Ok(())
}

#[test]
fn a_kernel_that_a_failed_attempt_had_loaded_is_forgotten_by_the_next() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let debian = Debian::prepare(&|line| eprintln!("{line}"))?;
    let kernel = Artifact::of_file(&scenario.server.https_url("/vmlinuz"), &debian.kernel)?;
    scenario.server.serve("/vmlinuz", debian.kernel);
    let load = ["/sbin/kexec", "-l", "{{.files.vmlinuz.name}}"];
    let commands = [&load[..], &["/bin/busybox", "false"]];
    scenario.document(document::commands(&[("vmlinuz", &kernel)], &commands));
    let mut vm = scenario.boot()?;
    vm.expect_in_order(&[
        "loaded Linux 6.1",
        "exit status 1; next try in 10s",
        "forgot the kernel that an earlier attempt had loaded",
        "boot document: ",
    ])?;
    Ok(())
}
