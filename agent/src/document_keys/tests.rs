use agent_types::cmdline::Kargs;
use agent_types::nextboot::Requests;
use russh::keys::ssh_key::LineEnding;
use serde_json::json;

use super::*;
use crate::artifact::{self, Artifact, Machine};
use crate::clock::FakeClock;
use crate::fetch::test_server::{Flaw, Server, answer};
use crate::fetch::{Https, Settings};
use crate::meminfo::MEMINFO;
use crate::policy::Policy;
use crate::resolve::{self, AddKargs, Resolved};
use agent_types::digest::Sha256Digest;
use sha2::{Digest as _, Sha256};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDqtoD3k7XvyZTEZ1iVCG60UXR1bfDE5j9uoWTHBcLTV";

fn host_key() -> String {
    HostKey::make().unwrap().key.to_openssh(LineEnding::LF).unwrap().to_string()
}

fn sha256(text: &str) -> String {
    Sha256Digest::from(<[u8; 32]>::from(Sha256::digest(text))).to_string()
}

/// A file of a document: its name, its text, and whether the document names its digest.
type Entry<'a> = (&'static str, &'a str, Digest);

#[derive(Clone, Copy, PartialEq)]
enum Digest {
    Named,
    NotNamed,
}
use Digest::{Named, NotNamed};

/// A server that answers every document with the same one, and has its files.
async fn server(tls: bool, files: &[Entry<'_>]) -> Server {
    let texts: Vec<_> = files.iter().map(|(name, text, _)| (*name, (*text).to_owned())).collect();
    let digests: Vec<_> = files.iter().map(|(_, text, named)| (sha256(text), *named)).collect();
    let script = move |request: &crate::fetch::test_server::Request| {
        let base = format!("{}://{}", if tls { "https" } else { "http" }, request.headers["host"]);
        let file = texts.iter().find(|(name, _)| request.path == format!("/{name}"));
        if let Some((_, text)) = file {
            return answer("200 OK", &[], text.as_bytes());
        }
        let entries = texts.iter().zip(&digests).map(|((name, _), (sha256, named))| {
            let url = json!(format!("{base}/{name}"));
            let entry = match named {
                Named => json!({ "url": url, "sha256": sha256 }),
                NotNamed => json!({ "url": url }),
            };
            ((*name).to_owned(), entry)
        });
        let files: serde_json::Map<_, _> = entries.collect();
        answer("200 OK", &[], json!({ "v1": { "files": files } }).to_string().as_bytes())
    };
    match tls {
        true => Server::tls(Flaw::None, script).await,
        false => Server::plain(script).await,
    }
}

/// What is below the root after this server's document has been followed.
async fn follow(root: &Path, server: &Server) -> [Option<String>; 2] {
    let policy = Policy { plain_http_documents: true, ..Policy::default() };
    let https = Https::new(Settings::new("1.2", policy, server.roots.clone()));
    let mut kargs = Kargs::parse(&format!("epoxy.stage2={}/document", server.base));
    let resolved = resolve::follow(&https, &mut kargs, "epoxy.stage2", AddKargs::No).await;
    let Resolved { document, over_tls } = resolved.unwrap();
    let requests = document.requests(&kargs).unwrap();
    let files = fetch(&https, &requests).await;
    take(root, over_tls, &files);
    [OF_THE_DOCUMENT, DOCUMENTS_HOST_KEY].map(|name| fs::read_to_string(root.join(name)).ok())
}

async fn fetch<'r>(https: &Https, requests: &'r Requests) -> Vec<(&'r FileRequest, Verified)> {
    let dir = std::env::temp_dir();
    let machine = Machine {
        dir: &dir,
        meminfo: Path::new(MEMINFO),
        processors: 1,
        tries: artifact::TRIES,
        limit: artifact::FILE_LIMIT,
        alive: &|_| {},
    };
    let mut files = Vec::new();
    for request in requests.files.iter().filter(|request| is_ours(request)) {
        let FileRequest { name, url, sha256 } = request.clone();
        let artifact = [Artifact { name, url, sha256 }];
        let fetched = artifact::fetch_all(https, &FakeClock::new(), &machine, &artifact).await;
        files.push((request, fetched.unwrap().remove(0)));
    }
    files
}

#[tokio::test]
async fn keys_of_a_document_over_https_with_digests_are_taken_and_no_others() {
    let host_key = host_key();
    let both =
        |named| [(AUTHORIZED_KEYS_FILE, KEY, named), (SSH_HOST_KEY_FILE, host_key.as_str(), named)];
    let taken = [Some(KEY.to_owned()), Some(host_key.clone())];
    for (tls, named, expected) in
        [(true, Named, &taken), (true, NotNamed, &[None, None]), (false, Named, &[None, None])]
    {
        let root = tempfile::tempdir().unwrap();
        let server = server(tls, &both(named)).await;
        assert_eq!(follow(root.path(), &server).await, *expected, "{}", server.base);
    }
}

#[tokio::test]
async fn the_last_document_counts_unless_somebody_else_could_have_written_it() {
    let (root, host_key) = (tempfile::tempdir().unwrap(), host_key());
    let root = root.path();
    let first = [(AUTHORIZED_KEYS_FILE, KEY, Named), (SSH_HOST_KEY_FILE, &host_key, Named)];
    let kept = [Some(KEY.to_owned()), Some(host_key.clone())];
    assert_eq!(follow(root, &server(true, &first).await).await, kept);
    assert_eq!(follow(root, &server(false, &[]).await).await, kept, "anybody may have sent it");
    let bad = [(AUTHORIZED_KEYS_FILE, "no keys", Named), (SSH_HOST_KEY_FILE, "no key", Named)];
    assert_eq!(follow(root, &server(true, &bad).await).await, kept, "they are of no use");
    let other = [(AUTHORIZED_KEYS_FILE, KEY, Named), ("kernel", "MZ", Named)];
    assert_eq!(follow(root, &server(true, &other).await).await, [kept[0].clone(), None]);
    assert_eq!(follow(root, &server(true, &[]).await).await, [None, None]);
}

#[tokio::test]
async fn one_document_of_a_chain_over_plain_http_is_enough_to_be_nobodys_word() {
    let secure = server(true, &[(AUTHORIZED_KEYS_FILE, KEY, Named)]).await;
    let next = format!("{}/document", secure.base);
    let chain = json!({ "v1": { "chain": next } }).to_string();
    let mut plain = Server::plain(move |_: &_| answer("200 OK", &[], chain.as_bytes())).await;
    plain.roots.clone_from(&secure.roots);
    let root = tempfile::tempdir().unwrap();
    assert_eq!(follow(root.path(), &plain).await, [None, None]);
    assert_eq!(follow(root.path(), &secure).await, [Some(KEY.to_owned()), None]);
}

#[test]
fn what_cannot_be_used_as_a_host_key_says_why_and_not_what_it_is() {
    let request = |url: &str| FileRequest { name: String::new(), url: url.into(), sha256: None };
    let key = host_key();
    let broken = key.replace("AAAA", "BBBB");
    for (url, text, expected) in [
        ("https://boot/k", key.as_str(), "the boot document brings the host key SHA256:"),
        ("http://boot/k", &key, "a private key comes over https only: http://boot/k"),
        ("https://boot/k", KEY, "expected a host key, got something else"),
        ("https://boot/k", &broken, "expected a host key, got something else: "),
    ] {
        let said = host(&request(url), text).unwrap_or_else(|error| Chain(&error).to_string());
        assert!(said.starts_with(expected), "{said}");
        let secret = text.lines().nth(1).unwrap_or("-----");
        assert!(!said.contains(secret), "{said}");
    }
}
