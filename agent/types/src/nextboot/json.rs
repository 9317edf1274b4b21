//! JSON values with the order and the duplicates of their keys, and how Go prints them.

mod write;

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value. Numbers are what Go makes of them if it is not told a type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    /// Every entry as it stands there.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads the first value of `text`; what follows it is ignored.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        Self::deserialize(&mut serde_json::Deserializer::from_str(text))
    }

    /// The type, for an error.
    pub(super) const fn description(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The value as Go's `fmt.Sprint` prints it.
    pub(super) fn printed(&self) -> String {
        match self {
            Self::Null => "<nil>".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => printed_number(*value),
            Self::Text(text) => text.clone(),
            Self::List(list) => format!("[{}]", printed_list(list)),
            Self::Object(entries) => {
                let entries = distinct(entries).into_iter();
                let entries: Vec<_> =
                    entries.map(|(key, value)| format!("{key}:{}", value.printed())).collect();
                format!("map[{}]", entries.join(" "))
            }
        }
    }

    /// The value with each of its strings replaced.
    pub(super) fn map_text(&self, replace: &impl Fn(&str) -> String) -> Self {
        match self {
            Self::Text(text) => Self::Text(replace(text)),
            Self::List(list) => Self::List(list.iter().map(|v| v.map_text(replace)).collect()),
            Self::Object(entries) => {
                let entries = distinct(entries).into_iter();
                Self::Object(entries.map(|(k, v)| (k.to_owned(), v.map_text(replace))).collect())
            }
            other => other.clone(),
        }
    }
}

/// A list as the original joins it to one string.
pub(super) fn printed_list(list: &[Json]) -> String {
    list.iter().map(Json::printed).collect::<Vec<_>>().join(" ")
}

/// The entries sorted by key; of two with the same key the last.
fn distinct(entries: &[(String, Json)]) -> std::collections::BTreeMap<&str, &Json> {
    entries.iter().map(|(key, value)| (key.as_str(), value)).collect()
}

/// Digits that tell the number from every other, with the exponent of the first: `("15", -1)` is 0.15.
fn shortest(value: f64) -> (String, i32) {
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or_default())
}

/// Go's `%v`: with an exponent if it is below -4 or above 5.
fn printed_number(value: f64) -> String {
    let (digits, exponent) = shortest(value);
    if value == 0.0 || (-4..6).contains(&exponent) {
        return value.to_string();
    }
    with_exponent(value, &digits, exponent, 2)
}

fn with_exponent(value: f64, digits: &str, exponent: i32, width: usize) -> String {
    let minus = if value.is_sign_negative() { "-" } else { "" };
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{minus}{first}{point}{rest}e{sign}{:0width$}", exponent.unsigned_abs())
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "Go reads every number so")]
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "Go reads every number so")]
    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = list.next_element()? {
            out.push(value);
        }
        Ok(Json::List(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(entry) = map.next_entry()? {
            out.push(entry);
        }
        Ok(Json::Object(out))
    }
}
