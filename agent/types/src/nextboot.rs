//! The boot document, version 1: what it says, and what it comes to on this machine.
//!
//! [`Nextboot::parse`] reads the JSON text as the original client does. If [`V1::chain`] names another
//! document, that one counts instead and everything else here is ignored. Otherwise
//! [`V1::requests`] evaluates the variables and the files' addresses; when the caller has the files,
//! [`Requests::plan`] evaluates environment and commands. So no command exists before everything has
//! been evaluated and every file is there. Nothing here performs anything.
//! See <https://github.com/m-lab/epoxy/blob/main/nextboot/nextboot.go>.

use std::collections::BTreeMap;

use crate::cmdline::Kargs;
use crate::digest::{ParseDigestError, Sha256Digest};
use crate::redact::redact;
use crate::{template, words};

mod debug;
mod decode;
mod evaluate;
mod json;

use json::Json;

/// A file of this name says who may log in, as `authorized_keys` of sshd(8). Other systems only
/// fetch it.
pub const AUTHORIZED_KEYS_FILE: &str = "stage2_authorized_keys";
/// A file of this name is the private key by which operators know the machine.
pub const SSH_HOST_KEY_FILE: &str = "stage2_ssh_host_key";

/// How much of a text that is no document an error shows.
const SHOWN_CHARACTERS: usize = 40;

/// A boot document.
#[derive(Debug, Clone, PartialEq)]
pub struct Nextboot {
    /// Kernel parameters for whoever asked for them (`-add-kargs`).
    pub kargs: BTreeMap<String, String>,
    /// What to do.
    pub v1: V1,
}

/// What to do, not evaluated yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct V1 {
    /// The address of the document that counts instead of this one.
    pub chain: Option<String>,
    vars: BTreeMap<String, Json>,
    files: BTreeMap<String, BTreeMap<String, String>>,
    env: BTreeMap<String, String>,
    commands: Vec<Json>,
}

/// The variables and the files to fetch; from here on only the files' paths are missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Requests {
    /// The variables, evaluated.
    pub vars: BTreeMap<String, String>,
    /// What to fetch, sorted by name.
    pub files: Vec<FileRequest>,
    kargs: Kargs,
    specs: BTreeMap<String, BTreeMap<String, String>>,
    env: BTreeMap<String, String>,
    commands: Vec<Json>,
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// The document's name for it; can be part of a file name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// What its contents must hash to, if the document says it.
    pub sha256: Option<Sha256Digest>,
}

/// What to run, and with which environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Variables to add to the environment, sorted by name. `PATH` also tells where commands are.
    pub env: Vec<(String, String)>,
    /// The commands in order, each at least one word.
    pub commands: Vec<Vec<String>>,
    requests: Requests,
    /// All elements, also those that are no commands.
    evaluated: Vec<Json>,
}

/// Why a boot document cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON.
    #[error("expected a boot document in JSON, got {begins:?}")]
    NotJson {
        /// How the text begins.
        begins: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// There is no `v1` object.
    #[error("expected an object v1 in the boot document, got none")]
    NoV1,
    /// A value of the wrong type.
    #[error("expected {expected} at {place}, got {got}")]
    Type {
        /// Where it stands.
        place: String,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        got: &'static str,
    },
    /// A file without address.
    #[error("URL key not found in file spec {file:?}")]
    NoUrl {
        /// The file's name in the document.
        file: String,
    },
    /// A name that cannot be part of a file name.
    #[error("expected a file name without slash, got {file:?}")]
    FileName {
        /// The name.
        file: String,
    },
    /// A digest that no file can have: better said now than after the download.
    #[error("cannot use the sha256 of file {file:?}")]
    Digest {
        /// The file's name in the document.
        file: String,
        /// What is wrong with it.
        source: ParseDigestError,
    },
    /// A template that cannot be evaluated.
    #[error("cannot evaluate {place}")]
    Template {
        /// Where it stands.
        place: String,
        /// What is wrong with it.
        source: template::Error,
    },
    /// A command that cannot be split into words.
    #[error("cannot split {place} into words")]
    Words {
        /// Where it stands.
        place: String,
        /// What is wrong with it.
        source: words::Error,
    },
    /// A value that would become a template itself: the original evaluates the words of a command
    /// given as one string a second time, so that a kernel parameter could inject templates.
    #[error("cannot use {what} in {place}: its value contains {{{{; give the command as a list")]
    SecondEvaluation {
        /// The action or the word.
        what: String,
        /// Where it stands.
        place: String,
    },
    /// The caller has no path for a file.
    #[error("cannot find the path of file {file:?}")]
    NoPath {
        /// The file's name in the document.
        file: String,
    },
}

impl Nextboot {
    /// Reads a document as Go's `encoding/json` does into the original's types: keys in any case,
    /// unknown ones and what follows the document ignored.
    ///
    /// # Errors
    /// If it is no JSON, has no `v1`, or has a value of the wrong type.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(text);
        let json = Json::parse(&text).map_err(|source| Error::NotJson {
            begins: redact(&text.trim_start().chars().take(SHOWN_CHARACTERS).collect::<String>()),
            source,
        })?;
        decode::nextboot(json)
    }
}

/// The state of an attempt that got no document, for a report's `debug.config`.
#[must_use]
pub fn debug_config_without_document(kargs: &Kargs) -> String {
    debug::without_document(kargs)
}
