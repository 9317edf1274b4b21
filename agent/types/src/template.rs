//! The part of Go's text/template that boot documents use.
//!
//! Plain text, `{{kargs "name"}}`, `{{.vars.NAME}}`, `{{.files.NAME.name}}`, string literals, pipelines
//! of these, trim markers and comments, with Go's exact results: a missing kernel parameter is empty, a
//! missing entry of a map prints `<no value>`, a map prints as `map[a:b]`. Everything else that Go has
//! (`if`, `range`, `printf` and so on) is refused by its name when the template is parsed, before
//! anything of it is used. See <https://pkg.go.dev/text/template>.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::cmdline::Kargs;

mod parse;
mod scan;

/// What Go prints for an entry that a map does not have.
const NO_VALUE: &str = "<no value>";

/// What templates can name.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// Behind the function `kargs`.
    pub kargs: &'a Kargs,
    /// `.vars`; while these are evaluated themselves, there is none.
    pub vars: Option<&'a BTreeMap<String, String>>,
    /// `.files`; before the files are there, there is none.
    pub files: Option<&'a BTreeMap<String, BTreeMap<String, String>>>,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(String),
    Action { source: String, pipeline: Vec<Command> },
}

/// One stage of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    /// `kargs` with its arguments.
    Kargs(Vec<Operand>),
    /// A value that stands for itself.
    Value(Operand),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    /// `.a.b`; only the dot: no names.
    Field(Vec<String>),
    /// A string literal.
    Text(String),
}

/// A piece of an evaluated template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece<'t> {
    /// What stands between `{{` and `}}`; none for plain text.
    pub action: Option<&'t str>,
    /// What it came to.
    pub text: String,
}

/// Why a template cannot be parsed or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Go's grammar does not allow it.
    #[error("expected {expected}, got {got} at character {position} of the template")]
    Syntax {
        /// What is allowed there.
        expected: &'static str,
        /// What stands there.
        got: String,
        /// Counted from 1.
        position: usize,
    },
    /// Go's templates have it, this client's do not.
    #[error(
        "cannot evaluate {word} at character {position} of the template: this client does not support it"
    )]
    Unsupported {
        /// The word that asks for it.
        word: String,
        /// Counted from 1.
        position: usize,
    },
    /// A field of something that has none.
    #[error("cannot evaluate field {field} of a string in {{{{{action}}}}}")]
    NoField {
        /// The field's name.
        field: String,
        /// The action that asks for it.
        action: String,
    },
    /// An argument behind something that is no function.
    #[error("cannot give an argument to what is no function in {{{{{action}}}}}")]
    NotAFunction {
        /// The action that does it.
        action: String,
    },
    /// Not exactly one argument for `kargs`.
    #[error("expected 1 argument for kargs, got {got} in {{{{{action}}}}}")]
    ArgumentCount {
        /// How many there are.
        got: usize,
        /// The action that gives them.
        action: String,
    },
    /// An argument of `kargs` that is no string.
    #[error("expected a string for kargs, got {got} in {{{{{action}}}}}")]
    ArgumentType {
        /// What it is.
        got: &'static str,
        /// The action that gives it.
        action: String,
    },
}

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// If Go would not parse it either, or if it needs what this client does not support.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::template(text).map(|nodes| Self { nodes })
    }

    /// Evaluates the template.
    ///
    /// # Errors
    /// If Go would not evaluate it either.
    pub fn evaluate(&self, data: &Data<'_>) -> Result<String, Error> {
        Ok(self.pieces(data)?.into_iter().map(|piece| piece.text).collect())
    }

    /// Evaluates the template and tells which piece came from where.
    ///
    /// # Errors
    /// If Go would not evaluate it either.
    pub fn pieces(&self, data: &Data<'_>) -> Result<Vec<Piece<'_>>, Error> {
        self.nodes.iter().map(|node| node.evaluate(data)).collect()
    }
}

/// Parses and evaluates `text`.
///
/// # Errors
/// If Go would refuse it too, or if it needs what this client does not support.
pub fn evaluate(text: &str, data: &Data<'_>) -> Result<String, Error> {
    Template::parse(text)?.evaluate(data)
}

