//! What boot loaders and hands write on a kernel command line boots all the same.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use vmtest::document;
use vmtest::machine::Machine;
use vmtest::scenario::Scenario;
use vmtest::vm::Vm;

fn boots(scenario: &Scenario, cmdline: Vec<u8>) -> anyhow::Result<Vm> {
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", "echo hello"]]));
    let cmdline = OsString::from_vec(cmdline);
    let mut vm = scenario.start(&Machine { cmdline, ..scenario.machine() })?;
    vm.expect("Result: success")?;
    Ok(vm)
}

#[test]
fn a_byte_that_is_no_utf_8_does_not_keep_a_machine_from_booting() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let cmdline = [b"note=caf\xe9 ", scenario.cmdline().as_bytes()].concat();
    boots(&scenario, cmdline)?.has_no("cannot make a panic restart the machine")
}

#[test]
fn tabs_and_quotes_are_read_as_the_kernel_reads_them() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    let cmdline = scenario.cmdline();
    let url = scenario.server.https_url(&scenario.route("stage2"));
    assert!(cmdline.contains(&format!(" epoxy.stage2={url}")), "{cmdline}");
    let quoted = cmdline.replace(&url, &format!("\"{url}\""));
    boots(&scenario, quoted.into())?;
    boots(&scenario, cmdline.replace(" epoxy.stage2=", "\tepoxy.stage2=").into())?;
    Ok(())
}
