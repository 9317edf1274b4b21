//! Boot documents with what they come to, one for each rule of the ePoxy protocol.
//!
//! What is expected is what Go 1.19's encoding/json and text/template and google/shlex answer, called in
//! the original client's order. Where this client deliberately answers otherwise, the rule says
//! "refused" or "error before the download".

use std::collections::BTreeMap;

use agent_types::cmdline::Kargs;
use agent_types::nextboot::{Error, Nextboot};

#[path = "conformance/commands.rs"]
mod commands;
#[path = "conformance/files.rs"]
mod files;
#[path = "conformance/json.rs"]
mod json;
#[path = "conformance/parameters.rs"]
mod parameters;
#[path = "conformance/templates.rs"]
mod templates;
#[path = "conformance/vars.rs"]
mod vars;

/// A document, and what it must come to.
pub struct Row {
    /// The protocol's sentence.
    pub rule: &'static str,
    /// The kernel command line.
    pub cmdline: &'static str,
    /// The document.
    pub document: &'static str,
    /// What it comes to.
    pub expected: Expected,
}

/// What a document comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// Another document counts.
    Chain(&'static str),
    /// Everything could be evaluated.
    Plan(Evaluated),
    /// An error with its causes.
    Error(&'static str),
}

/// A document, evaluated.
#[derive(Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// Names with values.
    pub vars: &'static [(&'static str, &'static str)],
    /// Names with addresses and digests.
    pub files: &'static [(&'static str, &'static str, Option<&'static str>)],
    /// Names with values.
    pub env: &'static [(&'static str, &'static str)],
    /// Words.
    pub commands: &'static [&'static [&'static str]],
}

/// A document that asks for nothing.
pub const NOTHING: Evaluated = Evaluated { vars: &[], files: &[], env: &[], commands: &[] };

/// A digest that a document can name.
pub const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A document with nothing but variables.
pub const fn vars(vars: &'static [(&'static str, &'static str)]) -> Expected {
    Expected::Plan(Evaluated { vars, ..NOTHING })
}

/// A document with nothing but commands.
pub const fn commands(commands: &'static [&'static [&'static str]]) -> Expected {
    Expected::Plan(Evaluated { commands, ..NOTHING })
}

fn all() -> impl Iterator<Item = &'static Row> {
    [parameters::ROWS, json::ROWS, vars::ROWS, files::ROWS, templates::ROWS, commands::ROWS]
        .into_iter()
        .flatten()
}

#[test]
fn every_document_comes_to_what_the_protocol_says() {
    let wrong = all().filter_map(|row| {
        let (left, right) = (outcome(row), row.expected.shown());
        (left != right).then(|| format!("{}\n  came to {left}\n  expected {right}\n", row.rule))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn there_are_enough_rows_and_each_has_its_own_rule() {
    let rules: std::collections::BTreeSet<_> = all().map(|row| row.rule).collect();
    assert_eq!(rules.len(), all().count());
    assert!(rules.len() >= 100, "{}", rules.len());
}

/// The document's outcome, whole, as text.
fn outcome(row: &Row) -> String {
    match evaluate(row) {
        Ok(text) => text,
        Err(error) => format!("error: {}", chain(&error)),
    }
}

fn evaluate(row: &Row) -> Result<String, Error> {
    let kargs = Kargs::parse(row.cmdline);
    let document = Nextboot::parse(row.document.as_bytes())?;
    if let Some(url) = &document.v1.chain {
        return Ok(format!("chain {url:?}"));
    }
    let requests = document.v1.requests(&kargs)?;
    let vars: Vec<_> = requests.vars.iter().collect();
    let files: Vec<_> = requests
        .files
        .iter()
        .map(|file| (&file.name, &file.url, file.sha256.map(|digest| digest.to_string())))
        .collect();
    let text = format!("vars {vars:?} files {files:?}");
    let paths: BTreeMap<_, _> =
        requests.files.iter().map(|f| (f.name.clone(), format!("/tmp/{}-1", f.name))).collect();
    let plan = requests.plan(&paths)?;
    Ok(format!("{text} env {:?} commands {:?}", plan.env, plan.commands))
}

impl Expected {
    fn shown(&self) -> String {
        match self {
            Self::Chain(url) => format!("chain {url:?}"),
            Self::Error(text) => format!("error: {text}"),
            Self::Plan(Evaluated { vars, files, env, commands }) => {
                format!("vars {vars:?} files {files:?} env {env:?} commands {commands:?}")
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
