//! What a machine's processor must be able to do: what every x86-64 can. Nothing that is packed, from
//! PID 1 to TLS and SHA-256, may take an instruction for granted that came later.

use std::time::Duration;

use vmtest::document;
use vmtest::machine::Machine;
use vmtest::scenario::Scenario;

/// The kernel waits 30 s before it restarts a machine whose PID 1 has died. It counts them in a busy
/// loop, which takes twice as long and more where processor and clock are emulated.
const END: Duration = Duration::from_secs(180);

fn with_processor(model: &str, scenario: &Scenario) -> Machine {
    Machine { extra: ["-cpu", model].map(Into::into).into(), ..scenario.machine() }
}

#[test]
fn a_processor_of_any_age_boots() -> anyhow::Result<()> {
    for model in [
        // The first ones: no SSSE3, no random numbers, nothing for SHA or AES.
        "Opteron_G1",
        "qemu64",
        // SSSE3 and SSE4.1 without SSE4.2.
        "Penryn",
        // AES without AVX.
        "Westmere",
        "max,-avx,-avx2",
        "max,-sha-ni,-rdrand,-rdseed,-aes",
    ] {
        let scenario = Scenario::new()?;
        let payload = scenario.artifact("/payload", &[7; 100_000]);
        let hello = ["/bin/busybox", "echo", "hello from the document"];
        scenario.document(document::commands(&[("payload", &payload)], &[&hello]));
        let mut vm = scenario.start(&with_processor(model, &scenario))?;
        vm.expect(", sha256 verified")?;
        vm.expect("hello from the document")?;
        vm.expect("Result: success")?;
    }
    Ok(())
}

#[test]
fn a_machine_whose_pid_1_dies_is_restarted_by_the_kernel() -> anyhow::Result<()> {
    // No such processor was ever made: glibc takes SSSE3 for granted where there is SSE4.2.
    let scenario = Scenario::new()?;
    let mut vm = scenario.start(&with_processor("max,-avx,-avx2,-ssse3", &scenario))?;
    vm.expect("traps: init[1] trap invalid opcode")?;
    vm.expect("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000004")?;
    vm.expect("Rebooting in 30 seconds..")?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}
