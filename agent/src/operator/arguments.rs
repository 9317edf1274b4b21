//! The command line of the role *stage2*: a pure parser.

use std::str::FromStr;

use agent_types::digest::{ParseDigestError, Sha256Digest};

use super::command::{self, Command};
use crate::wishes::Replacements;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A short status.
    Message,
    /// How to use all this.
    Help,
    /// How to use one subcommand.
    HelpFor(&'static Command),
    /// Which program this is.
    Version,
    /// The status, in one form or the other, once or for ever.
    Status(Form, Times),
    /// The log.
    Log(Lines, Times),
    /// The evaluated boot document.
    Plan,
    /// Keep the boot from handing over.
    Hold,
    /// Let it go on.
    Resume,
    /// Begin a new attempt.
    Retry,
    /// Change kernel parameters.
    Set(Replacements),
    /// Download a file.
    Fetch(Fetch),
    /// Load and enter a kernel.
    Kexec(Vec<String>),
    /// What the machine is made of.
    Inventory(Form),
    /// The network.
    Net,
    /// Enter an installed system.
    Chroot(Chroot),
    /// Restart.
    Reboot,
    /// Turn off.
    PowerOff,
}

/// For whom it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// How often it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// As it is now.
    Once,
    /// And as it will be.
    Follow,
}

/// Which lines of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// Our own, and the kernel's warnings.
    ThatMatter,
    /// Every line.
    All,
}

/// A download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) url: String,
    pub(super) sha256: Option<Sha256Digest>,
    pub(super) output: Option<String>,
}

/// A visit to an installed system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chroot {
    pub(super) device: String,
    /// Nothing is a shell.
    pub(super) command: Vec<String>,
}

/// Why the command line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UsageError {
    #[error("unknown command {0:?}: `stage2 --help` lists them")]
    Command(String),
    #[error("unknown option {option} of {command}: see `stage2 {command} --help`")]
    Option { command: &'static str, option: String },
    #[error("expected nothing behind {command}, got {operand:?}: see `stage2 {command} --help`")]
    Surplus { command: &'static str, operand: String },
    #[error("expected {what} behind {command}, got nothing: see `stage2 {command} --help`")]
    Missing { command: &'static str, what: &'static str },
    #[error("expected KEY=VALUE without white space and quotes, got {0:?}: `stage2 set --help`")]
    Parameter(String),
    #[error("cannot use the digest {text:?}: 64 hexadecimal digits are what sha256sum prints")]
    Digest { text: String, source: ParseDigestError },
}

impl Request {
    /// Understands the arguments, without the program's name.
    pub(super) fn parse(arguments: &[String]) -> Result<Self, UsageError> {
        let Some((name, rest)) = arguments.split_first() else { return Ok(Self::Message) };
        match name.as_str() {
            "-h" | "--help" | "help" => return Ok(Self::Help),
            "-V" | "--version" => return Ok(Self::Version),
            "kexec" => return Ok(Self::Kexec(rest.to_vec())),
            _ => {}
        }
        let command = command::named(name).ok_or_else(|| UsageError::Command(name.clone()))?;
        // What follows the device is another command's.
        let own = if name == "chroot" { rest.get(..1).unwrap_or_default() } else { rest };
        if own.iter().any(|word| word == "--help" || word == "-h") {
            return Ok(Self::HelpFor(command));
        }
        Words { command: command.name, rest: rest.iter() }.request()
    }
}

/// The words behind a subcommand.
struct Words<'a> {
    command: &'static str,
    rest: std::slice::Iter<'a, String>,
}

