//! Variables: strings, and lists that are joined.

use crate::{Expected, Row, vars};

macro_rules! row {
    ($rule:literal, $document:literal, $expected:expr) => {
        Row { rule: $rule, cmdline: "a=b c=d", document: $document, expected: $expected }
    };
}

pub(crate) const ROWS: &[Row] = &[
    row!("a variable is a string", r#"{"v1":{"vars":{"x":"p q"}}}"#, vars(&[("x", "p q")])),
    row!(
        "a variable is a list joined by one space",
        r#"{"v1":{"vars":{"x":["p","","q r"]}}}"#,
        vars(&[("x", "p  q r")])
    ),
    row!("an empty list is an empty string", r#"{"v1":{"vars":{"x":[]}}}"#, vars(&[("x", "")])),
    row!(
        "a list is a template after it is joined",
        r#"{"v1":{"vars":{"x":["{{kargs","`a`}}","e={{kargs `c`}}"]}}}"#,
        vars(&[("x", "b e=d")])
    ),
    row!(
        "numbers in a list are printed in Go form",
        r#"{"v1":{"vars":{"x":[1.50,1000000,-0,0.00001,123456789,100000,1e21,0.1,12345678901234567890]}}}"#,
        vars(&[("x", "1.5 1e+06 -0 1e-05 1.23456789e+08 100000 1e+21 0.1 1.2345678901234567e+19")])
    ),
    row!(
        "numbers in a list keep their last digit",
        r#"{"v1":{"vars":{"x":[0.30000000000000004,2.2250738585072014e-308,9007199254740993]}}}"#,
        vars(&[("x", "0.30000000000000004 2.2250738585072014e-308 9.007199254740992e+15")])
    ),
    row!(
        "null, true and false in a list are printed in Go form",
        r#"{"v1":{"vars":{"x":[null,true,false]}}}"#,
        vars(&[("x", "<nil> true false")])
    ),
    row!(
        "lists and objects in a list are printed in Go form",
        r#"{"v1":{"vars":{"x":[["p",1,null],{"b":[],"a":"q"},{}]}}}"#,
        vars(&[("x", "[p 1 <nil>] map[a:q b:[]] map[]")])
    ),
    row!(
        "a number is an error",
        r#"{"v1":{"vars":{"x":7}}}"#,
        Expected::Error("expected a string or a list at v1.vars.x, got a number")
    ),
    row!(
        "a boolean is an error",
        r#"{"v1":{"vars":{"x":true}}}"#,
        Expected::Error("expected a string or a list at v1.vars.x, got a boolean")
    ),
    row!(
        "null is an error as a variable",
        r#"{"v1":{"vars":{"x":null}}}"#,
        Expected::Error("expected a string or a list at v1.vars.x, got null")
    ),
    row!(
        "an object is an error",
        r#"{"v1":{"vars":{"x":{"y":"z"}}}}"#,
        Expected::Error("expected a string or a list at v1.vars.x, got an object")
    ),
    row!(
        "variables see only kargs, no other variable",
        r#"{"v1":{"vars":{"x":"{{.vars.y}}","y":"1"}}}"#,
        vars(&[("x", "<no value>"), ("y", "1")])
    ),
    row!(
        "variables see no files",
        r#"{"v1":{"vars":{"x":"{{.files.f.name}}"}}}"#,
        vars(&[("x", "<no value>")])
    ),
    row!(
        "a variable's error names it",
        r#"{"v1":{"vars":{"x":"{{"}}}"#,
        Expected::Error(
            "cannot evaluate v1.vars.x: expected }}, got the end of the template at character 3 of the template"
        )
    ),
];
