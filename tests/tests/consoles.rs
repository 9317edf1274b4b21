//! Every console of the command line says the same, whoever looks at which.

use anyhow::Context as _;
use vmtest::console::Console;
use vmtest::document;
use vmtest::machine::Machine;
use vmtest::scenario::Scenario;

/// The last line that is compared; one more follows.
const LAST: &str = "stage2: the boot document ran to its end: the machine stays in rescue";

/// Our own lines, without the kernel's time before them.
fn our_lines(console: &Console) -> Vec<String> {
    let lines = console.lines();
    let ours = lines.iter().filter_map(|line| line.find("stage2: ").map(|at| &line[at..]));
    let last = ours.clone().position(|line| line == LAST).unwrap_or_default();
    ours.take(last + 1).map(str::to_owned).collect()
}

/// A machine with a screen and two serial lines, of which the kernel itself uses the one that is
/// named last.
fn all_consoles_say_the_same(options: &str) -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    scenario.document(document::commands(&[], &[&["/bin/busybox", "true"]]));
    let consoles = "console=ttyS1,115200n8 console=tty0 console=ttyS0";
    let machine = Machine {
        vga: true,
        second_serial: true,
        ..scenario.machine_with(&format!("{options} {consoles} {}", scenario.cmdline()))
    };
    let mut vm = scenario.start(&machine)?;
    // When this line begins, those before it are everywhere.
    vm.expect("stage2: nobody can log in: starting a shell on the console")?;
    let screen = vm.control()?.vga_text()?;
    let second = vm.second_console.as_mut().context("no second console")?;
    second.expect(LAST)?;
    second.expect("\n")?;

    let lines = our_lines(&vm.console);
    assert_eq!(lines.last().map(String::as_str), Some(LAST), "{lines:?}");
    assert_eq!(our_lines(second), lines);
    for line in lines {
        // A screen has its own picture for the dots that stand for a session.
        let shown = line.split('\u{2026}').all(|part| screen.contains(part));
        assert!(shown, "expected {line:?} on the screen, got {screen}");
    }
    Ok(())
}

#[test]
fn the_screen_and_both_serial_lines_say_the_same() -> anyhow::Result<()> {
    all_consoles_say_the_same("")
}

#[test]
fn they_do_so_too_when_the_kernel_is_quiet() -> anyhow::Result<()> {
    all_consoles_say_the_same("quiet")
}