impl Words<'_> {
    fn request(mut self) -> Result<Request, UsageError> {
        match self.command {
            "status" => {
                let [json, follow] = self.flags([&["--json"], &["--follow", "-f"]])?;
                Ok(Request::Status(form(json), times(follow)))
            }
            "log" => {
                let [follow, all] = self.flags([&["--follow", "-f"], &["--all", "-a"]])?;
                Ok(Request::Log(if all { Lines::All } else { Lines::ThatMatter }, times(follow)))
            }
            "inventory" => {
                let [json] = self.flags([&["--json"]])?;
                Ok(Request::Inventory(form(json)))
            }
            "set" => self.set(),
            "fetch" => self.fetch(),
            "chroot" => self.chroot(),
            "plan" => self.alone(Request::Plan),
            "hold" => self.alone(Request::Hold),
            "resume" => self.alone(Request::Resume),
            "retry" => self.alone(Request::Retry),
            "net" => self.alone(Request::Net),
            "reboot" => self.alone(Request::Reboot),
            "poweroff" => self.alone(Request::PowerOff),
            other => Err(UsageError::Command(other.to_owned())),
        }
    }

    fn alone(mut self, request: Request) -> Result<Request, UsageError> {
        self.flags([]).map(|[]| request)
    }

    /// Which flags are there, each with its spellings; nothing else may be.
    fn flags<const N: usize>(&mut self, known: [&[&str]; N]) -> Result<[bool; N], UsageError> {
        let mut seen = [false; N];
        for word in self.rest.by_ref() {
            let found = known.iter().position(|names| names.contains(&word.as_str()));
            match found.and_then(|index| seen.get_mut(index)) {
                Some(flag) => *flag = true,
                None => return Err(unexpected(self.command, word)),
            }
        }
        Ok(seen)
    }

    fn set(self) -> Result<Request, UsageError> {
        let parameters: Replacements =
            self.rest.map(|word| parameter(word)).collect::<Result<_, _>>()?;
        if parameters.is_empty() {
            return Err(UsageError::Missing { command: "set", what: "KEY=VALUE" });
        }
        Ok(Request::Set(parameters))
    }

    fn fetch(mut self) -> Result<Request, UsageError> {
        let (mut url, mut sha256, mut output) = (None, None, None);
        while let Some(word) = self.rest.next() {
            let (name, value) =
                word.split_once('=').map_or((word.as_str(), None), |(n, v)| (n, Some(v)));
            match name {
                "--sha256" => sha256 = Some(digest(&self.value(value, "a digest")?)?),
                "-o" | "--output" => output = Some(self.value(value, "a file name")?),
                _ if word.starts_with('-') || url.is_some() => {
                    return Err(unexpected(self.command, word));
                }
                _ => url = Some(word.clone()),
            }
        }
        let url = url.ok_or(UsageError::Missing { command: "fetch", what: "a URL" })?;
        Ok(Request::Fetch(Fetch { url, sha256, output }))
    }

    fn chroot(mut self) -> Result<Request, UsageError> {
        match self.rest.next() {
            None => Err(UsageError::Missing { command: "chroot", what: "a device" }),
            Some(word) if word.starts_with('-') => Err(unexpected(self.command, word)),
            Some(device) => {
                let command = self.rest.cloned().collect();
                Ok(Request::Chroot(Chroot { device: device.clone(), command }))
            }
        }
    }

    /// The value behind `=`, or the next word.
    fn value(&mut self, joined: Option<&str>, what: &'static str) -> Result<String, UsageError> {
        let value = joined.map(str::to_owned).or_else(|| self.rest.next().cloned());
        value
            .filter(|value| !value.is_empty())
            .ok_or(UsageError::Missing { command: self.command, what })
    }
}

fn unexpected(command: &'static str, word: &str) -> UsageError {
    if word.starts_with('-') {
        UsageError::Option { command, option: word.to_owned() }
    } else {
        UsageError::Surplus { command, operand: word.to_owned() }
    }
}

fn form(json: bool) -> Form {
    if json { Form::Json } else { Form::Text }
}

fn times(follow: bool) -> Times {
    if follow { Times::Follow } else { Times::Once }
}

/// What both readers of a kernel command line take for the same parameter.
fn parameter(word: &str) -> Result<(String, String), UsageError> {
    let plain =
        |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() && !key.starts_with('-') && plain(word) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(UsageError::Parameter(word.to_owned())),
    }
}

