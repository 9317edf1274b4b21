//! The status as a few lines of plain ASCII: for a login, for `stage2 status`, for the consoles.
//!
//! A function of a [`Status`] and a width. At most [`MOST_LINES`] lines come out, whatever the error
//! says: a serial line of 9600 baud shows them in about a second.

use std::cell::RefCell;

use agent_types::exit::BootExit;
use agent_types::redact::MARKER;

use crate::state::Failure;
use crate::status::{Address, BootRole, Login, Status};

/// No more lines than this come out.
pub(crate) const MOST_LINES: usize = 14;

/// Where the values begin.
const INDENT: usize = 10;
/// An error's first lines tell what it is; the log has all of it.
const MOST_LINES_OF_A_VALUE: usize = 4;
/// Ends a value that was cut: where the rest is.
const MORE: &str = " ... `stage2 log`";
/// More addresses are shown by `stage2 net`.
const MOST_ADDRESSES: usize = 3;

/// What a console of 80 columns has left behind the kernel's time and our tag.
const WIDTH_IN_THE_LOG: usize = 56;

/// The consoles, which get the status when it has changed in more than its times.
#[derive(Debug, Default)]
pub(crate) struct Consoles(RefCell<Option<Shown>>);

/// What makes a status worth another look.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    error: Option<String>,
    addresses: Vec<Address>,
}

impl Consoles {
    /// Shows the status on every console, through the log.
    pub(crate) fn show(&self, status: &Status) {
        if self.is_news(status) {
            screen(status, WIDTH_IN_THE_LOG).iter().for_each(|line| log::info!("{line}"));
        }
    }

    fn is_news(&self, status: &Status) -> bool {
        let message = |failure: &Failure| failure.message.clone();
        let error = status.state.last_error.as_ref().map(message);
        let now = Some(Shown { error, addresses: status.addresses.clone() });
        let before = self.0.take();
        let is_news = before != now;
        self.0.replace(now);
        is_news
    }
}

/// The status in lines of at most `width` characters.
pub(crate) fn screen(status: &Status, width: usize) -> Vec<String> {
    let mut lines = vec![cut(&title(status), width)];
    for (name, value) in rows(status) {
        let wrapped = wrap(&ascii(&value), width.saturating_sub(INDENT));
        lines.extend(wrapped.into_iter().enumerate().map(|(number, part)| {
            let name = if number == 0 { name } else { "" };
            format!("{name:INDENT$}{part}")
        }));
    }
    lines.truncate(MOST_LINES);
    lines
}

fn title(status: &Status) -> String {
    let Status { stage2, hostname, uptime_s, .. } = status;
    ascii(&format!("stage2 {stage2} on {hostname}, up {}", Seconds(*uptime_s)))
}

fn rows(status: &Status) -> Vec<(&'static str, String)> {
    let mut rows = vec![("  phase", phase(status))];
    if let Some(failure) = &status.state.last_error {
        let ago = Seconds(status.uptime_s.saturating_sub(failure.at_s));
        rows.push(("  error", format!("{ago} ago: {}", failure.message)));
    }
    if let Some(why) = locked_out(status.login) {
        rows.push(("  login", why.to_owned()));
    }
    rows.push(("  address", addresses(status)));
    if status.held {
        let text = "nothing is started or entered until `stage2 resume`";
        rows.push(("  held", text.to_owned()));
    }
    if !status.set.is_empty() {
        let set: Vec<_> = status.set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        rows.push(("  set", set.join(" ")));
    }
    rows
}

/// Why nobody can log in, and what changes that.
fn locked_out(login: Login) -> Option<&'static str> {
    match login {
        Login::Possible => None,
        Login::AwaitsKeys => Some(
            "nobody yet: no key has come from epoxy.ssh_keys; mend its server, or the parameter",
        ),
        Login::Impossible => {
            Some("nobody: this image has no keys, and epoxy.ssh_keys does not name any")
        }
    }
}

fn phase(status: &Status) -> String {
    let state = &status.state;
    let mut text = match state.over() {
        Some(exit) => over(exit, status.held).to_owned(),
        None => under_way(status),
    };
    let next_try = state.next_try_s.filter(|_| !status.held);
    if state.attempt > 0 {
        text.push_str(&format!(", attempt {}", state.attempt));
    }
    if let Some(left) = next_try.and_then(|at| at.checked_sub(status.uptime_s)) {
        text.push_str(&format!(", next try in {}", Seconds(left)));
    }
    text
}