impl Node {
    fn evaluate(&self, data: &Data<'_>) -> Result<Piece<'_>, Error> {
        match self {
            Self::Text(text) => Ok(Piece { action: None, text: text.clone() }),
            Self::Action { source, pipeline } => {
                let mut value = None;
                for command in pipeline {
                    value = Some(command.evaluate(value, data, source)?);
                }
                let text = value.unwrap_or(Value::Missing).to_string();
                Ok(Piece { action: Some(source), text })
            }
        }
    }
}

impl Command {
    /// `piped` is what the stage before came to.
    fn evaluate<'a>(
        &'a self,
        piped: Option<Value<'a>>,
        data: &Data<'a>,
        action: &str,
    ) -> Result<Value<'a>, Error> {
        match self {
            Self::Value(_) if piped.is_some() => {
                Err(Error::NotAFunction { action: action.to_owned() })
            }
            Self::Value(operand) => operand.evaluate(data, action),
            Self::Kargs(operands) => {
                let given = operands.iter().map(|operand| operand.evaluate(data, action));
                let arguments = given.chain(piped.map(Ok)).collect::<Result<Vec<_>, _>>()?;
                kargs(&arguments, data, action)
            }
        }
    }
}

fn kargs<'a>(arguments: &[Value<'a>], data: &Data<'a>, action: &str) -> Result<Value<'a>, Error> {
    match arguments {
        [Value::Text(key)] => Ok(Value::Text(data.kargs.get(key).unwrap_or_default().into())),
        [other] => Err(Error::ArgumentType { got: other.description(), action: action.to_owned() }),
        _ => Err(Error::ArgumentCount { got: arguments.len(), action: action.to_owned() }),
    }
}

impl Operand {
    fn evaluate<'a>(&'a self, data: &Data<'a>, action: &str) -> Result<Value<'a>, Error> {
        match self {
            Self::Text(text) => Ok(Value::Text(text.into())),
            Self::Field(names) => {
                names.iter().try_fold(Value::Root(*data), |value, name| value.field(name, action))
            }
        }
    }
}

/// What an operand comes to.
enum Value<'a> {
    Missing,
    Text(Cow<'a, str>),
    Root(Data<'a>),
    Files(&'a BTreeMap<String, BTreeMap<String, String>>),
    Map(&'a BTreeMap<String, String>),
}

impl<'a> Value<'a> {
    fn field(self, name: &str, action: &str) -> Result<Self, Error> {
        let value = match self {
            Self::Missing => None,
            Self::Root(data) if name == "vars" => data.vars.map(Self::Map),
            Self::Root(data) if name == "files" => data.files.map(Self::Files),
            Self::Root(_) => None,
            Self::Files(files) => files.get(name).map(Self::Map),
            Self::Map(map) => map.get(name).map(|text| Self::Text(text.into())),
            Self::Text(_) => {
                return Err(Error::NoField { field: name.to_owned(), action: action.to_owned() });
            }
        };
        Ok(value.unwrap_or(Self::Missing))
    }

    const fn description(&self) -> &'static str {
        match self {
            Self::Missing => "no value",
            Self::Text(_) => "a string",
            Self::Root(_) | Self::Files(_) | Self::Map(_) => "a map",
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(NO_VALUE),
            Self::Text(text) => f.write_str(text),
            Self::Map(map) => f.write_str(&map_text(map.iter())),
            Self::Files(files) => f.write_str(&map_text(
                files.iter().map(|(name, spec)| (name, map_text(spec.iter()))),
            )),
            Self::Root(data) => {
                let files = data.files.map(|files| ("files", Value::Files(files)));
                let vars = data.vars.map(|vars| ("vars", Value::Map(vars)));
                f.write_str(&map_text(files.into_iter().chain(vars)))
            }
        }
    }
}

/// A map as Go prints it: `map[a:b c:d]`.
fn map_text<K: fmt::Display, V: fmt::Display>(entries: impl Iterator<Item = (K, V)>) -> String {
    let entries: Vec<_> = entries.map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", entries.join(" "))
}
