//! Cuts a template into text and the tokens of its actions, as Go's lexer does.

use super::Error;

/// What Go's templates can do and this client cannot: its control words, then its functions.
const UNSUPPORTED: &[&str] = &[
    "block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template",
    "with", "true", "false", "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len",
    "lt", "ne", "not", "or", "print", "printf", "println", "slice", "urlquery",
];

/// A token with the place where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Bytes from the start of the template.
    pub(super) at: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// `.name`
    Field(String),
    /// `.`
    Dot,
    /// `kargs`, the only function.
    Kargs,
    /// A string literal, without its quotes and with its escapes resolved.
    Text(String),
    /// `|`
    Pipe,
    /// White space between operands.
    Space,
}

/// Where the scanner stands in the template.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The text up to the next action or comment, without what a `{{- ` trims off its end. On return
    /// the scanner stands behind the `{{`, or at the end of the template: then `false` is with it.
    pub(super) fn plain(&mut self) -> (&'a str, bool) {
        let rest = self.rest();
        let Some(length) = rest.find(OPEN) else {
            self.at = self.text.len();
            return (rest, false);
        };
        self.at += length + OPEN.len();
        let plain = &rest[..length];
        let mut behind = self.rest().chars();
        if behind.next() == Some('-') && behind.next().is_some_and(is_space) {
            self.at += 2;
            return (plain.trim_end_matches(is_space), true);
        }
        (plain, true)
    }

    /// Skips the comment that begins here, with its closing delimiter, if one does.
    pub(super) fn comment(&mut self) -> Result<bool, Error> {
        let Some(body) = self.rest().strip_prefix("/*") else {
            return Ok(false);
        };
        let Some(length) = body.find("*/") else {
            return Err(self.expected("*/", "the end of the template", self.at));
        };
        self.at += "/*".len() + length + "*/".len();
        if self.close() {
            return Ok(true);
        }
        Err(self.expected("}} behind the comment", &self.here(), self.at))
    }

    /// The tokens up to the closing delimiter; on return the scanner stands behind it and what it trims.
    pub(super) fn action(&mut self) -> Result<Vec<Token>, Error> {
        let mut tokens: Vec<Token> = Vec::new();
        while !self.close() {
            let at = self.at;
            let kind = self.token()?;
            if kind != Kind::Space || tokens.last().is_none_or(|last| last.kind != Kind::Space) {
                tokens.push(Token { kind, at });
            }
        }
        Ok(tokens)
    }

    /// What stands between here and `start`, as a person wrote it.
    pub(super) fn source(&self, start: usize) -> &'a str {
        let source = self.text[start..self.at].trim_end_matches(is_space);
        let source = source.strip_suffix(CLOSE).unwrap_or(source);
        source.strip_suffix('-').unwrap_or(source).trim_matches(is_space)
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) fn expected(&self, expected: &'static str, got: &str, at: usize) -> Error {
        Error::Syntax { expected, got: got.to_owned(), position: self.character(at) }
    }

    pub(super) fn unsupported(&self, word: &str, at: usize) -> Error {
        Error::Unsupported { word: word.to_owned(), position: self.character(at) }
    }

    fn token(&mut self) -> Result<Kind, Error> {
        let at = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Err(self.expected("}}", "the end of the template", at));
        };
        self.at += first.len_utf8();
        match first {
            c if is_space(c) => Ok(Kind::Space),
            '|' => Ok(Kind::Pipe),
            '"' => self.interpreted(at),
            '`' => self.raw(at),
            '.' if !self.rest().starts_with(|c: char| c.is_ascii_digit()) => self.field(at),
            c if is_alphanumeric(c) && !c.is_ascii_digit() => self.word(at),
            '$' | '(' | '\'' | '+' | '-' | '.' | '0'..='9' => {
                Err(self.unsupported(&self.rough_word(at), at))
            }
            _ => Err(self.expected("an operand", &format!("{first:?}"), at)),
        }
    }

    fn field(&mut self, at: usize) -> Result<Kind, Error> {
        let name = self.name();
        self.terminated(at)?;
        Ok(if name.is_empty() { Kind::Dot } else { Kind::Field(name.to_owned()) })
    }

    fn word(&mut self, at: usize) -> Result<Kind, Error> {
        self.at = at;
        let word = self.name();
        self.terminated(at)?;
        match word {
            "kargs" => Ok(Kind::Kargs),
            word if UNSUPPORTED.contains(&word) => Err(self.unsupported(word, at)),
            word => Err(self.expected("the function kargs", word, at)),
        }
    }

    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !is_alphanumeric(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Go wants one of these behind a name.
    fn terminated(&self, at: usize) -> Result<(), Error> {
        let rest = self.rest();
        let ends = |c: char| is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(');
        if rest.is_empty() || rest.starts_with(ends) || rest.starts_with(CLOSE) {
            return Ok(());
        }
        Err(self.expected("a letter, a digit or _ in a name", &self.here(), at.max(self.at)))
    }

    /// Reads the rest of a literal in double quotes.
    fn interpreted(&mut self, at: usize) -> Result<Kind, Error> {
        let mut escaped = false;
        let end = self.rest().find(|c| {
            let ends = c == '\n' || (c == '"' && !escaped);
            escaped = c == '\\' && !escaped;
            ends
        });
        let body = end.map(|end| &self.rest()[..end]);
        let Some(body) = body.filter(|body| self.rest()[body.len()..].starts_with('"')) else {
            return Err(self.expected("a closing \"", "the end of the line", at));
        };
        self.at += body.len() + 1;
        let text = unescape(body);
        text.map(Kind::Text)
            .ok_or_else(|| self.expected("a Go string literal", &format!("\"{body}\""), at))
    }

    /// Reads the rest of a literal in back quotes.
    fn raw(&mut self, at: usize) -> Result<Kind, Error> {
        let Some(length) = self.rest().find('`') else {
            return Err(self.expected("a closing `", "the end of the template", at));
        };
        let body = &self.rest()[..length];
        self.at += length + 1;
        Ok(Kind::Text(body.replace('\r', "")))
    }

    /// Steps over the closing delimiter, with the space behind it if it trims, if it is here.
    fn close(&mut self) -> bool {
        let rest = self.rest();
        let trims = rest.strip_prefix(is_space).and_then(|rest| rest.strip_prefix("-}}"));
        let behind = match trims {
            Some(behind) => Some(behind.trim_start_matches(is_space)),
            None => rest.strip_prefix(CLOSE),
        };
        self.at = behind.map_or(self.at, |behind| self.text.len() - behind.len());
        behind.is_some()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The character here, for an error.
    fn here(&self) -> String {
        match self.rest().chars().next() {
            Some(c) => format!("{c:?}"),
            None => "the end of the template".to_owned(),
        }
    }

    /// What a person takes for the word at `at`.
    fn rough_word(&self, at: usize) -> String {
        let ends = |c: char| is_space(c) || matches!(c, '}' | '|' | ')');
        self.text[at..].chars().take_while(|c| !ends(*c)).take(20).collect()
    }

    fn character(&self, at: usize) -> usize {
        self.text.get(..at).map_or(at, |before| before.chars().count()) + 1
    }
}

/// Resolves the escapes of a Go string literal; none if Go would refuse it, or if it is not UTF-8.
fn unescape(body: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = body.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next()? {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' => bytes.push(b'\\'),
            '"' => bytes.push(b'"'),
            'x' => bytes.push(u8::try_from(digits(&mut rest, 2, 16)?).ok()?),
            'u' => push_char(&mut bytes, digits(&mut rest, 4, 16)?)?,
            'U' => push_char(&mut bytes, digits(&mut rest, 8, 16)?)?,
            first @ '0'..='7' => {
                let value = first.to_digit(8)? * 64 + digits(&mut rest, 2, 8)?;
                bytes.push(u8::try_from(value).ok()?);
            }
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

fn digits(rest: &mut std::str::Chars<'_>, count: u32, radix: u32) -> Option<u32> {
    (0..count).try_fold(0_u32, |value, _| {
        value.checked_mul(radix)?.checked_add(rest.next()?.to_digit(radix)?)
    })
}

fn push_char(bytes: &mut Vec<u8>, value: u32) -> Option<()> {
    bytes.extend_from_slice(char::from_u32(value)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
