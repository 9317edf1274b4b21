//! The state of a boot document as the original reports it (`debug.config`): parameters and document,
//! evaluated as far as it went, in Go's indented JSON. Secrets are taken out first, and what is longer
//! than anybody reads is cut.

use std::collections::BTreeMap;

use super::json::Json;
use super::{Plan, Requests, V1};
use crate::cmdline::Kargs;
use crate::redact::{redact, redact_line, redact_map, redact_value, redact_words};

/// In bytes; documents in use come to a few thousand.
const LONGEST: usize = 256 << 10;

type Object = Vec<(String, Json)>;

pub(super) fn without_document(kargs: &Kargs) -> String {
    Json::Object(kargs_entry(kargs)).written(LONGEST)
}

impl V1 {
    /// The state when the document has been read, and nothing of it is evaluated.
    #[must_use]
    pub fn debug_config(&self, kargs: &Kargs) -> String {
        let chain = self.chain.iter().map(|url| Json::Text(redact(url))).map(named("chain"));
        let vars = self
            .vars
            .iter()
            .map(|(name, value)| (name.clone(), value.map_text(&|text| redact_value(name, text))));
        let mut v1: Object = chain.collect();
        v1.extend(object("vars", vars.collect()));
        v1.extend(specs(&self.files));
        v1.extend(object("env", texts(&self.env)));
        v1.extend(commands(&self.commands));
        document(kargs, v1)
    }
}

impl Requests {
    /// The state when the files have been asked for.
    #[must_use]
    pub fn debug_config(&self) -> String {
        let mut v1: Object = object("vars", texts(&self.vars)).into_iter().collect();
        v1.extend(specs(&self.specs));
        v1.extend(object("env", texts(&self.env)));
        v1.extend(commands(&self.commands));
        document(&self.kargs, v1)
    }
}

impl Plan {
    /// The state when everything has been evaluated.
    #[must_use]
    pub fn debug_config(&self) -> String {
        let env: BTreeMap<_, _> = self.env.iter().cloned().collect();
        let mut v1: Object = object("vars", texts(&self.requests.vars)).into_iter().collect();
        v1.extend(specs(&self.requests.specs));
        v1.extend(object("env", texts(&env)));
        v1.extend(commands(&self.evaluated));
        document(&self.requests.kargs, v1)
    }
}

fn document(kargs: &Kargs, v1: Object) -> String {
    let mut entries = kargs_entry(kargs);
    entries.push(("v1".to_owned(), Json::Object(v1)));
    Json::Object(entries).written(LONGEST)
}

fn kargs_entry(kargs: &Kargs) -> Object {
    let kargs = kargs.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    object("kargs", texts(&kargs)).into_iter().collect()
}

fn specs(files: &BTreeMap<String, BTreeMap<String, String>>) -> Option<(String, Json)> {
    let specs = files.iter().map(|(name, spec)| (name.clone(), Json::Object(texts(spec))));
    object("files", specs.collect())
}

fn commands(commands: &[Json]) -> Option<(String, Json)> {
    let commands: Vec<_> = commands.iter().map(redacted_command).collect();
    (!commands.is_empty()).then_some(Json::List(commands)).map(named("commands"))
}

fn redacted_command(command: &Json) -> Json {
    let words: Option<Vec<String>> = match command {
        Json::List(list) => list.iter().map(as_text).collect(),
        _ => None,
    };
    match words {
        Some(words) => Json::List(redact_words(&words).into_iter().map(Json::Text).collect()),
        None => command.map_text(&redact_line),
    }
}

fn as_text(json: &Json) -> Option<String> {
    match json {
        Json::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn texts(map: &BTreeMap<String, String>) -> Object {
    redact_map(map).into_iter().map(|(key, value)| (key, Json::Text(value))).collect()
}

/// An object as an entry of another one; Go leaves out what is empty.
fn object(name: &'static str, entries: Object) -> Option<(String, Json)> {
    (!entries.is_empty()).then_some(Json::Object(entries)).map(named(name))
}

fn named(name: &'static str) -> impl Fn(Json) -> (String, Json) {
    move |json| (name.to_owned(), json)
}
