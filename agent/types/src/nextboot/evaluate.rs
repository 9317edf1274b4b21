//! Evaluates a boot document: variables, files, environment, commands, in this order.
//!
//! Each step sees only what the steps before it made. The environment is not visible to templates.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::json::{Json, printed_list};
use super::{Error, FileRequest, Plan, Requests, V1};
use crate::cmdline::Kargs;
use crate::digest::Sha256Digest;
use crate::redact::redact;
use crate::template::{self, Data, Template};
use crate::words;

type Specs = BTreeMap<String, BTreeMap<String, String>>;

/// What begins an action of a template.
const ACTION: &str = "{{";

impl V1 {
    /// Evaluates the variables and the addresses of the files.
    ///
    /// # Errors
    /// If a variable or an address cannot be evaluated, and if a file cannot be asked for: it has no
    /// address, a name that is no file name, or a digest that no file has.
    pub fn requests(&self, kargs: &Kargs) -> Result<Requests, Error> {
        let vars = vars(&self.vars, kargs)?;
        let specs = specs(&self.files, kargs, &vars)?;
        Ok(Requests {
            files: specs.iter().map(request).collect::<Result<_, _>>()?,
            vars,
            kargs: kargs.clone(),
            specs,
            env: self.env.clone(),
            commands: self.commands.clone(),
        })
    }
}

impl Requests {
    /// Evaluates environment and commands; `paths` has the path of every file, by its name.
    ///
    /// # Errors
    /// If a path is missing, or if something cannot be evaluated.
    pub fn plan(&self, paths: &BTreeMap<String, String>) -> Result<Plan, Error> {
        let mut requests = self.clone();
        for (file, spec) in &mut requests.specs {
            let path = paths.get(file).ok_or_else(|| Error::NoPath { file: file.clone() })?;
            spec.insert("name".to_owned(), path.clone());
        }
        let data = requests.data();
        let env = self.env.iter().map(|(name, value)| {
            Ok((name.clone(), evaluate(&format!("v1.env.{name}"), value, &data)?))
        });
        let env = env.collect::<Result<_, _>>()?;
        let numbered = self.commands.iter().enumerate();
        let evaluated = numbered
            .map(|(number, command)| {
                evaluate_command(&format!("v1.commands[{number}]"), command, &data)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let commands = evaluated.iter().map(words_of).filter(|words| !words.is_empty()).collect();
        Ok(Plan { env, commands, evaluated, requests })
    }

    const fn data(&self) -> Data<'_> {
        Data { kargs: &self.kargs, vars: Some(&self.vars), files: Some(&self.specs) }
    }
}

fn vars(vars: &BTreeMap<String, Json>, kargs: &Kargs) -> Result<BTreeMap<String, String>, Error> {
    let data = Data { kargs, vars: None, files: None };
    let var = |(name, value): (&String, &Json)| {
        let place = format!("v1.vars.{name}");
        let text = match value {
            Json::Text(text) => text.clone(),
            Json::List(list) => printed_list(list),
            other => {
                let expected = "a string or a list";
                return Err(Error::Type { place, expected, got: other.description() });
            }
        };
        Ok((name.clone(), evaluate(&place, &text, &data)?))
    };
    vars.iter().map(var).collect()
}

/// The files' specifications, with their addresses evaluated.
fn specs(files: &Specs, kargs: &Kargs, vars: &BTreeMap<String, String>) -> Result<Specs, Error> {
    let data = Data { kargs, vars: Some(vars), files: None };
    let spec = |(file, spec): (&String, &BTreeMap<String, String>)| {
        let url = spec.get("url").ok_or_else(|| Error::NoUrl { file: file.clone() })?;
        let url = evaluate(&format!("v1.files.{file}.url"), url, &data)?;
        let mut spec = spec.clone();
        spec.insert("url".to_owned(), url);
        Ok((file.clone(), spec))
    };
    files.iter().map(spec).collect()
}

fn request((name, spec): (&String, &BTreeMap<String, String>)) -> Result<FileRequest, Error> {
    if name.contains(['/', '\0']) {
        return Err(Error::FileName { file: name.clone() });
    }
    let sha256 = spec.get("sha256").map(|digits| Sha256Digest::from_str(digits)).transpose();
    let sha256 = sha256.map_err(|source| Error::Digest { file: name.clone(), source })?;
    let url = spec.get("url").cloned().unwrap_or_default();
    Ok(FileRequest { name: name.clone(), url, sha256 })
}

/// A command as a list of words; whatever is neither string nor list stays as it is.
fn evaluate_command(place: &str, command: &Json, data: &Data<'_>) -> Result<Json, Error> {
    let words = match command {
        Json::Text(text) => split(place, text, data)?,
        Json::List(list) => list
            .iter()
            .map(|word| evaluate(place, &word.printed(), data))
            .collect::<Result<_, _>>()?,
        other => return Ok(other.clone()),
    };
    Ok(Json::List(words.into_iter().map(Json::Text).collect()))
}

/// A command given as one string: evaluated, then split. The original evaluates the words again. That
/// changes only words with `{{` in them, which no honest document makes, so they are refused.
fn split(place: &str, text: &str, data: &Data<'_>) -> Result<Vec<String>, Error> {
    let wrong = |source| Error::Template { place: place.to_owned(), source };
    let refused = |what| Error::SecondEvaluation { what, place: place.to_owned() };
    let template = Template::parse(text).map_err(wrong)?;
    let pieces = template.pieces(data).map_err(wrong)?;
    let suspect = pieces.iter().find(|piece| piece.text.contains(ACTION));
    if let Some(action) = suspect.and_then(|piece| piece.action) {
        return Err(refused(format!("{{{{{action}}}}}")));
    }
    let text: String = pieces.into_iter().map(|piece| piece.text).collect();
    let words =
        words::split(&text).map_err(|source| Error::Words { place: place.to_owned(), source })?;
    match words.iter().find(|word| word.contains(ACTION)) {
        Some(word) => Err(refused(redact(word))),
        None => Ok(words),
    }
}

fn words_of(command: &Json) -> Vec<String> {
    match command {
        Json::List(words) => words.iter().map(Json::printed).collect(),
        _ => Vec::new(),
    }
}

fn evaluate(place: &str, text: &str, data: &Data<'_>) -> Result<String, Error> {
    template::evaluate(text, data)
        .map_err(|source| Error::Template { place: place.to_owned(), source })
}
