//! Decodes a JSON value as Go's `encoding/json` decodes it into the original client's types.
//!
//! A key is its field's in any case. A field that occurs twice: the later string or list counts, maps
//! are joined. `null` empties a map, a list or `v1`, and leaves a string as it is.

use std::collections::BTreeMap;

use super::json::Json;
use super::{Error, Nextboot, V1};

pub(super) fn nextboot(json: Json) -> Result<Nextboot, Error> {
    let mut kargs = BTreeMap::new();
    let mut v1 = None;
    // Go leaves its document as it was, which is empty.
    let entries = if json == Json::Null { Vec::new() } else { object("the top", json)? };
    for (key, value) in entries {
        match field(&key).as_str() {
            "kargs" => map("kargs", &mut kargs, value, text)?,
            "v1" => decode_v1(&mut v1, value)?,
            _ => {}
        }
    }
    Ok(Nextboot { kargs, v1: v1.ok_or(Error::NoV1)? })
}

fn decode_v1(out: &mut Option<V1>, json: Json) -> Result<(), Error> {
    if json == Json::Null {
        *out = None;
        return Ok(());
    }
    let v1 = out.get_or_insert_default();
    for (key, value) in object("v1", json)? {
        match field(&key).as_str() {
            "chain" if value == Json::Null => {}
            "chain" => v1.chain = Some(text("v1.chain", value)?).filter(|url| !url.is_empty()),
            "vars" => map("v1.vars", &mut v1.vars, value, |_, value| Ok(value))?,
            "files" => map("v1.files", &mut v1.files, value, spec)?,
            "env" => map("v1.env", &mut v1.env, value, text)?,
            "commands" => v1.commands = list("v1.commands", value)?,
            _ => {}
        }
    }
    Ok(())
}

fn spec(place: &str, json: Json) -> Result<BTreeMap<String, String>, Error> {
    let mut spec = BTreeMap::new();
    map(place, &mut spec, json, text)?;
    Ok(spec)
}

/// Adds the entries of an object to `out`.
fn map<T>(
    place: &str,
    out: &mut BTreeMap<String, T>,
    json: Json,
    entry: impl Fn(&str, Json) -> Result<T, Error>,
) -> Result<(), Error> {
    if json == Json::Null {
        out.clear();
        return Ok(());
    }
    for (key, value) in object(place, json)? {
        let value = entry(&format!("{place}.{key}"), value)?;
        out.insert(key, value);
    }
    Ok(())
}

fn object(place: &str, json: Json) -> Result<Vec<(String, Json)>, Error> {
    match json {
        Json::Object(entries) => Ok(entries),
        other => Err(wrong_type(place, "an object", &other)),
    }
}

fn list(place: &str, json: Json) -> Result<Vec<Json>, Error> {
    match json {
        Json::List(list) => Ok(list),
        Json::Null => Ok(Vec::new()),
        other => Err(wrong_type(place, "a list", &other)),
    }
}

fn text(place: &str, json: Json) -> Result<String, Error> {
    match json {
        Json::Text(text) => Ok(text),
        Json::Null => Ok(String::new()),
        other => Err(wrong_type(place, "a string", &other)),
    }
}

fn wrong_type(place: &str, expected: &'static str, got: &Json) -> Error {
    Error::Type { place: place.to_owned(), expected, got: got.description() }
}

/// A key as Go compares it: two letters outside ASCII fold into it.
fn field(key: &str) -> String {
    let fold = |c: char| match c {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}
