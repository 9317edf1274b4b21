//! Files and the environment.

use crate::{DIGEST, Evaluated, Expected, NOTHING, Row, commands};

macro_rules! row {
    ($rule:literal, $document:expr, $expected:expr) => {
        Row { rule: $rule, cmdline: "a=b", document: $document, expected: $expected }
    };
}

const fn file(url: &'static [(&'static str, &'static str, Option<&'static str>)]) -> Expected {
    Expected::Plan(Evaluated { files: url, ..NOTHING })
}

pub(crate) const ROWS: &[Row] = &[
    row!(
        "a file without digest is asked for without one",
        r#"{"v1":{"files":{"f":{"url":"https://s/f"}}}}"#,
        file(&[("f", "https://s/f", None)])
    ),
    row!(
        "sha256 is hexadecimal in any case",
        r#"{"v1":{"files":{"f":{"url":"u","sha256":"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"}}}}"#,
        file(&[("f", "u", Some(DIGEST))])
    ),
    row!(
        "a missing url is an error",
        r#"{"v1":{"files":{"f":{"sha256":"00"}}}}"#,
        Expected::Error("URL key not found in file spec \"f\"")
    ),
    row!(
        "a file spec of null has no url",
        r#"{"v1":{"files":{"f":null}}}"#,
        Expected::Error("URL key not found in file spec \"f\"")
    ),
    row!(
        "the key url is case-sensitive",
        r#"{"v1":{"files":{"f":{"URL":"u"}}}}"#,
        Expected::Error("URL key not found in file spec \"f\"")
    ),
    row!(
        "a url may use kargs",
        r#"{"v1":{"files":{"f":{"url":"https://s/{{kargs `a`}}"}}}}"#,
        file(&[("f", "https://s/b", None)])
    ),
    row!(
        "a url may use vars",
        r#"{"v1":{"vars":{"v":"1.2"},"files":{"f":{"url":"https://s/{{.vars.v}}/f"}}}}"#,
        Expected::Plan(Evaluated {
            vars: &[("v", "1.2")],
            files: &[("f", "https://s/1.2/f", None)],
            ..NOTHING
        })
    ),
    row!(
        "a url sees no files",
        r#"{"v1":{"files":{"f":{"url":"{{.files.f.name}}"}}}}"#,
        file(&[("f", "<no value>", None)])
    ),
    row!(
        "sha256 is not a template: error before the download",
        r#"{"v1":{"files":{"f":{"url":"u","sha256":"{{kargs `a`}}"}}}}"#,
        Expected::Error(
            "cannot use the sha256 of file \"f\": expected hexadecimal digits, got '{'"
        )
    ),
    row!(
        "malformed sha256 is an error before the download",
        r#"{"v1":{"files":{"f":{"url":"u","sha256":"xyz"}}}}"#,
        Expected::Error(
            "cannot use the sha256 of file \"f\": expected hexadecimal digits, got 'x'"
        )
    ),
    row!(
        "an empty sha256 matches nothing: error before the download",
        r#"{"v1":{"files":{"f":{"url":"u","sha256":""}}}}"#,
        Expected::Error(
            "cannot use the sha256 of file \"f\": expected 64 hexadecimal digits, got 0 characters"
        )
    ),
    row!(
        "a sha256 of null is empty: error before the download",
        r#"{"v1":{"files":{"f":{"url":"u","sha256":null}}}}"#,
        Expected::Error(
            "cannot use the sha256 of file \"f\": expected 64 hexadecimal digits, got 0 characters"
        )
    ),
    row!(
        "a short sha256 matches nothing: error before the download",
        r#"{"v1":{"files":{"f":{"url":"u","sha256":"e3b0c442"}}}}"#,
        Expected::Error(
            "cannot use the sha256 of file \"f\": expected 64 hexadecimal digits, got 8 characters"
        )
    ),
    row!(
        "a name with a slash fails",
        r#"{"v1":{"files":{"d/f":{"url":"u"}}}}"#,
        Expected::Error("expected a file name without slash, got \"d/f\"")
    ),
    row!(
        "the path is added under the key name",
        r#"{"v1":{"files":{"f":{"url":"u"}},"commands":[["{{.files.f.name}}"]]}}"#,
        Expected::Plan(Evaluated {
            files: &[("f", "u", None)],
            commands: &[&["/tmp/f-1"]],
            ..NOTHING
        })
    ),
    row!(
        "the key name of the document is replaced",
        r#"{"v1":{"files":{"f":{"url":"u","name":"n"}},"commands":[["{{.files.f.name}}"]]}}"#,
        Expected::Plan(Evaluated {
            files: &[("f", "u", None)],
            commands: &[&["/tmp/f-1"]],
            ..NOTHING
        })
    ),
    row!(
        "url and sha256 are readable in templates, the url evaluated",
        r#"{"v1":{"files":{"f":{"url":"{{kargs `a`}}","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}},"commands":[["{{.files.f.url}}","{{.files.f.sha256}}"]]}}"#,
        Expected::Plan(Evaluated {
            files: &[("f", "b", Some(DIGEST))],
            commands: &[&["b", DIGEST]],
            ..NOTHING
        })
    ),
    row!(
        "any key of a file spec is readable in templates",
        r#"{"v1":{"files":{"f":{"url":"u","note":"n"}},"commands":[["{{.files.f.note}}"]]}}"#,
        Expected::Plan(Evaluated { files: &[("f", "u", None)], commands: &[&["n"]], ..NOTHING })
    ),
    row!(
        "a missing file is <no value>",
        r#"{"v1":{"commands":[["{{.files.f.name}}"]]}}"#,
        commands(&[&["<no value>"]])
    ),
    row!(
        "env is a map of templates that see kargs, vars and files",
        r#"{"v1":{"vars":{"v":"1"},"files":{"f":{"url":"u"}},"env":{"A":"{{kargs `a`}}","B":"{{.vars.v}}","C":"{{.files.f.name}}"}}}"#,
        Expected::Plan(Evaluated {
            vars: &[("v", "1")],
            files: &[("f", "u", None)],
            env: &[("A", "b"), ("B", "1"), ("C", "/tmp/f-1")],
            ..NOTHING
        })
    ),
    row!(
        "env is not visible in templates",
        r#"{"v1":{"env":{"A":"1","B":"{{.env.A}}"},"commands":[["{{.env.A}}"]]}}"#,
        Expected::Plan(Evaluated {
            env: &[("A", "1"), ("B", "<no value>")],
            commands: &[&["<no value>"]],
            ..NOTHING
        })
    ),
    row!(
        "no default environment is set",
        r#"{"v1":{"commands":[["true"]]}}"#,
        commands(&[&["true"]])
    ),
    row!(
        "an error in env comes before all commands",
        r#"{"v1":{"env":{"A":"{{.vars.x.y}}"},"vars":{"x":"1"},"commands":["true"]}}"#,
        Expected::Error(
            "cannot evaluate v1.env.A: cannot evaluate field y of a string in {{.vars.x.y}}"
        )
    ),
];
