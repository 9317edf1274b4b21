//! No text makes a parser panic: a corpus of good texts, broken at random, always in the same way.

use std::collections::BTreeMap;

use agent_types::cmdline::{Cmdline, Kargs};
use agent_types::digest::Sha256Digest;
use agent_types::nextboot::Nextboot;
use agent_types::params::BootParams;
use agent_types::redact::redact;
use agent_types::template::{self, Data};
use agent_types::words;

const MUTATIONS_PER_TEXT: usize = 600;

const CORPUS: &[&str] = &[
    "epoxy.ip=4.14.159.86::4.14.159.65:255.255.255.192:mlab1.lga0t:eth0:off:8.8.8.8:8.8.4.4 quiet",
    "epoxy.ip=[2001:db8::2]::[2001:db8::1]:64:h:eth0:dhcp,1,x:[2001:db8::53]:::10:11 -- x",
    "epoxy.ip=eth0:dhcp epoxy.ipv4=4.14.159.86/26,4.14.159.65,8.8.8.8,8.8.4.4 epoxy.interface=eth0",
    "epoxy.ipv6=2001:db8::86/64,2001:db8::1,2001:4860::8888 epoxy.ip=\"a b\" epoxy.ip=dhcp",
    "{\"v1\":{\"vars\":{\"x\":[1.5,null,\"{{kargs `a`}}\"],\"y\":\"1\"},\"env\":{\"A\":\"{{.vars.x}}\"}}}",
    "{\"v1\":{\"files\":{\"f\":{\"url\":\"https://s/f\",\"sha256\":\"00\"}},\"commands\":[\"a 'b c' # d\"]}}",
    "{\"V1\":{\"files\":{\"f\":{\"url\":\"u\"}},\"commands\":[[\"{{.files.f.name}}\",7],\"x {{.vars}}\"]}}",
    "p {{- kargs \"\\x61\\u00e9\" | kargs -}} q {{/* c */}} {{.files.f.name}} {{`r`}} {{.}}",
    "a 'b c' \"d \\\" e\"f\\ g # h\ni",
    "get https://user:pw@s/v1/boot/h/S/stage2?token=x&sig=y \"secret\": \"z\" Bearer t password='u v'",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

/// What is put into a text: what the grammars treat as special, and what is odd.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    "-}}",
    "`",
    "\"",
    "'",
    "\\",
    "|",
    ".",
    ":",
    "::",
    ",",
    "/",
    "=",
    "[",
    "]",
    "{",
    "}",
    "#",
    " ",
    "\n",
    "\0",
    "é",
    "\u{feff}",
    "\u{1f600}",
    "://",
    "@",
    "/v1/boot/",
    "token=",
    "null",
    "-1",
    "1e999",
    "99999999999999999999",
    "dhcp",
    "\\u0000",
    "/*",
    "*/",
];

#[test]
fn no_mutation_makes_a_parser_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for seed in CORPUS {
        for _ in 0..MUTATIONS_PER_TEXT {
            let mut bytes = seed.as_bytes().to_vec();
            (0..=random.below(4)).for_each(|_| mutate(&mut bytes, &mut random));
            parse_everything(&bytes);
        }
    }
}

fn parse_everything(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let cmdline = Cmdline::parse(&text);
    let params = BootParams::parse(&text);
    for line in params.network.warnings.iter().map(ToString::to_string) {
        assert!(!line.contains('\n'), "one line: {line:?}");
    }
    for line in cmdline.contradictions().iter().map(ToString::to_string) {
        assert!(!line.contains('\n'), "one line: {line:?}");
    }
    let kargs = Kargs::parse(&text);
    let empty = BTreeMap::new();
    let data = Data { kargs: &kargs, vars: Some(&empty), files: None };
    drop((words::split(&text), template::evaluate(&text, &data), text.parse::<Sha256Digest>()));
    assert_eq!(redact(&redact(&text)), redact(&text), "{text:?}");
    if let Ok(document) = Nextboot::parse(bytes) {
        follow(&document, &kargs);
    }
}

fn follow(document: &Nextboot, kargs: &Kargs) {
    drop(document.v1.debug_config(kargs));
    let Ok(requests) = document.v1.requests(kargs) else { return };
    let paths = requests.files.iter().map(|f| (f.name.clone(), "/tmp/x".to_owned())).collect();
    if let Ok(plan) = requests.plan(&paths) {
        assert!(plan.commands.iter().all(|words| !words.is_empty()));
        drop(plan.debug_config());
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(8)).min(bytes.len());
    match random.below(4) {
        0 => drop(bytes.drain(at..end)),
        1 => bytes.extend_from_within(at..end),
        2 => bytes.splice(at..at, PIECES[random.below(PIECES.len())].bytes()).for_each(drop),
        _ => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
    }
}

/// Marsaglia's xorshift: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap_or_default() % limit.max(1)
    }
}
