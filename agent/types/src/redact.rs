//! Takes secrets out of texts that leave the machine or reach a log.
//!
//! Secrets are: the session in an ePoxy URL, which is all that the boot server asks for; user and
//! password in any URL; the value of everything whose name says that it is one. Each is replaced by
//! [`MARKER`]. What is left is for people: it is never read back.

use std::collections::BTreeMap;

use crate::words;

/// Stands where a secret was.
pub const MARKER: &str = "…";

/// A name that contains one of these is the name of a secret.
const SECRET_WORDS: &[&str] = &[
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "key",
    "session",
    "signature",
    "credential",
    "auth",
];
/// A name that is one of these is the name of a secret.
const SECRET_NAMES: &[&str] = &["sig", "pass", "pw", "pwd"];
/// What may stand between `Authorization:` and the secret; IANA's registry has more, and rarer ones.
const SCHEMES: &[&str] = &["basic", "bearer", "digest", "negotiate", "token"];
/// What a session stands behind: `/v1/boot/<host>/<session>/…`.
const BOOT_ROUTE: &str = "/v1/boot/";

/// `text` without its secrets.
#[must_use]
pub fn redact(text: &str) -> String {
    [sessions, userinfo, named_values, authorizations, bearers]
        .iter()
        .fold(text.to_owned(), |text, rule| rule(&text))
}

/// The value of `key`, without its secrets: nothing of it, if the name says that it is one.
#[must_use]
pub fn redact_value(key: &str, value: &str) -> String {
    if is_secret(key) && !value.is_empty() { MARKER.to_owned() } else { redact(value) }
}

/// Every value of a map, without its secrets.
#[must_use]
pub fn redact_map(map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), redact_value(key, value))).collect()
}

/// A command, without its secrets: also `--password` and the word behind it.
#[must_use]
pub fn redact_words(words: &[String]) -> Vec<String> {
    let mut after_secret_option = false;
    words
        .iter()
        .map(|word| {
            let shown = if after_secret_option { MARKER.to_owned() } else { redacted_word(word) };
            after_secret_option = !after_secret_option && is_secret_option(word);
            shown
        })
        .collect()
}

/// A command in one text, without its secrets.
#[must_use]
pub fn redact_line(line: &str) -> String {
    let words = words::split(line).unwrap_or_else(|_| line.split(' ').map(str::to_owned).collect());
    let shown = redact_words(&words);
    if shown == words { redact(line) } else { shown.join(" ") }
}

/// The rules for texts know the schemes of `Authorization`, and leave them.
fn redacted_word(word: &str) -> String {
    let shown = match word.split_once('=') {
        // One value, with spaces perhaps, and no whole kernel command line.
        Some((name, value)) if is_secret_name(name) && !value.contains('=') => {
            format!("{name}={}", redact_value(name, value))
        }
        _ => redact(word),
    };
    if shown.contains(MARKER) { shown } else { header(&shown) }
}

fn is_secret_name(name: &str) -> bool {
    name.chars().all(is_name) && is_secret(name)
}

fn is_secret_option(word: &str) -> bool {
    word.starts_with('-') && !word.contains('=') && is_secret(word.trim_start_matches('-'))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&name.as_str()) || SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Replaces the sessions in `/v1/boot/<host>/<session>/…`. Without a third `/` the part behind the
/// host is a file such as `stage1.json`, which is no secret.
fn sessions(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(BOOT_ROUTE) {
        let (before, route) = rest.split_at(at + BOOT_ROUTE.len());
        out.push_str(before);
        let (host, behind) = split_segment(route);
        out.push_str(host);
        rest = behind;
        let Some(path) = behind.strip_prefix('/') else { continue };
        let (session, behind) = split_segment(path);
        if behind.starts_with('/') && !session.is_empty() {
            out.push('/');
            out.push_str(MARKER);
            rest = behind;
        }
    }
    out + rest
}

fn split_segment(path: &str) -> (&str, &str) {
    let end = path.find(|c: char| c == '/' || ends_url(c) || matches!(c, '?' | '#' | '&'));
    path.split_at(end.unwrap_or(path.len()))
}

