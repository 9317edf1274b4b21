//! The template language, in a command of one element.

use crate::{Evaluated, Expected, NOTHING, Row};

/// A document with the variable x, the file f, and one command that is the template.
macro_rules! document {
    ($template:literal) => {
        concat!(
            r#"{"v1":{"vars":{"x":"1"},"files":{"f":{"url":"u"}},"commands":[[""#,
            $template,
            r#""]]}}"#
        )
    };
}

macro_rules! row {
    ($rule:literal, $template:literal, $result:literal) => {
        Row {
            rule: $rule,
            cmdline: "a=b b=c",
            document: document!($template),
            expected: Expected::Plan(Evaluated {
                vars: &[("x", "1")],
                files: &[("f", "u", None)],
                commands: &[&[$result]],
                ..NOTHING
            }),
        }
    };
}

macro_rules! error {
    ($rule:literal, $template:literal, $error:literal) => {
        Row {
            rule: $rule,
            cmdline: "a=b b=c",
            document: document!($template),
            expected: Expected::Error(concat!("cannot evaluate v1.commands[0]: ", $error)),
        }
    };
}

pub(crate) const ROWS: &[Row] = &[
    row!("text without actions is itself", "p {q} }} r", "p {q} }} r"),
    row!("the kargs function with a back-quoted name", "{{kargs `a`}}", "b"),
    row!("the kargs function with a quoted name", "{{ kargs \\\"a\\\" }}", "b"),
    row!("an escape in a quoted name", "{{kargs \\\"\\\\x61\\\"}}", "b"),
    row!(".vars.NAME", "{{ .vars.x }}", "1"),
    row!(".files.NAME.name", "{{.files.f.name}}", "/tmp/f-1"),
    row!("a missing variable is <no value>", "{{.vars.y}}", "<no value>"),
    row!("a field of a missing variable is <no value>", "{{.vars.y.z}}", "<no value>"),
    row!("a missing key of a file is <no value>", "{{.files.f.y}}", "<no value>"),
    row!("a field of a missing file is <no value>", "{{.files.g.name}}", "<no value>"),
    row!("an unknown name at the top is <no value>", "{{.env}}{{.env.A}}", "<no value><no value>"),
    row!("names are case-sensitive", "{{.Vars.x}}", "<no value>"),
    row!("a map is printed in Go form", "{{.vars}}", "map[x:1]"),
    row!("a map of maps is printed in Go form", "{{.files}}", "map[f:map[name:/tmp/f-1 url:u]]"),
    row!(
        "the dot is everything",
        "{{.}}",
        "map[files:map[f:map[name:/tmp/f-1 url:u]] vars:map[x:1]]"
    ),
    row!("a string literal", "{{\\\"p\\\"}}{{`q`}}", "pq"),
    row!("a string literal with delimiters", "{{`}}`}}{{`{{`}}", "}}{{"),
    row!("a pipeline", "{{`a` | kargs}}", "b"),
    row!("a pipeline of three", "{{`a`|kargs|kargs}}", "c"),
    row!("a pipe with nothing behind it", "{{`p` | }}", "p"),
    row!("a variable as an argument", "{{kargs .vars.x}}.", "."),
    row!("trim markers", "p \\n {{- `q` -}} \\t r", "pqr"),
    row!("trim markers with more space", "p {{-   `q`   -}} r", "pqr"),
    row!("a trim marker at one side only", "p {{- `q` }} r", "pq r"),
    row!("a comment", "p {{/* kargs }} */}} q", "p  q"),
    row!("a comment with trim markers", "p {{- /* c */ -}} q", "pq"),
    row!("a newline in an action", "{{kargs\\n`a`}}", "b"),
    row!("a carriage return in a back-quoted name is dropped", "{{kargs `\\ra`}}", "b"),
    error!(
        "a field of a string is an error",
        "{{.vars.x.y}}", "cannot evaluate field y of a string in {{.vars.x.y}}"
    ),
    error!(
        "a missing variable is no name of a parameter: error",
        "{{kargs .vars.y}}", "expected a string for kargs, got no value in {{kargs .vars.y}}"
    ),
    error!(
        "a map is no name of a parameter: error",
        "{{.vars | kargs}}", "expected a string for kargs, got a map in {{.vars | kargs}}"
    ),
    error!(
        "kargs needs a name: error",
        "{{kargs}}", "expected 1 argument for kargs, got 0 in {{kargs}}"
    ),
    error!(
        "kargs takes one name: error",
        "{{kargs `a` `b`}}", "expected 1 argument for kargs, got 2 in {{kargs `a` `b`}}"
    ),
    error!(
        "a variable takes no argument: error",
        "{{.vars.x `a`}}", "cannot give an argument to what is no function in {{.vars.x `a`}}"
    ),
    error!(
        "a variable takes nothing from a pipeline: error",
        "{{`a` | .vars.x}}", "cannot give an argument to what is no function in {{`a` | .vars.x}}"
    ),
    error!(
        "a literal takes nothing from a pipeline: error",
        "{{`a` | `b`}}", "expected a function behind |, got a value at character 9 of the template"
    ),
    error!(
        "an unclosed action is an error",
        "é {{kargs `a`", "expected }}, got the end of the template at character 14 of the template"
    ),
    error!(
        "an unclosed string is an error",
        "{{kargs \\\"a}}",
        "expected a closing \", got the end of the line at character 9 of the template"
    ),
    error!(
        "an unclosed raw string is an error",
        "{{kargs `a}}",
        "expected a closing `, got the end of the template at character 9 of the template"
    ),
    error!(
        "an unclosed comment is an error",
        "{{/* a }}", "expected */, got the end of the template at character 3 of the template"
    ),
    error!(
        "a comment must fill its action: error",
        "{{/* a */ `b`}}",
        "expected }} behind the comment, got ' ' at character 10 of the template"
    ),
    error!(
        "an empty action is an error",
        "p{{ }}", "expected a value, got an empty action at character 4 of the template"
    ),
    error!(
        "an empty stage of a pipeline is an error",
        "{{`a` | | kargs}}",
        "expected a value on both sides of |, got nothing at character 3 of the template"
    ),
    error!(
        "a name with a dash is an error",
        "{{.vars.my-name}}",
        "expected a letter, a digit or _ in a name, got '-' at character 11 of the template"
    ),
    error!(
        "literals need space between them: error",
        "{{kargs `a``b`}}", "expected a space, got a string at character 12 of the template"
    ),
    error!(
        "an unknown function is an error",
        "{{getenv `a`}}", "expected the function kargs, got getenv at character 3 of the template"
    ),
    error!(
        "an invalid escape is an error",
        "{{kargs \\\"\\\\q\\\"}}",
        "expected a Go string literal, got \"\\q\" at character 9 of the template"
    ),
    error!(
        "if is refused by name",
        "{{if eq .vars.x 1}}p{{end}}",
        "cannot evaluate if at character 3 of the template: this client does not support it"
    ),
    error!(
        "range is refused by name",
        "{{ range $i, $v := .vars}}p{{end}}",
        "cannot evaluate range at character 4 of the template: this client does not support it"
    ),
    error!(
        "printf is refused by name",
        "{{printf `%s` .vars.x}}",
        "cannot evaluate printf at character 3 of the template: this client does not support it"
    ),
    error!(
        "a variable of the template's own is refused by name",
        "{{$x := `a`}}",
        "cannot evaluate $x at character 3 of the template: this client does not support it"
    ),
    error!(
        "a number is refused by name",
        "{{kargs 7}}",
        "cannot evaluate 7 at character 9 of the template: this client does not support it"
    ),
    error!(
        "parentheses are refused by name",
        "{{kargs (kargs `a`)}}",
        "cannot evaluate (kargs at character 9 of the template: this client does not support it"
    ),
];
