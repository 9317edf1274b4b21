//! The keys that may log in, and what each may do.
//!
//! A line that we do not understand in full is left out and reported with its number: an option
//! that we ignored could have been the one that kept the key small.
//!
//! Format: sshd(8), AUTHORIZED_KEYS FILE FORMAT.

use std::time::{Duration, SystemTime};

use russh::keys::PublicKey;
use russh::keys::ssh_key::public::KeyData;

use super::pattern::{self, Destination, SourceList};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthorizedKey {
    pub(crate) key: KeyData,
    pub(crate) options: KeyOptions,
}

/// What a key is good for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyOptions {
    pub(crate) authority: Authority,
    pub(crate) from: Option<SourceList>,
    pub(crate) command: Option<String>,
    pub(crate) expiry: Option<SystemTime>,
    pub(crate) pty: Switch,
    pub(crate) forwarding: Switch,
    /// Whether a security key must be touched.
    pub(crate) touch: Switch,
    /// Empty means everywhere.
    pub(crate) permit_open: Vec<Destination>,
}

/// Whose key this is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Authority {
    /// An operator's own.
    #[default]
    Operator,
    /// One that signs certificates for these principals; without any, for root.
    Certificates { principals: Vec<String> },
}

/// Whether something is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Switch {
    #[default]
    On,
    Off,
}

/// A line that was left out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}")]
pub(crate) struct LineError {
    pub(crate) line: usize,
    pub(crate) source: Error,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("expected a public key, got \"{0}\"")]
    Key(String),
    #[error("expected an option that we honour, got \"{0}\"")]
    UnknownOption(String),
    #[error("expected a value for {0}")]
    NoValue(&'static str),
    #[error("expected a closing quote")]
    Quote,
    #[error("expected YYYYMMDD[HHMM[SS]][Z], got \"{0}\"")]
    Time(String),
    #[error("expected cert-authority beside principals")]
    PrincipalsAlone,
    #[error("cannot use {option}")]
    Pattern { option: &'static str, source: pattern::Error },
}

/// Reads the whole file: the keys, and the lines that were left out.
pub(crate) fn parse(text: &str) -> (Vec<AuthorizedKey>, Vec<LineError>) {
    let mut keys = Vec::new();
    let mut errors = Vec::new();
    // As some editors begin their files.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line_of(line) {
            Ok(key) => keys.push(key),
            Err(source) => errors.push(LineError { line: index + 1, source }),
        }
    }
    (keys, errors)
}

/// Reads a list of keys without options; one bad line spoils it, as it may name the key that was lost.
pub(crate) fn parse_revoked(text: &str) -> Result<Vec<KeyData>, LineError> {
    let (keys, errors) = parse(text);
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(keys.into_iter().map(|key| key.key).collect()),
    }
}

fn line_of(line: &str) -> Result<AuthorizedKey, Error> {
    if let Ok(key) = key_of(line) {
        return Ok(AuthorizedKey { key, options: KeyOptions::default() });
    }
    let (options, rest) = split_options(line)?;
    let key = key_of(rest.trim_start());
    let options = options_of(options)?;
    Ok(AuthorizedKey { key: key?, options })
}

fn key_of(text: &str) -> Result<KeyData, Error> {
    let bad = || Error::Key(text.chars().take(40).collect());
    let key = PublicKey::from_openssh(text).map_err(|_| bad())?;
    match key.key_data() {
        KeyData::Dsa(_) | KeyData::Other(_) | KeyData::Certificate(_) => Err(bad()),
        data => Ok(data.clone()),
    }
}

/// Splits a line at the first blank that is not quoted, and what is before it at commas.
fn split_options(line: &str) -> Result<(Vec<&str>, &str), Error> {
    let mut options = Vec::new();
    let mut start = 0;
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b',' if !quoted => {
                options.push(&line[start..at]);
                start = at + 1;
            }
            b' ' | b'\t' if !quoted => {
                options.push(&line[start..at]);
                return Ok((options, &line[at..]));
            }
            _ => {}
        }
        escaped = byte == b'\\' && !escaped;
    }
    if quoted { Err(Error::Quote) } else { Err(Error::Key(line.chars().take(40).collect())) }
}

