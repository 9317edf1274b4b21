//! Splits a command into words as google/shlex does.
//!
//! White space is space, tab, CR and LF. Single quotes protect everything; in double quotes and
//! outside of quotes a backslash protects the next character, whichever it is. `#` at the start of a
//! word begins a comment, which ends with its line. Nothing is expanded.
//! See <https://pkg.go.dev/github.com/google/shlex>.

use std::str::Chars;

/// Why a text cannot be split into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text ends inside quotes.
    #[error("expected a closing {0}, got the end of the command")]
    UnclosedQuote(char),
    /// The text ends with a backslash.
    #[error("expected a character after the backslash, got the end of the command")]
    NothingEscaped,
}

/// Splits `text`; a blank text and one that is only a comment have no words.
///
/// # Errors
/// If a quote is not closed, or if nothing follows a backslash.
pub fn split(text: &str) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    let mut rest = text.chars();
    while let Some(first) = rest.next() {
        match first {
            c if is_space(c) => {}
            '#' => skip_comment(&mut rest),
            c => words.push(word(c, &mut rest)?),
        }
    }
    Ok(words)
}

fn skip_comment(rest: &mut Chars<'_>) {
    rest.find(|c| *c == '\n');
}

/// Reads the word that begins with `first`, and the white space behind it.
fn word(first: char, rest: &mut Chars<'_>) -> Result<String, Error> {
    let mut word = String::new();
    let mut next = Some(first);
    while let Some(c) = next.filter(|c| !is_space(*c)) {
        match c {
            '\'' => single_quoted(&mut word, rest)?,
            '"' => double_quoted(&mut word, rest)?,
            '\\' => word.push(rest.next().ok_or(Error::NothingEscaped)?),
            c => word.push(c),
        }
        next = rest.next();
    }
    Ok(word)
}

fn single_quoted(word: &mut String, rest: &mut Chars<'_>) -> Result<(), Error> {
    loop {
        match rest.next().ok_or(Error::UnclosedQuote('\''))? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

fn double_quoted(word: &mut String, rest: &mut Chars<'_>) -> Result<(), Error> {
    loop {
        match rest.next().ok_or(Error::UnclosedQuote('"'))? {
            '"' => return Ok(()),
            '\\' => word.push(rest.next().ok_or(Error::NothingEscaped)?),
            c => word.push(c),
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row was given to google/shlex, and is what it answered.
    const SPLIT: &[(&str, &[&str])] = &[
        ("", &[]),
        (" \t\r\n", &[]),
        ("# only a comment", &[]),
        ("one two", &["one", "two"]),
        ("  one\ttwo\r\nthree ", &["one", "two", "three"]),
        ("one # two\nthree", &["one", "three"]),
        ("one#two", &["one#two"]),
        ("#a\n#b\nc", &["c"]),
        ("''#x", &["#x"]),
        ("\\#x", &["#x"]),
        ("'a b' \"c d\"", &["a b", "c d"]),
        ("a'b c'd\"e f\"g", &["ab cde fg"]),
        ("'' \"\"", &["", ""]),
        ("'a\\b'", &["a\\b"]),
        ("\"a\\b\"", &["ab"]),
        ("\"a\\\"b\" \"c\\\\d\"", &["a\"b", "c\\d"]),
        ("\"a'b\" 'c\"d'", &["a'b", "c\"d"]),
        ("a\\ b\\\nc", &["a b\nc"]),
        ("$HOME `x` ~ *; |&", &["$HOME", "`x`", "~", "*;", "|&"]),
        ("a\u{b}b\u{a0}c", &["a\u{b}b\u{a0}c"]),
        ("é 'ü ö'", &["é", "ü ö"]),
        ("--command-line='a=b c' x", &["--command-line=a=b c", "x"]),
    ];

    #[test]
    fn a_text_is_split_as_google_shlex_splits_it() {
        for (text, expected) in SPLIT {
            assert_eq!(split(text).unwrap(), *expected, "{text:?}");
        }
    }

    #[test]
    fn an_unfinished_text_is_an_error() {
        let cases = [
            ("a 'b", Error::UnclosedQuote('\'')),
            ("it's", Error::UnclosedQuote('\'')),
            ("\"a", Error::UnclosedQuote('"')),
            ("a\\", Error::NothingEscaped),
            ("\"a\\", Error::NothingEscaped),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), Err(expected), "{text:?}");
        }
    }
}
