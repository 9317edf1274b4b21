//! The state of the machine on its serial console, as a terminal of 80x24 shows it.

use std::time::Duration;

use vmtest::document;
use vmtest::image::Image;
use vmtest::machine::{Card, Machine};
use vmtest::scenario::Scenario;
use vmtest::tmux::Tmux;
use vmtest::vm::Vm;

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
/// The slowest line that is in use: 9600 baud, ten bits for each byte.
const BYTES_PER_SECOND: u32 = 960;
const PATIENCE_OF_AN_OPERATOR: Duration = Duration::from_secs(2);

/// The first line of the state, and the end of its last.
const FIRST: &[u8] = b"stage2: stage2 ";
const LAST: &str = "  address eth0 192.168.0.2/24";

/// What a terminal shows when it has got these bytes.
fn shown(bytes: &[u8]) -> Vec<String> {
    let mut terminal = vt100::Parser::new(ROWS, COLUMNS, 0);
    terminal.process(bytes);
    terminal.screen().rows(0, COLUMNS).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The bytes from the line with `FIRST` to the end of the line with `LAST`, as the console got them,
/// and where they end.
fn block(console: &[u8]) -> Option<(&[u8], usize)> {
    let first = find(console, FIRST)?;
    let begin = console.get(..first)?.iter().rposition(|byte| *byte == b'\n')? + 1;
    let last = first + find(console.get(first..)?, LAST.as_bytes())? + LAST.len();
    Some((console.get(begin..last)?, last))
}

#[test]
fn the_state_fits_a_terminal_of_80x24_and_a_line_of_9600_baud() -> anyhow::Result<()> {
    let scenario = Scenario::new()?;
    // The longest error that there is: it is cut, and the log has all of it.
    let long = format!("echo {}; exit 7", "every_word_of_this_command_is_shown ".repeat(20));
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", &long]]));
    let mut vm = scenario.boot()?;
    vm.expect(LAST)?;
    vm.expect("\n")?;
    let bytes = vm.console.bytes();
    let Some((block, end)) = block(&bytes) else { anyhow::bail!("{}", vm.evidence()) };

    let slow = Duration::from_secs(block.len().try_into()?) / BYTES_PER_SECOND;
    assert!(slow < PATIENCE_OF_AN_OPERATOR, "{} bytes take {slow:?}", block.len());

    // Whatever has come before: all of it is on the screen, and no line is broken.
    let screen = shown(&bytes[..end]);
    let lines = String::from_utf8_lossy(block);
    let lines: Vec<&str> = lines.split("\r\n").map(str::trim_end).collect();
    assert!(lines.len() < ROWS.into(), "{lines:?}");
    let top = screen.len() - lines.len();
    assert_eq!(screen[top..], lines, "{}", screen.join("\n"));
    for part in
        ["  phase   pause for ", "attempt 1, next try in ", "  error   ", "... `stage2 log`"]
    {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:?}");
    }
    Ok(())
}

const PROMPT: &str = "mlab1:/#";

/// A prompt behind everything else.
fn prompt(screen: &[String]) -> bool {
    screen.iter().rfind(|row| !row.is_empty()).is_some_and(|row| row == PROMPT)
}

fn typed(tmux: &Tmux, line: &str) -> anyhow::Result<Vec<String>> {
    tmux.press(&["clear", "Enter"])?;
    tmux.expect(|screen| screen.first().is_some_and(|row| row == PROMPT))?;
    tmux.press(&[line, "Enter"])?;
    tmux.expect(|screen| screen.first().is_some_and(|row| row.ends_with(line)) && prompt(screen))
}

#[test]
fn an_operator_at_a_terminal_of_80x24_sees_all_and_breaks_no_line() -> anyhow::Result<()> {
    let specification = "cmdline = \"console=ttyS1\"\npolicy.console_shell = true\n";
    let image = Image::specified("tmux", specification)?;
    let cmdline = "net.ifnames=0 \
                   epoxy.ip=192.168.0.2::192.168.0.1:255.255.255.0:mlab1.stage2.test:eth0:off::";
    let machine = Machine::new(256)
        .with_kernel(&image.vmlinuz, None, cmdline)
        .with_card(Card::new("virtio-net-pci"));
    let vm = Vm::start(&Machine {
        paused: true,
        extra: ["-serial", "pty"].map(Into::into).into(),
        ..machine
    })?;
    let mut control = vm.control()?;
    let tmux = Tmux::attach(&control.terminal("serial1")?, COLUMNS, ROWS)?;
    control.resume()?;
    tmux.expect(|screen| {
        screen.iter().any(|row| row.contains("the kernel command line asks for"))
    })?;
    tmux.press(&["Enter"])?;
    tmux.expect(|screen| screen.iter().any(|row| row.starts_with(PROMPT)))?;
    // What the kernel says of its clocks would come in between.
    tmux.press(&["dmesg -n 1", "Enter"])?;
    let message = typed(&tmux, "stage2")?;
    assert!(message[1].starts_with("stage2 0.1.0 on mlab1.stage2.test, up "), "{message:#?}");
    assert_eq!(
        message[2..],
        [
            "  phase   nothing to do: neither epoxy.stage1 nor epoxy.stage2 is given",
            "  login   nobody: this image has no keys, and epoxy.ssh_keys does not name any",
            "  address eth0 192.168.0.2/24",
            "`stage2 --help` tells what you can do: hold, set, retry, resume, log, plan ...",
            PROMPT,
        ],
        "{message:#?}"
    );
    typed(&tmux, "stage2 hold")?;
    let status = typed(&tmux, "stage2 status")?;
    assert!(status[1].starts_with("stage2 0.1.0 on mlab1.stage2.test, up "), "{status:#?}");
    assert!(
        status.contains(&"  held    nothing is started or entered until `stage2 resume`".into())
    );
    let help = typed(&tmux, "stage2 --help")?;
    assert!(help.iter().any(|row| row.starts_with("When a machine will not boot: ")), "{help:#?}");
    Ok(())
}