fn options_of(words: Vec<&str>) -> Result<KeyOptions, Error> {
    let mut options = KeyOptions::default();
    let mut principals = None;
    for word in words {
        // What was no text here is not what somebody has written.
        if word.contains(['\0', char::REPLACEMENT_CHARACTER]) {
            return Err(Error::UnknownOption(word.chars().take(40).collect()));
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(unquote(value)?)),
            None => (word, None),
        };
        let value = |option| value.clone().ok_or(Error::NoValue(option));
        match name.to_ascii_lowercase().as_str() {
            "cert-authority" => options.authority = Authority::Certificates { principals: vec![] },
            "principals" => principals = Some(value("principals")?),
            "from" => options.from = Some(pattern_of("from", &value("from")?)?),
            "command" => options.command = Some(value("command")?),
            "expiry-time" => options.expiry = Some(expiry(&value("expiry-time")?)?),
            "permitopen" => {
                options.permit_open.push(pattern_of("permitopen", &value("permitopen")?)?)
            }
            "restrict" => (options.pty, options.forwarding) = (Switch::Off, Switch::Off),
            "pty" => options.pty = Switch::On,
            "no-pty" => options.pty = Switch::Off,
            "port-forwarding" => options.forwarding = Switch::On,
            "no-port-forwarding" => options.forwarding = Switch::Off,
            "touch-required" => options.touch = Switch::On,
            "no-touch-required" => options.touch = Switch::Off,
            // What these forbid, rescue does not have.
            "no-agent-forwarding" | "no-x11-forwarding" | "no-user-rc" => {}
            _ => return Err(Error::UnknownOption(word.chars().take(40).collect())),
        }
    }
    add_principals(&mut options.authority, principals)?;
    Ok(options)
}

fn add_principals(authority: &mut Authority, names: Option<String>) -> Result<(), Error> {
    match (authority, names) {
        (Authority::Certificates { principals }, Some(names)) => {
            principals.extend(names.split(',').map(|name| name.trim().to_owned()));
            Ok(())
        }
        (Authority::Operator, Some(_)) => Err(Error::PrincipalsAlone),
        (_, None) => Ok(()),
    }
}

fn unquote(value: &str) -> Result<String, Error> {
    match value.strip_prefix('"') {
        Some(rest) => {
            let inner = rest.strip_suffix('"').ok_or(Error::Quote)?;
            Ok(inner.replace("\\\"", "\""))
        }
        None => Ok(value.to_owned()),
    }
}

fn pattern_of<T: std::str::FromStr<Err = pattern::Error>>(
    option: &'static str,
    value: &str,
) -> Result<T, Error> {
    value.parse().map_err(|source| Error::Pattern { option, source })
}