fn under_way(status: &Status) -> String {
    match (status.state.phase.as_str(), status.boot_role) {
        ("", BootRole::Running) => "starting".to_owned(),
        ("", BootRole::Ended) => "not known: the boot role has not begun".to_owned(),
        (phase, BootRole::Ended) => format!("the boot role died in {phase}; PID 1 starts it again"),
        (phase, BootRole::Running) => {
            let since_s = status.uptime_s.saturating_sub(status.state.phase_since_s);
            format!("{phase} for {}", Seconds(since_s))
        }
    }
}

fn over(exit: BootExit, held: bool) -> &'static str {
    match exit {
        BootExit::Done => "done: the boot document ran to its end",
        BootExit::NothingToDo => "nothing to do: neither epoxy.stage1 nor epoxy.stage2 is given",
        BootExit::NeedsOperator => "a network card or a disk needs an operator: do not restart",
        BootExit::GaveUp if held => "gave up: the machine waits for an operator",
        BootExit::GaveUp => "gave up: the machine restarts",
        BootExit::Restart if held => "the update is done: the machine waits for an operator",
        BootExit::Restart => "the update is done: the machine restarts",
    }
}

fn addresses(status: &Status) -> String {
    let shown = status.addresses.iter().take(MOST_ADDRESSES);
    let shown: Vec<_> = shown.map(|a| format!("{} {}", a.interface, a.address)).collect();
    match status.addresses.len().saturating_sub(MOST_ADDRESSES) {
        _ if shown.is_empty() => "none yet".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more: `stage2 net`", shown.join(", ")),
    }
}

/// Words as whole as they fit; what no line can hold is cut where the line ends.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace().flat_map(|word| pieces(word, width)) {
        let line =
            lines.last_mut().filter(|line| line.is_empty() || line.len() + 1 + word.len() <= width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    if lines.len() > MOST_LINES_OF_A_VALUE {
        lines.truncate(MOST_LINES_OF_A_VALUE);
        if let Some(last) = lines.last_mut() {
            let room = width.saturating_sub(MORE.len());
            *last = cut(&format!("{}{MORE}", cut(last, room)), width);
        }
    }
    lines
}