/// Replaces user and password in `scheme://user:password@host`.
fn userinfo(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, authority) = rest.split_at(at + "://".len());
        out.push_str(before);
        let end = authority.find(|c: char| ends_url(c) || matches!(c, '/' | '?' | '#'));
        let (authority, behind) = authority.split_at(end.unwrap_or(authority.len()));
        match authority.rsplit_once('@') {
            Some((_, host)) => out.extend([MARKER, "@", host]),
            None => out.push_str(authority),
        }
        rest = behind;
    }
    out + rest
}

/// Replaces the values in `token=…`, `?session=…&`, `password="…"` and `"secret": "…"`.
fn named_values(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_name) {
        let (before, name) = rest.split_at(at);
        let (name, behind) = name.split_at(name.find(|c| !is_name(c)).unwrap_or(name.len()));
        out.extend([before, name]);
        rest = behind;
        if is_secret(name)
            && let Some((assign, value)) = split_assign(behind)
        {
            let in_query = before.ends_with(['?', '&']);
            let length = value_length(value, assign.chars().next_back(), in_query);
            out.push_str(assign);
            out.push_str(if length > 0 { MARKER } else { "" });
            rest = &value[length..];
        }
    }
    out + rest
}

/// The `=` behind a name, or the `": ` behind a name in JSON, with the quote that opens the value.
fn split_assign(text: &str) -> Option<(&str, &str)> {
    let behind = match text.strip_prefix('=') {
        Some(behind) => behind,
        None => text.strip_prefix('"')?.trim_start().strip_prefix(':')?.trim_start(),
    };
    let value = behind.strip_prefix(['"', '\'']).unwrap_or(behind);
    Some(text.split_at(text.len() - value.len()))
}

/// How many bytes of `value` belong to it: up to its closing quote if it was opened with one.
fn value_length(value: &str, opened_with: Option<char>, in_query: bool) -> usize {
    let mut escaped = false;
    let end = match opened_with.filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => value.find(|c| {
            let closes = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        }),
        None => value.find(|c| ends_url(c) || (in_query && matches!(c, '&' | '#'))),
    };
    end.unwrap_or(value.len())
}

/// Replaces the credentials in `Authorization: Basic …` (RFC 9110, section 11.6.2).
fn authorizations(text: &str) -> String {
    const FIELD: &str = "authorization:";
    let Some(at) = text.to_ascii_lowercase().find(FIELD) else { return text.to_owned() };
    let (before, value) = text.split_at(at + FIELD.len());
    let end = value.find(['"', '\'', '\n']).unwrap_or(value.len());
    let (value, behind) = value.split_at(end);
    let credentials = value.trim_start();
    if credentials.is_empty() {
        return format!("{before}{value}{}", authorizations(behind));
    }
    let secret = match credentials.split_once(' ') {
        Some((scheme, secret)) if is_scheme(scheme) => secret,
        _ => credentials,
    };
    let shown = &value[..value.len() - secret.len()];
    format!("{before}{shown}{MARKER}{}", authorizations(behind))
}

fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Replaces the value of a header field that is a word of its own, as behind curl's `-H`.
fn header(word: &str) -> String {
    match word.split_once(':') {
        Some((name, value)) if is_secret_name(name) && !value.is_empty() => {
            format!("{name}: {MARKER}")
        }
        _ => word.to_owned(),
    }
}

