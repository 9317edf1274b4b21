//! Servers that do not prove who they are: nothing is asked of them, and the operator is told why.

use vmtest::certificate::Presented;
use vmtest::scenario::Scenario;

/// What the console says about a certificate, and then that it will try again.
fn expect_refusal(presents: Presented, reasons: &[&str]) -> anyhow::Result<()> {
    let scenario = Scenario::presenting(presents)?;
    let mut vm = scenario.boot()?;
    vm.expect("Result: error: cannot load the boot document: cannot POST https://192.168.0.1:")?;
    vm.expect_in_order(reasons)?;
    vm.expect("boot attempt: cannot load the boot document: ")?;
    vm.expect("; next try in 10s")?;
    assert_eq!(scenario.server.log().requests().len(), 0, "{}", scenario.server.log());
    Ok(())
}

#[test]
fn an_expired_certificate_is_refused_with_its_date_and_the_clock() -> anyhow::Result<()> {
    expect_refusal(
        Presented::Expired,
        &["the certificate of 192.168.0.1 expired at 2020-01-01", "and this machine's clock shows"],
    )
}

#[test]
fn a_certificate_of_the_future_is_refused_with_its_date_and_the_clock() -> anyhow::Result<()> {
    expect_refusal(
        Presented::NotYetValid,
        &["the certificate of 192.168.0.1 is not valid before 2098-01-01"],
    )
}

#[test]
fn a_self_signed_certificate_is_refused_with_the_file_of_those_that_are_trusted()
-> anyhow::Result<()> {
    expect_refusal(
        Presented::SelfSigned,
        &["the certificate of 192.168.0.1 is signed by no authority in /etc/stage2/roots.pem"],
    )
}

#[test]
fn a_certificate_for_another_name_is_refused_with_that_name() -> anyhow::Result<()> {
    expect_refusal(
        Presented::WrongName,
        &["the certificate of 192.168.0.1 is valid for another-host.test only"],
    )
}

fn boots_with_a_dead_clock(presents: Presented, words: &[&str]) -> anyhow::Result<()> {
    let scenario = Scenario::presenting(presents)?;
    scenario.document(vmtest::document::commands(&[], &[]));
    let mut machine = scenario.machine();
    machine.extra = ["-rtc", "base=2000-01-01T00:00:00"].map(Into::into).into();
    let mut vm = scenario.start(&machine)?;
    vm.expect("the clock showed 2000-01-01")?;
    vm.expect_in_order(words)?;
    Ok(())
}

#[test]
fn a_machine_whose_clock_is_dead_boots_all_the_same() -> anyhow::Result<()> {
    boots_with_a_dead_clock(Presented::Good, &["Result: success"])
}

#[test]
fn a_certificate_that_is_newer_than_the_image_puts_a_dead_clock_forward() -> anyhow::Result<()> {
    boots_with_a_dead_clock(
        Presented::NotYetValid,
        &["set to 2098-01-01 00:00:00 UTC, when the server's certificate was issued", "success"],
    )
}

#[test]
fn a_dead_clock_excuses_no_self_signed_certificate() -> anyhow::Result<()> {
    boots_with_a_dead_clock(Presented::SelfSigned, &["is signed by no authority in"])
}