/// Pieces of ASCII text, each short enough for a line.
fn pieces(word: &str, width: usize) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at_checked(width.min(rest.len()))?;
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// What every terminal shows.
fn ascii(text: &str) -> String {
    let text = text.replace(MARKER, "...");
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// A duration in the largest two units, as people read it.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(seconds) = *self;
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3600..86400 => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{} d {} h", seconds / 86400, seconds / 3600 % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Failure, State};
    use crate::status::Address;
    use std::collections::BTreeMap;

    fn address(address: &str) -> Address {
        Address { interface: "eth0".to_owned(), address: address.to_owned() }
    }

    fn status() -> Status {
        Status {
            stage2: "0.1.0".to_owned(),
            hostname: "mlab1.stage2.test".to_owned(),
            uptime_s: 185,
            boot_role: BootRole::Running,
            held: false,
            login: Login::Possible,
            set: BTreeMap::new(),
            addresses: vec![address("192.168.0.2/24")],
            state: State { phase: "pause".to_owned(), phase_since_s: 177, ..State::default() },
        }
    }

    fn failed(message: &str) -> Status {
        let last_error = Some(Failure { message: message.to_owned(), at_s: 177 });
        let state = State { attempt: 3, next_try_s: Some(197), last_error, ..status().state };
        Status { state, ..status() }
    }

    #[test]
    fn the_screen_tells_phase_error_address_and_next_try() {
        let message = "cannot load the boot document: cannot POST \
                       https://192.168.0.1:4433/v1/boot/mlab1.stage2.test/…/stage2: HTTP 500 Internal \
                       Server Error";
        let expected = "\
stage2 0.1.0 on mlab1.stage2.test, up 3 min 5 s
  phase   pause for 8 s, attempt 3, next try in 12 s
  error   8 s ago: cannot load the boot document: cannot POST
          https://192.168.0.1:4433/v1/boot/mlab1.stage2.test/.../stage2: HTTP
          500 Internal Server Error
  address eth0 192.168.0.2/24";
        assert_eq!(screen(&failed(message), 80).join("\n"), expected);
    }

    #[test]
    fn a_held_boot_has_no_next_try_and_shows_what_was_set() {
        let set = BTreeMap::from([("epoxy.stage2".to_owned(), "https://x/…/y".to_owned())]);
        let status = Status { held: true, set, addresses: vec![], ..failed("no") };
        let expected = "\
stage2 0.1.0 on mlab1.stage2.test, up 3 min 5 s
  phase   pause for 8 s, attempt 3
  error   8 s ago: no
  address none yet
  held    nothing is started or entered until `stage2 resume`
  set     epoxy.stage2=https://x/.../y";
        assert_eq!(screen(&status, 80).join("\n"), expected);
    }

    #[test]
    fn a_machine_that_lets_nobody_in_says_why() {
        for (login, expected) in [
            (Login::Possible, ""),
            (
                Login::AwaitsKeys,
                "  login   nobody yet: no key has come from epoxy.ssh_keys; mend its server, or\n          \
                 the parameter\n",
            ),
            (
                Login::Impossible,
                "  login   nobody: this image has no keys, and epoxy.ssh_keys does not name any\n",
            ),
        ] {
            let lines = screen(&Status { login, ..status() }, 80).join("\n");
            let expected = format!(
                "stage2 0.1.0 on mlab1.stage2.test, up 3 min 5 s\n  phase   pause for 8 s\n\
                 {expected}  address eth0 192.168.0.2/24"
            );
            assert_eq!(lines, expected);
        }
    }

    #[test]
    fn a_value_that_is_cut_says_where_the_rest_is() {
        for word in
            ["word", "a_word_that_fills_nearly_all_of_a_line_of_a_console", &"x".repeat(500)]
        {
            let lines = wrap(&[word; 50].join(" "), WIDTH_IN_THE_LOG - INDENT);
            assert!(lines.iter().all(|line| line.len() <= WIDTH_IN_THE_LOG - INDENT), "{lines:?}");
            assert!(lines.last().unwrap().ends_with(" ... `stage2 log`"), "{lines:?}");
        }
    }

    #[test]
    fn the_phase_says_what_became_of_the_boot_role() {
        use BootRole::{Ended, Running};
        for (name, role, expected) in [
            ("", Running, "starting"),
            ("", Ended, "not known: the boot role has not begun"),
            ("fetch", Running, "fetch for 8 s"),
            ("fetch", Ended, "the boot role died in fetch; PID 1 starts it again"),
            ("done", Ended, "done: the boot document ran to its end"),
            ("gave up", Ended, "gave up: the machine restarts"),
            ("restarting", Running, "the update is done: the machine restarts"),
            (
                "needs an operator",
                Ended,
                "a network card or a disk needs an operator: do not restart",
            ),
        ] {
            let state = State { phase: name.to_owned(), ..status().state };
            assert_eq!(phase(&Status { boot_role: role, state, ..status() }), expected);
        }
    }

    #[test]
    fn no_error_and_no_name_breaks_the_screen() {
        for message in ["x".repeat(5000), "ä ".repeat(5000), "a\u{1b}[2J b\n".repeat(500)] {
            for width in [1, 20, 56, 80] {
                let addresses = vec![address(&"f".repeat(40)); 9];
                let hostname = "é".repeat(300);
                let lines = screen(&Status { hostname, addresses, ..failed(&message) }, width);
                assert!(lines.len() <= MOST_LINES);
                let plain = |c: char| c == ' ' || c.is_ascii_graphic();
                for line in lines {
                    assert!(
                        line.len() <= width.max(INDENT + 1) && line.chars().all(plain),
                        "{line:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_consoles_are_not_told_the_same_twice() {
        let consoles = Consoles::default();
        let later = Status { uptime_s: 200, ..failed("a") };
        for (status, is_news) in
            [(failed("a"), true), (later, false), (failed("b"), true), (failed("a"), true)]
        {
            assert_eq!(consoles.is_news(&status), is_news);
        }
    }

    #[test]
    fn durations_are_shown_in_two_units() {
        for (seconds, expected) in
            [(0, "0 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(Seconds(seconds).to_string(), expected);
        }
    }
}
