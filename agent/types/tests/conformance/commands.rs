//! Commands as lists and as strings.

use crate::{Evaluated, Expected, NOTHING, Row, commands};

macro_rules! row {
    ($rule:literal, $cmdline:literal, $document:literal, $expected:expr) => {
        Row { rule: $rule, cmdline: $cmdline, document: $document, expected: $expected }
    };
    ($rule:literal, $document:literal, $expected:expr) => {
        row!($rule, "a=b", $document, $expected)
    };
}

pub(crate) const ROWS: &[Row] = &[
    row!(
        "list form: elements are never split",
        r#"{"v1":{"commands":[["/bin/echo","p q","'r'"]]}}"#,
        commands(&[&["/bin/echo", "p q", "'r'"]])
    ),
    row!(
        "list form: every element is evaluated as a template",
        "a=p q=r",
        r#"{"v1":{"commands":[["{{kargs `a`}}","x{{kargs `q`}}"]]}}"#,
        commands(&[&["p", "xr"]])
    ),
    row!(
        "list form: elements are evaluated once",
        "a={{kargs`b`}}",
        r#"{"v1":{"commands":[["{{kargs `a`}}"]]}}"#,
        commands(&[&["{{kargs`b`}}"]])
    ),
    row!(
        "list form: every element is printed",
        r#"{"v1":{"commands":[[1000000,1.5,true,null,["p"]]]}}"#,
        commands(&[&["1e+06", "1.5", "true", "<nil>", "[p]"]])
    ),
    row!("list form: an empty list is skipped", r#"{"v1":{"commands":[[]]}}"#, commands(&[])),
    row!(
        "list form: an empty word is left to exec",
        r#"{"v1":{"commands":[[""]]}}"#,
        commands(&[&[""]])
    ),
    row!(
        "elements that are neither list nor string are skipped",
        r#"{"v1":{"commands":[null,7,true,{"a":"b"},["true"]]}}"#,
        commands(&[&["true"]])
    ),
    row!(
        "string form: split as a shell would",
        r#"{"v1":{"commands":["/bin/echo 'p q' \"r s\" t\\ u"]}}"#,
        commands(&[&["/bin/echo", "p q", "r s", "t u"]])
    ),
    row!(
        "string form: evaluated before it is split, so a value with spaces is several words",
        "x=y",
        r#"{"v1":{"vars":{"v":"p q"},"commands":["echo {{.vars.v}}"]}}"#,
        Expected::Plan(Evaluated {
            vars: &[("v", "p q")],
            commands: &[&["echo", "p", "q"]],
            ..NOTHING
        })
    ),
    row!(
        "string form: an apostrophe in a value opens a quote that nothing closes: error",
        "a=it's",
        r#"{"v1":{"commands":["echo {{kargs `a`}}"]}}"#,
        Expected::Error(
            "cannot split v1.commands[0] into words: expected a closing ', got the end of the command"
        )
    ),
    row!(
        "string form: a backslash at the end is an error",
        r#"{"v1":{"commands":["true","echo \\"]}}"#,
        Expected::Error(
            "cannot split v1.commands[1] into words: expected a character after the backslash, got the end of the command"
        )
    ),
    row!("string form: an empty string is skipped", r#"{"v1":{"commands":[""]}}"#, commands(&[])),
    row!(
        "string form: a blank string is skipped",
        r#"{"v1":{"commands":[" \t\r\n"]}}"#,
        commands(&[])
    ),
    row!(
        "string form: a string that is only a comment is skipped",
        r##"{"v1":{"commands":["# Run kexec", ["true"]]}}"##,
        commands(&[&["true"]])
    ),
    row!(
        "string form: a comment in a command is evaluated as a template too: error",
        r##"{"v1":{"commands":["# {{oops}}"]}}"##,
        Expected::Error(
            "cannot evaluate v1.commands[0]: expected the function kargs, got oops at character 5 of the template"
        )
    ),
    row!(
        "shlex: # begins a comment only at the start of a word",
        r#"{"v1":{"commands":["a#b #c"]}}"#,
        commands(&[&["a#b"]])
    ),
    row!(
        "shlex: a comment runs to the end of its line",
        r#"{"v1":{"commands":["a #b\nc"]}}"#,
        commands(&[&["a", "c"]])
    ),
    row!(
        "shlex: single quotes are literal",
        r#"{"v1":{"commands":["'a\\b\"c'"]}}"#,
        commands(&[&["a\\b\"c"]])
    ),
    row!(
        "shlex: a backslash escapes any next character outside of quotes",
        r#"{"v1":{"commands":["a\\b \\' \\\\ \\#"]}}"#,
        commands(&[&["ab", "'", "\\", "#"]])
    ),
    row!(
        "shlex: a backslash escapes any next character in double quotes",
        r#"{"v1":{"commands":["\"a\\b\" \"c\\\"d\""]}}"#,
        commands(&[&["ab", "c\"d"]])
    ),
    row!(
        "shlex: white space is space, tab, CR and LF",
        r#"{"v1":{"commands":["a b\tc\rd\ne\u000bf\u00a0g"]}}"#,
        commands(&[&["a", "b", "c", "d", "e\u{b}f\u{a0}g"]])
    ),
    row!(
        "shlex: $, `, ~, * and ; are nothing special",
        r#"{"v1":{"commands":["$HOME `x` ~ * a;b | >c &"]}}"#,
        commands(&[&["$HOME", "`x`", "~", "*", "a;b", "|", ">c", "&"]])
    ),
    row!(
        "shlex: quotes without space between make one word",
        r#"{"v1":{"commands":["a'b c'\"d e\"f ''"]}}"#,
        commands(&[&["ab cd ef", ""]])
    ),
    row!(
        "string form: a value with {{ would be evaluated again, and is refused",
        "a={{.files}}",
        r#"{"v1":{"commands":["echo {{kargs `a`}}"]}}"#,
        Expected::Error(
            "cannot use {{kargs `a`}} in v1.commands[0]: its value contains {{; give the command as a list"
        )
    ),
    row!(
        "string form: a variable with {{ is refused too",
        "a={{x",
        r#"{"v1":{"vars":{"v":"{{kargs `a`}}"},"commands":[["{{.vars.v}}"],"echo {{ .vars.v }}"]}}"#,
        Expected::Error(
            "cannot use {{.vars.v}} in v1.commands[1]: its value contains {{; give the command as a list"
        )
    ),
    row!(
        "string form: {{ put together from two values is refused",
        "a={ b={x",
        r#"{"v1":{"commands":["echo {{kargs `a`}}{{kargs `b`}}"]}}"#,
        Expected::Error(
            "cannot use {{x in v1.commands[0]: its value contains {{; give the command as a list"
        )
    ),
    row!(
        "string form: a value with }} is only text",
        "a=}}",
        r#"{"v1":{"commands":["echo {{kargs `a`}} {"]}}"#,
        commands(&[&["echo", "}}", "{"]])
    ),
    row!(
        "the order of commands is kept, and all are prepared before the first starts",
        r#"{"v1":{"commands":["b",["a"],"{{.vars.x.y}}"],"vars":{"x":"1"}}}"#,
        Expected::Error(
            "cannot evaluate v1.commands[2]: cannot evaluate field y of a string in {{.vars.x.y}}"
        )
    ),
    row!(
        "a kexec command as stage1to2 documents have it",
        "epoxy.ip=1.2.3.4::: epoxy.stage3=https://s/v1/boot/h/S/stage3",
        r##"{"v1":{
            "vars":{"kargs":["epoxy.ip={{kargs `epoxy.ip`}}","epoxy.stage3={{kargs `epoxy.stage3`}}"],
                    "cmdline":"net.ifnames=0 autoconf=0"},
            "files":{"vmlinuz":{"url":"https://s/vmlinuz"},"initram":{"url":"https://s/initram"}},
            "env":{"PATH":"/bin:/usr/bin:/usr/local/bin"},
            "commands":["# Run kexec using the downloaded files.",
                ["/sbin/kexec","--force","--command-line={{.vars.kargs}} {{.vars.cmdline}}",
                 "--initrd={{.files.initram.name}}","{{.files.vmlinuz.name}}"]]}}"##,
        Expected::Plan(Evaluated {
            vars: &[
                ("cmdline", "net.ifnames=0 autoconf=0"),
                ("kargs", "epoxy.ip=1.2.3.4::: epoxy.stage3=https://s/v1/boot/h/S/stage3"),
            ],
            files: &[
                ("initram", "https://s/initram", None),
                ("vmlinuz", "https://s/vmlinuz", None),
            ],
            env: &[("PATH", "/bin:/usr/bin:/usr/local/bin")],
            commands: &[&[
                "/sbin/kexec",
                "--force",
                "--command-line=epoxy.ip=1.2.3.4::: epoxy.stage3=https://s/v1/boot/h/S/stage3 net.ifnames=0 autoconf=0",
                "--initrd=/tmp/initram-1",
                "/tmp/vmlinuz-1",
            ]],
        })
    ),
    row!(
        "a kexec command in string form",
        r#"{"v1":{"vars":{"k":"p=q"},"files":{"i":{"url":"u"},"v":{"url":"w"}},
            "commands":["/sbin/kexec --force --command-line='{{.vars.k}} {{kargs `a`}}' --initrd {{.files.i.name}} {{.files.v.name}}"]}}"#,
        Expected::Plan(Evaluated {
            vars: &[("k", "p=q")],
            files: &[("i", "u", None), ("v", "w", None)],
            commands: &[&[
                "/sbin/kexec",
                "--force",
                "--command-line=p=q b",
                "--initrd",
                "/tmp/i-1",
                "/tmp/v-1",
            ]],
            ..NOTHING
        })
    ),
];
