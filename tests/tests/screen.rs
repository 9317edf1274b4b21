//! The state of the machine on its serial console, as a terminal of 80x24 shows it.

use std::time::Duration;

use vmtest::document;
use vmtest::scenario::Scenario;

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
