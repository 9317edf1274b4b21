//! The report's `debug.config`: byte for byte what the original's `json.MarshalIndent` writes, but for
//! the secrets.

use std::collections::BTreeMap;

use agent_types::cmdline::Kargs;
use agent_types::nextboot::{Nextboot, debug_config_without_document};

const CMDLINE: &str = "epoxy.stage3=https://s/v1/boot/h/SESSION/stage3 epoxy.k8s_token=TOKEN quiet";

const DOCUMENT: &str = r##"{"kargs":{"ignored":"x"},"v1":{
    "commands":["# nothing",7,["/bin/x","--password","PASSWORD","<&>{{.vars.n}}"],"echo {{.files.f.name}}"],
    "env":{"PATH":"/bin","API_KEY":"KEY"},
    "files":{"f":{"url":"https://user:PASSWORD@s/{{.vars.n}}?sig=SIGNATURE"}},
    "vars":{"n":[1000000,"é"],"s":"{{kargs `epoxy.stage3`}}"}}}"##;

const KARGS: &str = r#"{
    "kargs": {
        "epoxy.k8s_token": "…",
        "epoxy.stage3": "https://s/v1/boot/h/…/stage3",
        "quiet": ""
    }"#;

const READ: &str = r##",
    "v1": {
        "vars": {
            "n": [
                1000000,
                "é"
            ],
            "s": "{{kargs `epoxy.stage3`}}"
        },
        "files": {
            "f": {
                "url": "https://…@s/{{.vars.n}}?sig=…"
            }
        },
        "env": {
            "API_KEY": "…",
            "PATH": "/bin"
        },
        "commands": [
            "# nothing",
            7,
            [
                "/bin/x",
                "--password",
                "…",
                "\u003c\u0026\u003e{{.vars.n}}"
            ],
            "echo {{.files.f.name}}"
        ]
    }
}"##;

const PLANNED: &str = r#",
    "v1": {
        "vars": {
            "n": "1e+06 é",
            "s": "https://s/v1/boot/h/…/stage3"
        },
        "files": {
            "f": {
                "name": "/tmp/f-1",
                "url": "https://…@s/1e+06 é?sig=…"
            }
        },
        "env": {
            "API_KEY": "…",
            "PATH": "/bin"
        },
        "commands": [
            [],
            7,
            [
                "/bin/x",
                "--password",
                "…",
                "\u003c\u0026\u003e1e+06 é"
            ],
            [
                "echo",
                "/tmp/f-1"
            ]
        ]
    }
}"#;

#[test]
fn each_state_is_shown_without_its_secrets() {
    let kargs = Kargs::parse(CMDLINE);
    assert_eq!(debug_config_without_document(&kargs), format!("{KARGS}\n}}"));
    let document = Nextboot::parse(DOCUMENT.as_bytes()).unwrap();
    assert_eq!(document.v1.debug_config(&kargs), format!("{KARGS}{READ}"));
    let requests = document.v1.requests(&kargs).unwrap();
    let plan = requests.plan(&BTreeMap::from([("f".to_owned(), "/tmp/f-1".to_owned())])).unwrap();
    assert_eq!(plan.debug_config(), format!("{KARGS}{PLANNED}"));
}

#[test]
fn a_document_that_asks_for_nothing_is_an_empty_object() {
    let document = Nextboot::parse(br#"{"v1":{"chain":"https://s/v1/boot/h/S/x"}}"#).unwrap();
    assert_eq!(
        document.v1.debug_config(&Kargs::default()),
        "{\n    \"v1\": {\n        \"chain\": \"https://s/v1/boot/h/…/x\"\n    }\n}"
    );
    let document = Nextboot::parse(br#"{"v1":{}}"#).unwrap();
    assert_eq!(document.v1.debug_config(&Kargs::default()), "{\n    \"v1\": {}\n}");
}

#[test]
fn a_file_whose_path_is_missing_is_named() {
    let document = Nextboot::parse(br#"{"v1":{"files":{"f":{"url":"u"}}}}"#).unwrap();
    let requests = document.v1.requests(&Kargs::default()).unwrap();
    let error = requests.plan(&BTreeMap::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot find the path of file \"f\"");
}
