//! The whole way: iPXE, stage2, and a Debian that runs `epoxy_client`, reports, and asks for a login.

use vmtest::chain::{Chain, SETUP, Stage3};
use vmtest::image::Image;
use vmtest::vm::Vm;

const MEMORY_MIB: u32 = 1024;

#[test]
fn debian_comes_to_its_login_prompt_and_reports_success() -> anyhow::Result<()> {
    let chain = Chain::prepare(Image::under_test()?, Stage3::Debian, &|line| eprintln!("{line}"))?;
    let mut vm = Vm::start(&chain.machine("virtio-net-pci", MEMORY_MIB))?.asking(&chain.server);
    vm.expect_in_order(&[
        "iPXE initialising devices",
        "Linux version 6.12",
        "entering the loaded kernel",
        "Linux version 6.1.",
        "Debian GNU/Linux 12",
        "epoxy-network: eth0 has 192.168.0.2/24",
        "setup: project sandbox, network 192.168.0.2:",
        "Result: success",
        "login:",
    ])?;
    assert_eq!(chain.server.requests_for(SETUP).len(), 1);
    let reports = chain.server.reports();
    let messages: Vec<&str> = reports.iter().map(|report| report.message.as_str()).collect();
    assert_eq!(messages, ["success"], "stage2 reports nothing when it hands over");
    let config: serde_json::Value = serde_json::from_str(&reports[0].debug_config)?;
    assert_eq!(config["kargs"]["epoxy.project"], "sandbox");
    let ours: Vec<String> =
        vm.console.lines().into_iter().filter(|line| line.contains("stage2: ")).collect();
    assert!(ours.iter().all(|line| !line.contains(&reports[0].session)), "{ours:#?}");
    assert!(!reports[0].debug_config.contains(&reports[0].session), "a session id is a secret");
    Ok(())
}