/// The ramdisk has no time zone but UTC, so a time without `Z` is one with it.
fn expiry(text: &str) -> Result<SystemTime, Error> {
    let bad = || Error::Time(text.to_owned());
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number = |from: usize, to: usize| -> u64 {
        digits.get(from..to).and_then(|part| part.parse().ok()).unwrap_or(0)
    };
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute, second) = (number(8, 10), number(10, 12), number(12, 14));
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && (hour, minute, second) <= (23, 59, 60)
        && minute <= 59
        && second <= 60;
    if !valid {
        return Err(bad());
    }
    let seconds = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJoVtVBZ4BPHDYIGRGq6pxU1D1gPnGEyCkDf4UyLIFiY a@b";

    fn key() -> KeyData {
        key_of(KEY).unwrap()
    }

    fn options(text: &str) -> Result<KeyOptions, Error> {
        let (keys, errors) = parse(&format!("{text} {KEY}"));
        match (keys.into_iter().next(), errors.into_iter().next()) {
            (Some(key), None) => Ok(key.options),
            (None, Some(error)) => Err(error.source),
            other => unreachable!("one line, got {other:?}"),
        }
    }

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_bad_lines_are_named() {
        let text = format!("# comment\n\n{KEY}\nssh-ed25519 AAAA\n  {KEY}\nteapot {KEY}\n");
        let (keys, errors) = parse(&text);
        let key = AuthorizedKey { key: key(), options: KeyOptions::default() };
        assert_eq!(keys, [key.clone(), key]);
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [4, 6]);
    }

    #[test]
    fn options_are_honoured() {
        let d = KeyOptions::default;
        let table = [
            ("no-pty", KeyOptions { pty: Switch::Off, ..d() }),
            ("restrict", KeyOptions { pty: Switch::Off, forwarding: Switch::Off, ..d() }),
            ("restrict,pty", KeyOptions { forwarding: Switch::Off, ..d() }),
            ("RESTRICT,Port-Forwarding", KeyOptions { pty: Switch::Off, ..d() }),
            ("no-port-forwarding", KeyOptions { forwarding: Switch::Off, ..d() }),
            ("no-touch-required", KeyOptions { touch: Switch::Off, ..d() }),
            ("no-X11-forwarding,no-agent-forwarding,no-user-rc", d()),
            (
                r#"command="echo \"a, b\" c""#,
                KeyOptions { command: Some(r#"echo "a, b" c"#.into()), ..d() },
            ),
            (
                r#"from="10.0.0.0/8,!10.1.1.1""#,
                KeyOptions { from: Some("10.0.0.0/8,!10.1.1.1".parse().unwrap()), ..d() },
            ),
            (
                r#"permitopen="a:1",permitopen="b:*""#,
                KeyOptions {
                    permit_open: vec!["a:1".parse().unwrap(), "b:*".parse().unwrap()],
                    ..d()
                },
            ),
            ("expiry-time=20260101", KeyOptions { expiry: at(1_767_225_600), ..d() }),
            (r#"expiry-time="202402291230Z""#, KeyOptions { expiry: at(1_709_209_800), ..d() }),
            ("expiry-time=19700101000001", KeyOptions { expiry: at(1), ..d() }),
            (
                "cert-authority",
                KeyOptions { authority: Authority::Certificates { principals: vec![] }, ..d() },
            ),
            (
                r#"principals="ops,root",cert-authority"#,
                KeyOptions {
                    authority: Authority::Certificates {
                        principals: vec!["ops".into(), "root".into()],
                    },
                    ..d()
                },
            ),
        ];
        for (text, expected) in table {
            assert_eq!(options(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_an_image_is_built_with_is_honoured() {
        for option in agent_types::authorized_keys::OPTIONS {
            let answer = options(option);
            assert!(!matches!(answer, Err(Error::UnknownOption(_))), "{option}: {answer:?}");
        }
    }

    #[test]
    fn a_key_with_an_option_that_we_do_not_honour_is_left_out() {
        let table = [
            ("verify-required", Error::UnknownOption("verify-required".into())),
            (r#"environment="A=b""#, Error::UnknownOption(r#"environment="A=b""#.into())),
            ("no-pty,", Error::UnknownOption(String::new())),
            ("from", Error::NoValue("from")),
            (r#"command="a"#, Error::Quote),
            ("principals=a", Error::PrincipalsAlone),
            ("expiry-time=20260230", Error::Time("20260230".into())),
            ("expiry-time=2026", Error::Time("2026".into())),
            ("expiry-time=202601012560", Error::Time("202601012560".into())),
        ];
        for (text, expected) in table {
            assert_eq!(options(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_list_of_revoked_keys_is_taken_whole_or_not_at_all() {
        assert_eq!(parse_revoked(&format!("{KEY}\n")), Ok(vec![key()]));
        assert_eq!(parse_revoked(&format!("{KEY}\nx\n")).map_err(|error| error.line), Err(2));
    }
}