/// Replaces the word behind `Bearer`.
fn bearers(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("Bearer ") {
        let (before, token) = rest.split_at(at + "Bearer ".len());
        out.push_str(before);
        let length = value_length(token, None, false);
        out.push_str(if length > 0 { MARKER } else { "" });
        rest = &token[length..];
    }
    out + rest
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_and_nothing_else_is() {
        let cases = [
            ("", ""),
            ("cannot mount proc on /proc", "cannot mount proc on /proc"),
            ("https://s/v1/boot/h/S3ss/stage2", "https://s/v1/boot/h/…/stage2"),
            ("https://s/v1/boot/h/S3ss/extension/op?x=1", "https://s/v1/boot/h/…/extension/op?x=1"),
            ("https://s/v1/boot/h/stage1.json", "https://s/v1/boot/h/stage1.json"),
            ("https://s/v1/boot/h", "https://s/v1/boot/h"),
            (
                "a https://s/v1/boot/h/A/r b https://s/v1/boot/h/B/r c",
                "a https://s/v1/boot/h/…/r b https://s/v1/boot/h/…/r c",
            ),
            ("https://s/v1/storage/p/q", "https://s/v1/storage/p/q"),
            ("https://user:pw@s/p", "https://…@s/p"),
            ("https://user@s:443", "https://…@s:443"),
            ("https://s/p@q", "https://s/p@q"),
            ("get \"https://u:p@s\" x@y", "get \"https://…@s\" x@y"),
            ("https://s/stage2?session=12345", "https://s/stage2?session=…"),
            ("https://s/x?a=1&token=abc&b=2#c", "https://s/x?a=1&token=…&b=2#c"),
            ("https://s/x?X-Goog-Signature=abc", "https://s/x?X-Goog-Signature=…"),
            ("epoxy.k8s_token=abc&d quiet", "epoxy.k8s_token=… quiet"),
            ("PASSWORD='a b' x", "PASSWORD='…' x"),
            ("{\"secret\": \"a\\\"b\", \"n\": 1}", "{\"secret\": \"…\", \"n\": 1}"),
            ("token=", "token="),
            ("sig=abc design=abc", "sig=… design=abc"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
            ("authorization: basic dXNlcjpwdw==", "authorization: basic …"),
            ("curl -H 'Authorization: Digest a, b' x", "curl -H 'Authorization: Digest …' x"),
            ("Authorization:abc", "Authorization:…"),
            ("Authorization:", "Authorization:"),
            ("authorized-keys: cannot read", "authorized-keys: cannot read"),
            ("epoxy.ip=1.2.3.4::1.2.3.1", "epoxy.ip=1.2.3.4::1.2.3.1"),
            ("cannot find key: no such file", "cannot find key: no such file"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(text), expected, "{text:?}");
            assert_eq!(redact(expected), expected, "what is redacted stays as it is");
        }
    }

    #[test]
    fn a_map_s_names_tell_its_secrets() {
        let map = |entries: [(&str, &str); 4]| {
            BTreeMap::from(entries.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        assert_eq!(
            redact_map(&map([("A_TOKEN", "x"), ("Key", ""), ("url", "https://u@s"), ("n", "x")])),
            map([("A_TOKEN", "…"), ("Key", ""), ("url", "https://…@s"), ("n", "x")])
        );
    }

    #[test]
    fn an_option_s_secret_is_the_next_word() {
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            redact_words(&words(&["x", "--token", "a", "b", "--key=c", "d", "-n", "e"])),
            words(&["x", "--token", "…", "b", "--key=…", "d", "-n", "e"])
        );
        for (line, expected) in [
            ("x --token a  b='c d' pw='e f'", "x --token … b=c d pw=…"),
            ("curl -H 'X-Auth-Token: abc' u", "curl -H X-Auth-Token: … u"),
            ("x --password 'my secret' y", "x --password … y"),
            ("x --password 'open", "x --password …"),
            ("x 'a  b' # token=c", "x 'a  b' # token=…"),
            ("curl -H 'Authorization: tok3n more'", "curl -H Authorization: …"),
        ] {
            assert_eq!(redact_line(line), expected);
        }
    }

    #[test]
    fn a_word_may_be_a_header_field() {
        for (word, expected) in [
            ("X-Auth-Token:abc", "X-Auth-Token: …"),
            ("X-Api-Key: a b", "X-Api-Key: …"),
            ("Authorization: Basic abc", "Authorization: Basic …"),
            ("Content-Type: text/plain", "Content-Type: text/plain"),
            ("https://host", "https://host"),
        ] {
            assert_eq!(redact_words(&[word.to_owned()]), [expected]);
        }
    }
}
