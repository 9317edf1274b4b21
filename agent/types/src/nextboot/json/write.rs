//! How Go's `json.MarshalIndent` writes a value: four spaces for each level.

use super::{Json, shortest, with_exponent};

/// A text beyond which nothing is written: the indentation of a deep document can be hundreds of times
/// as long as the document.
struct Text {
    written: String,
    limit: usize,
}

/// The text has come to its limit.
struct Full;

impl Json {
    /// The value in Go's way; of a text longer than `limit` bytes, what comes after that is left out.
    pub(in super::super) fn written(&self, limit: usize) -> String {
        let mut text = Text { written: String::new(), limit };
        match text.value(self, 0) {
            Ok(()) => text.written,
            Err(Full) => text.written + "\n[and more]",
        }
    }
}

impl Text {
    fn value(&mut self, value: &Json, level: usize) -> Result<(), Full> {
        match value {
            Json::Null => self.push("null"),
            Json::Bool(value) => self.push(&value.to_string()),
            Json::Number(value) => self.push(&number(*value)),
            Json::Text(text) => self.push(&quoted(text)),
            Json::List(list) => {
                self.block(['[', ']'], level, list, |text, value| text.value(value, level + 1))
            }
            Json::Object(entries) => {
                self.block(['{', '}'], level, entries, |text, (key, value)| {
                    text.push(&quoted(key))?;
                    text.push(": ")?;
                    text.value(value, level + 1)
                })
            }
        }
    }

    fn block<T>(
        &mut self,
        [open, close]: [char; 2],
        level: usize,
        lines: &[T],
        line: impl Fn(&mut Self, &T) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mut before = open;
        for item in lines {
            self.push(&format!("{before}\n{}", margin(level + 1)))?;
            line(self, item)?;
            before = ',';
        }
        match lines {
            [] => self.push(&format!("{open}{close}")),
            _ => self.push(&format!("\n{}{close}", margin(level))),
        }
    }

    fn push(&mut self, part: &str) -> Result<(), Full> {
        if self.written.len() + part.len() > self.limit {
            return Err(Full);
        }
        self.written.push_str(part);
        Ok(())
    }
}

fn margin(level: usize) -> String {
    "    ".repeat(level)
}

/// Go's `encoding/json`: ECMAScript's way of writing numbers.
fn number(value: f64) -> String {
    let (digits, exponent) = shortest(value);
    if value == 0.0 || (-6..21).contains(&exponent) {
        return value.to_string();
    }
    with_exponent(value, &digits, exponent, if exponent < 0 { 1 } else { 2 })
}

/// A string as Go's `encoding/json` writes it: safe inside HTML too.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_document_does_not_grow_beyond_the_limit() {
        let deep = format!(
            "{}{}{}",
            "[".repeat(100),
            "1,".repeat(10_000),
            "1".to_owned() + &"]".repeat(100)
        );
        let json = Json::parse(&deep).unwrap_or(Json::Null);
        let written = json.written(1000);
        assert!(written.len() <= 1000 + "\n[and more]".len(), "{written}");
        assert!(written.starts_with("[\n    [\n        [") && written.ends_with("\n[and more]"));
        assert!(json.written(10_000_000).ends_with("    ]\n]"));
    }
}
