//! How the JSON text is decoded.

use crate::{Evaluated, Expected, NOTHING, Row, commands, vars};

macro_rules! row {
    ($rule:literal, $document:literal, $expected:expr) => {
        Row { rule: $rule, cmdline: "a=b", document: $document, expected: $expected }
    };
}

pub(crate) const ROWS: &[Row] = &[
    row!("an empty v1 is success with no commands", r#"{"v1":{}}"#, Expected::Plan(NOTHING)),
    row!(
        "null is an error",
        "null",
        Expected::Error("expected an object v1 in the boot document, got none")
    ),
    row!(
        "an empty object is an error",
        "{}",
        Expected::Error("expected an object v1 in the boot document, got none")
    ),
    row!(
        "v1 null is an error",
        r#"{"v1":null}"#,
        Expected::Error("expected an object v1 in the boot document, got none")
    ),
    row!(
        "v1 missing is an error",
        r#"{"v2":{}}"#,
        Expected::Error("expected an object v1 in the boot document, got none")
    ),
    row!(
        "v1 of another type is an error",
        r#"{"v1":[]}"#,
        Expected::Error("expected an object at v1, got a list")
    ),
    row!(
        "a document that is no object is an error",
        r#"["v1"]"#,
        Expected::Error("expected an object at the top, got a list")
    ),
    row!(
        "an empty document is an error",
        "",
        Expected::Error(
            "expected a boot document in JSON, got \"\": EOF while parsing a value at line 1 column 0"
        )
    ),
    row!(
        "a document that is not JSON is an error",
        "<!DOCTYPE html><html><head><title>404</ttle>",
        Expected::Error(
            "expected a boot document in JSON, got \"<!DOCTYPE html><html><head><title>404</t\": \
             expected value at line 1 column 1"
        )
    ),
    row!(
        "a truncated document is an error",
        r#"{"v1":{"vars":"#,
        Expected::Error(
            "expected a boot document in JSON, got \"{\\\"v1\\\":{\\\"vars\\\":\": \
             EOF while parsing a value at line 1 column 14"
        )
    ),
    row!("keys are case-insensitive", r#"{"V1":{"VARS":{"x":"1"}}}"#, vars(&[("x", "1")])),
    row!(
        "keys fold as Go folds them",
        "{\"v1\":{\"var\u{17f}\":{\"x\":\"1\"}}}",
        vars(&[("x", "1")])
    ),
    row!(
        "the names of variables are case-sensitive",
        r#"{"v1":{"vars":{"x":"1","X":"2"}}}"#,
        vars(&[("X", "2"), ("x", "1")])
    ),
    row!(
        "unknown fields are ignored",
        r#"{"v2":[1],"v1":{"vars":{"x":"1"},"later":{"y":[null]}}}"#,
        vars(&[("x", "1")])
    ),
    row!("trailing data is ignored", r#"{"v1":{"vars":{"x":"1"}}} }not JSON"#, vars(&[("x", "1")])),
    row!("leading white space is ignored", "\n\t {\"v1\":{}}", Expected::Plan(NOTHING)),
    row!(
        "a map that occurs twice is joined",
        r#"{"v1":{"vars":{"x":"1","y":"1"}},"v1":{"vars":{"y":"2"}}}"#,
        vars(&[("x", "1"), ("y", "2")])
    ),
    row!(
        "of a list that occurs twice the last counts",
        r#"{"v1":{"commands":[["a"]],"commands":[["b"]]}}"#,
        commands(&[&["b"]])
    ),
    row!(
        "null is an empty map",
        r#"{"v1":{"vars":null,"files":null,"env":null,"commands":null,"chain":null}}"#,
        Expected::Plan(NOTHING)
    ),
    row!(
        "null is an empty string in a map of strings",
        r#"{"v1":{"env":{"A":null}}}"#,
        Expected::Plan(Evaluated { env: &[("A", "")], ..NOTHING })
    ),
    row!(
        "kargs of a document are not seen by its templates",
        r#"{"kargs":{"k":"1"},"v1":{"vars":{"x":"{{kargs `k`}}"}}}"#,
        vars(&[("x", "")])
    ),
    row!(
        "kargs that are no strings are an error",
        r#"{"kargs":{"k":1},"v1":{}}"#,
        Expected::Error("expected a string at kargs.k, got a number")
    ),
    row!(
        "chain is the next document's address",
        r#"{"v1":{"chain":"https://s/next"}}"#,
        Expected::Chain("https://s/next")
    ),
    row!(
        "with chain everything else is ignored",
        r#"{"v1":{"chain":"https://s/next","vars":{"x":1},"commands":["'"]}}"#,
        Expected::Chain("https://s/next")
    ),
    row!(
        "chain is no template",
        r#"{"v1":{"chain":"https://s/{{kargs `a`}}"}}"#,
        Expected::Chain("https://s/{{kargs `a`}}")
    ),
    row!("an empty chain is none", r#"{"v1":{"chain":"","vars":{"x":"1"}}}"#, vars(&[("x", "1")])),
    row!(
        "a chain that is no string is an error",
        r#"{"v1":{"chain":7}}"#,
        Expected::Error("expected a string at v1.chain, got a number")
    ),
    row!(
        "a non-string value in a file spec is a decode error",
        r#"{"v1":{"files":{"f":{"url":"u","size":7}}}}"#,
        Expected::Error("expected a string at v1.files.f.size, got a number")
    ),
    row!(
        "a file spec that is no object is a decode error",
        r#"{"v1":{"files":{"f":"u"}}}"#,
        Expected::Error("expected an object at v1.files.f, got a string")
    ),
    row!(
        "a non-string value in env is a decode error",
        r#"{"v1":{"env":{"A":true}}}"#,
        Expected::Error("expected a string at v1.env.A, got a boolean")
    ),
    row!(
        "commands that are no list are a decode error",
        r#"{"v1":{"commands":"true"}}"#,
        Expected::Error("expected a list at v1.commands, got a string")
    ),
    row!(
        "vars that are no object are a decode error",
        r#"{"v1":{"vars":["x"]}}"#,
        Expected::Error("expected an object at v1.vars, got a list")
    ),
];