fn digest(text: &str) -> Result<Sha256Digest, UsageError> {
    Sha256Digest::from_str(text)
        .map_err(|source| UsageError::Digest { text: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Request, UsageError> {
        Request::parse(&arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn set(pairs: &[(&str, &str)]) -> Request {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Request::Set(pairs.collect())
    }

    fn fetch(sha256: Option<&str>, output: Option<&str>) -> Request {
        let sha256 = sha256.map(|text| text.parse().unwrap());
        let url = "https://h/f".to_owned();
        Request::Fetch(Fetch { url, sha256, output: output.map(str::to_owned) })
    }

    fn chroot(command: &[&str]) -> Request {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Request::Chroot(Chroot { device: "/dev/vda1".to_owned(), command })
    }

    #[test]
    fn every_command_is_understood() {
        let digest = "0".repeat(64);
        for (arguments, expected) in [
            (&[][..], Request::Message),
            (&["--help"], Request::Help),
            (&["-V"], Request::Version),
            (&["status"], Request::Status(Form::Text, Times::Once)),
            (&["status", "--follow", "--json"], Request::Status(Form::Json, Times::Follow)),
            (&["log"], Request::Log(Lines::ThatMatter, Times::Once)),
            (&["log", "--all", "-f"], Request::Log(Lines::All, Times::Follow)),
            (&["plan"], Request::Plan),
            (&["hold"], Request::Hold),
            (&["resume"], Request::Resume),
            (&["retry"], Request::Retry),
            (&["set", "a=b=c", "d="], set(&[("a", "b=c"), ("d", "")])),
            (&["fetch", "https://h/f"], fetch(None, None)),
            (&["fetch", "--sha256", &digest, "https://h/f"], fetch(Some(&digest), None)),
            (
                &["fetch", "https://h/f", &format!("--sha256={digest}"), "-o", "x"],
                fetch(Some(&digest), Some("x")),
            ),
            (&["kexec", "-e", "--help"], Request::Kexec(vec!["-e".into(), "--help".into()])),
            (&["inventory", "--json"], Request::Inventory(Form::Json)),
            (&["net"], Request::Net),
            (&["chroot", "/dev/vda1"], chroot(&[])),
            (&["chroot", "/dev/vda1", "ls", "--help"], chroot(&["ls", "--help"])),
            (&["reboot"], Request::Reboot),
            (&["poweroff"], Request::PowerOff),
        ] {
            assert_eq!(parse(arguments), Ok(expected), "{arguments:?}");
        }
    }

    #[test]
    fn every_command_explains_itself() {
        for command in command::COMMANDS.iter().filter(|command| command.name != "kexec") {
            assert_eq!(parse(&[command.name, "--help"]), Ok(Request::HelpFor(command)));
        }
    }

    #[test]
    fn an_error_names_the_operand_and_the_remedy() {
        for (arguments, expected) in [
            (&["stauts"][..], "unknown command \"stauts\": `stage2 --help` lists them"),
            (&["hold", "-x"], "unknown option -x of hold: see `stage2 hold --help`"),
            (&["plan", "b"], "expected nothing behind plan, got \"b\": see `stage2 plan --help`"),
            (&["set"], "expected KEY=VALUE behind set, got nothing: see `stage2 set --help`"),
            (&["fetch"], "expected a URL behind fetch, got nothing: see `stage2 fetch --help`"),
            (
                &["chroot"],
                "expected a device behind chroot, got nothing: see `stage2 chroot --help`",
            ),
            (&["chroot", "-x"], "unknown option -x of chroot: see `stage2 chroot --help`"),
            (
                &["fetch", "u", "-o"],
                "expected a file name behind fetch, got nothing: see `stage2 fetch --help`",
            ),
            (
                &["set", "a=b c"],
                "expected KEY=VALUE without white space and quotes, got \"a=b c\": `stage2 set --help`",
            ),
            (
                &["set", "=b"],
                "expected KEY=VALUE without white space and quotes, got \"=b\": `stage2 set --help`",
            ),
            (
                &["fetch", "u", "--sha256", "12"],
                "cannot use the digest \"12\": 64 hexadecimal digits are what sha256sum prints",
            ),
        ] {
            assert_eq!(parse(arguments).unwrap_err().to_string(), expected);
        }
    }
}
