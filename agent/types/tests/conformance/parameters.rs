//! How documents see the kernel command line.

use crate::{Row, vars};

/// A document that shows one kernel parameter.
macro_rules! row {
    ($rule:literal, $cmdline:literal, $key:literal, $value:literal) => {
        Row {
            rule: $rule,
            cmdline: $cmdline,
            document: concat!(r#"{"v1":{"vars":{"x":"{{kargs `"#, $key, r#"`}}"}}}"#),
            expected: vars(&[("x", $value)]),
        }
    };
}

pub(crate) const ROWS: &[Row] = &[
    row!("a parameter is split at its first =", "a=b=c", "a", "b=c"),
    row!("the text is trimmed of spaces", "  a=b  ", "a", "b"),
    row!("the text is trimmed of newlines", "\n a=b\n", "a", "b"),
    row!("the text is split on a single space", "x=1 a=b y=2", "a", "b"),
    row!("tabs do not separate", "a=b\tc=d", "a", "b\tc=d"),
    row!("newlines inside do not separate", "a=b\nc=d", "a", "b\nc=d"),
    row!("a carriage return at the end stays", "a=b\r\n", "a", "b\r"),
    row!("a double space yields an empty key", "a=b  c", "", ""),
    row!("a piece =x is the empty key's value", "=x", "", "x"),
    row!("without = the value is empty", "quiet", "quiet", ""),
    row!("the last duplicate wins", "a=1 a=2", "a", "2"),
    row!("the last duplicate wins although it is empty", "a=1 a", "a", ""),
    row!("there is no quoting: the first word", "a=\"x y\"", "a", "\"x"),
    row!("there is no quoting: the second word is a key", "a=\"x y\"=z", "y\\\"", "z"),
    row!("-- is an ordinary key", "--=x a=b", "--", "x"),
    row!("what follows -- counts", "-- a=b", "a", "b"),
    row!("keys are case-sensitive", "A=b", "a", ""),
    row!("kargs of a missing name is empty", "b=c", "a", ""),
    row!("keys have dots and dashes", "ide-core.nodma=0.1", "ide-core.nodma", "0.1"),
    row!("a value is not a template itself", "a={{kargs`b`}}", "a", "{{kargs`b`}}"),
];
