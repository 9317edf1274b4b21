//! What an operator sees, and what a server sees, of requests over real connections.

use super::names::Names;
use super::test_server::{Flaw, Request, Server, Step, answer, head};
use super::{Document, Error, Fetch, Https, Settings};
use crate::chain::Chain;
use crate::policy::Policy;
use crate::retry::Transient;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const PLAIN_ALLOWED: Policy = Policy { plain_http_documents: true, console_shell: false };

fn settings(server: &Server) -> Settings {
    Settings {
        names: Names { hosts: "/nonexistent".into(), ..Names::default() },
        ..Settings::new("1.2", PLAIN_ALLOWED, server.roots.clone())
    }
}

/// A client that knows localhost.
fn https(settings: Settings) -> Https {
    Https::new(Settings { names: Names::default(), ..settings })
}

/// The error line, without what differs from run to run.
fn line(error: &Error, server: &Server) -> String {
    let line = Chain(error).to_string();
    let line = line.replace(&server.base, "BASE");
    let line = line.replace(&server.roots.display().to_string(), "ROOTS");
    match line.split_once("clock shows ") {
        Some((begin, end)) => format!("{begin}clock shows NOW{}", &end[23..]),
        None => line,
    }
}

async fn chain(server: &Server, path: &str) -> Result<String, String> {
    chain_with(settings(server), server, path).await
}

async fn chain_with(settings: Settings, server: &Server, path: &str) -> Result<String, String> {
    let url = format!("{}{path}", server.base);
    match https(settings).document(Document::Chain, &url).await {
        Ok(document) => Ok(String::from_utf8(document.bytes).unwrap()),
        Err(error) => Err(line(&error, server)),
    }
}

fn ok(_: &Request) -> Vec<Step> {
    answer("200 OK", &[], b"{}")
}

#[tokio::test]
async fn a_certificate_is_accepted_only_if_it_proves_the_server() {
    let host = "cannot GET BASE/x: the certificate of localhost";
    for (flaw, expected) in [
        (Flaw::None, Ok("{}".to_owned())),
        (
            Flaw::Expired,
            Err(format!(
                "{host} expired at 2020-01-02 00:00:00 UTC and this machine's clock shows NOW: \
                 renew the certificate, or set the clock"
            )),
        ),
        (
            Flaw::NotYetValid,
            Err(format!(
                "{host} is not valid before 2090-01-02 00:00:00 UTC and this machine's clock \
                 shows NOW: set the clock"
            )),
        ),
        (
            Flaw::WrongName,
            Err(format!(
                "{host} is valid for boot.example, 10.0.0.1 only: use such a name in the URL, or \
                 have the certificate issued for localhost"
            )),
        ),
        (
            Flaw::UnknownIssuer,
            Err(format!(
                "{host} is signed by no authority in ROOTS: pack its CA certificate into the image"
            )),
        ),
        (
            Flaw::SelfSigned,
            Err(format!(
                "{host} is signed by no authority in ROOTS: pack its CA certificate into the image"
            )),
        ),
        (
            Flaw::SelfSignedCa,
            Err(format!(
                "{host} is a CA's own: have it issue one for the server, and pack the CA \
                 certificate into the image"
            )),
        ),
    ] {
        let server = Server::tls(flaw, ok).await;
        assert_eq!(chain(&server, "/x").await, expected, "{flaw:?}");
        let asked = server.asked().len();
        assert_eq!(asked, usize::from(flaw == Flaw::None), "{flaw:?}: nothing else is asked");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_that_is_down() {
    let server = Server::tls(Flaw::None, ok).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", plain.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = https(settings(&server)).document(Document::Chain, &url).await.unwrap_err();
    let expected = format!(
        "cannot GET {url}/: cannot agree on TLS: \
         received corrupt message of type InvalidContentType"
    );
    assert_eq!((line(&error, &server), error.is_transient()), (expected, false));
}

#[tokio::test]
async fn a_refused_connection_names_host_and_port_and_is_tried_again() {
    let server = Server::plain(ok).await;
    let settings = settings(&server);
    // Port 1 is reserved, and nobody listens there.
    let error =
        https(settings).document(Document::Chain, "http://localhost:1/x").await.unwrap_err();
    let expected = "cannot GET http://localhost:1/x: cannot connect to localhost:1: \
                    Connection refused (os error 111)";
    assert_eq!((line(&error, &server).as_str(), error.is_transient()), (expected, true));
}

#[tokio::test]
async fn a_name_without_an_address_is_told() {
    let server = Server::plain(ok).await;
    let names = Names { resolv_conf: "/dev/null".into(), ..Names::default() };
    let https = Https::new(Settings { names, ..settings(&server) });
    let error = https.document(Document::Chain, "http://boot.example/x").await.unwrap_err();
    let expected = "cannot GET http://boot.example/x: cannot resolve boot.example: \
                    no name server in /dev/null";
    assert_eq!(line(&error, &server), expected);
}

#[tokio::test]
async fn an_address_in_a_url_needs_no_resolver() {
    let server = Server::plain(ok).await;
    let names =
        Names { resolv_conf: "/dev/null".into(), hosts: "/dev/null".into(), ..Names::default() };
    let https = Https::new(Settings { names, ..settings(&server) });
    let url = server.base.replace("localhost", "127.0.0.1");
    assert_eq!(https.document(Document::Chain, &url).await.unwrap().bytes, b"{}");
}

#[tokio::test]
async fn documents_over_plain_http_need_the_policys_consent() {
    let server = Server::plain(ok).await;
    let strict = Settings { policy: Policy::default(), ..settings(&server) };
    let url = format!("{}/stage2", server.base);
    let error = https(strict).document(Document::Action, &url).await.unwrap_err();
    let expected = "cannot POST BASE/stage2: plain http is refused for boot documents: \
                    use https, or set plain_http_documents in the image's spec";
    assert_eq!((line(&error, &server).as_str(), server.asked().len()), (expected, 0));
    assert_eq!(chain(&server, "/stage2").await, Ok("{}".to_owned()));
}

#[tokio::test]
async fn an_action_is_an_empty_form_and_a_chain_is_a_get() {
    let server = Server::plain(ok).await;
    let https = https(settings(&server));
    for kind in [Document::Action, Document::Chain] {
        https.document(kind, &format!("{}/x", server.base)).await.unwrap();
    }
    let seen: Vec<_> = server
        .requests()
        .into_iter()
        .map(|r| {
            let header = |name: &str| r.headers.get(name).cloned();
            (r.method, header("content-type"), header("content-length"), header("user-agent"))
        })
        .collect();
    let text = |text: &str| Some(text.to_owned());
    let form = text("application/x-www-form-urlencoded");
    assert_eq!(
        seen,
        [
            ("POST".to_owned(), form, text("0"), text("stage2/1.2")),
            ("GET".to_owned(), None, None, text("stage2/1.2")),
        ]
    );
}

#[tokio::test]
async fn any_2xx_is_an_answer_and_anything_else_is_named() {
    let server = Server::plain(|request| {
        let status = match request.path.as_str() {
            "/201" => "201 Created",
            "/204" => return head("204 No Content", &[]),
            "/304" => "304 Not Modified",
            "/403" => "403 Forbidden",
            "/404" => "404 Not Found",
            "/500" => "500 Internal Server Error",
            _ => "599 Whatever",
        };
        answer(status, &[], b"words")
    })
    .await;
    for (path, expected) in [
        ("/201", Ok("words".to_owned())),
        ("/204", Ok(String::new())),
        ("/304", Err("cannot GET BASE/304: HTTP 304 Not Modified".to_owned())),
        ("/403", Err("cannot GET BASE/403: HTTP 403 Forbidden".to_owned())),
        ("/404", Err("cannot GET BASE/404: HTTP 404 Not Found".to_owned())),
        ("/x?token=y", Err("cannot GET BASE/x: HTTP 599 <unknown status code>".to_owned())),
        ("/500", Err("cannot GET BASE/500: HTTP 500 Internal Server Error".to_owned())),
    ] {
        assert_eq!(chain(&server, path).await, expected);
    }
}

#[tokio::test]
async fn redirects_change_methods_as_in_gos_client() {
    let server = Server::plain(|request| match request.path.as_str() {
        "/end" => ok(request),
        path => answer(&format!("{} Moved", &path[1..]), &["Location: /end"], b""),
    })
    .await;
    let https = https(settings(&server));
    for status in [301, 302, 303, 307, 308] {
        https
            .post_form(&format!("{}/{status}", server.base), &[("message", "a b&c")])
            .await
            .unwrap();
    }
    let seen: Vec<_> = server
        .requests()
        .into_iter()
        .map(|r| format!("{} {} {}", r.method, r.path, r.body))
        .collect();
    assert_eq!(
        seen,
        [
            "POST /301 message=a+b%26c",
            "GET /end ",
            "POST /302 message=a+b%26c",
            "GET /end ",
            "POST /303 message=a+b%26c",
            "GET /end ",
            "POST /307 message=a+b%26c",
            "POST /end message=a+b%26c",
            "POST /308 message=a+b%26c",
            "POST /end message=a+b%26c",
        ]
    );
}

#[tokio::test]
async fn redirects_that_go_on_and_on_are_refused() {
    let server = Server::plain(|request| {
        let to = match request.path.as_str() {
            "/a" => "/b".to_owned(),
            "/b" => "/a".to_owned(),
            path => format!("{path}x"),
        };
        answer("302 Found", &[&format!("Location: {to}")], b"")
    })
    .await;
    let looped = "cannot GET BASE/b: redirect loop: BASE/a was asked before";
    assert_eq!(chain(&server, "/a").await, Err(looped.to_owned()));
    let endless = "cannot GET BASE/xxxxxxxxxx: stopped after 10 redirects";
    assert_eq!(chain(&server, "/x").await, Err(endless.to_owned()));
}

#[tokio::test]
async fn https_never_leads_to_plain_http() {
    let plain = Server::plain(ok).await;
    let to = format!("Location: {}/x", plain.base);
    let server = Server::tls(Flaw::None, move |_| answer("302 Found", &[&to], b"")).await;
    let expected =
        format!("cannot GET BASE/x: redirect from https to plain http refused: {}/x", plain.base);
    assert_eq!(chain(&server, "/x").await, Err(expected));
    assert_eq!(plain.asked().len(), 0);
}

#[tokio::test]
async fn what_came_over_plain_http_at_first_has_no_proof_of_the_server() {
    let server = Server::tls(Flaw::None, ok).await;
    let to = format!("Location: {}/x", server.base);
    let plain = Server::plain(move |_| answer("302 Found", &[&to], b"")).await;
    let https = https(settings(&server));
    let proof = async |url: &str| https.open(url).await.unwrap().over_tls.is_some();
    assert!(!proof(&format!("{}/x", plain.base)).await);
    assert!(proof(&format!("{}/x", server.base)).await);
}

#[tokio::test]
async fn a_document_is_at_most_a_mebibyte() {
    let server = Server::plain(|request| match request.path.as_str() {
        "/fits" => answer("200 OK", &[], &vec![b'x'; 1 << 20]),
        _ => answer("200 OK", &[], &vec![b'x'; (1 << 20) + 1]),
    })
    .await;
    assert_eq!(chain(&server, "/fits").await.map(|document| document.len()), Ok(1 << 20));
    let expected = "cannot GET BASE/more: expected at most 1.0 MiB of document, got more";
    assert_eq!(chain(&server, "/more").await, Err(expected.to_owned()));
}

#[tokio::test]
async fn a_document_that_does_not_come_is_told_by_how() {
    let server = Server::plain(|request| match request.path.as_str() {
        "/closed" => vec![],
        "/garbage" => vec![Step::Send(b"\0\0\0 garbage\r\n\r\n".to_vec())],
        "/short" => {
            [head("200 OK", &["Content-Length: 9"]), vec![Step::Send(b"{}".into())]].concat()
        }
        "/reset" => {
            [head("200 OK", &["Content-Length: 9"]), vec![Step::Send(b"{}".into()), Step::Reset]]
                .concat()
        }
        _ => [
            head("200 OK", &["Transfer-Encoding: chunked"]),
            vec![Step::Send(b"2\r\n{}\r\n".into())],
        ]
        .concat(),
    })
    .await;
    for (path, expected) in [
        ("/closed", "cannot get an answer: connection closed before message completed"),
        ("/garbage", "cannot get an answer: invalid HTTP version parsed"),
        ("/short", "body ended after 2 of 9 bytes"),
        ("/reset", "connection broke after 2 of 9 bytes: Connection reset by peer (os error 104)"),
        ("/chunked", "body ended after 2 bytes"),
    ] {
        assert_eq!(chain(&server, path).await, Err(format!("cannot GET BASE{path}: {expected}")));
    }
}

#[tokio::test]
async fn a_silent_server_is_left_at_the_bounds() {
    let server = Server::plain(|request| match request.path.as_str() {
        "/silent" => vec![Step::Silence],
        _ => [head("200 OK", &["Content-Length: 9"]), vec![Step::Silence]].concat(),
    })
    .await;
    let millis = Duration::from_millis;
    for (path, expected) in [
        ("/silent", "cannot GET BASE/silent: no answer within 400ms"),
        ("/stalled", "cannot GET BASE/stalled: no byte for 400ms after 0 of 9 bytes"),
    ] {
        let quick = Settings { connect: millis(500), stall: millis(400), ..settings(&server) };
        assert_eq!(chain_with(quick, &server, path).await, Err(expected.to_owned()));
    }
}

#[tokio::test]
async fn a_connection_that_never_stands_is_left_at_its_own_bound() {
    let server = Server::tls(Flaw::None, ok).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("localhost:{}", silent.local_addr().unwrap().port());
    let millis = Duration::from_millis;
    let quick = Settings { connect: millis(500), stall: millis(50), ..settings(&server) };
    let url = format!("https://{host}/x");
    let error = https(quick).document(Document::Chain, &url).await.unwrap_err();
    let expected =
        format!("cannot GET {url}: cannot connect to {host}: not connected within 500ms");
    assert_eq!((line(&error, &server), error.is_transient()), (expected, true));
}

#[tokio::test]
async fn a_server_that_trickles_is_left_at_the_limit() {
    let server = Server::plain(|_| {
        let slowly = [Step::Send(b" ".to_vec()), Step::Pause(Duration::from_millis(50))];
        [head("200 OK", &[]), vec![slowly; 100].concat()].concat()
    })
    .await;
    let impatient = Settings { limit: Duration::from_millis(700), ..settings(&server) };
    let expected = "cannot GET BASE/x: not finished within 700ms";
    assert_eq!(chain_with(impatient, &server, "/x").await, Err(expected.to_owned()));
}

#[tokio::test]
async fn a_file_url_is_a_path_as_it_stands() {
    let server = Server::plain(ok).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a%20b?c");
    std::fs::write(&path, "{}").unwrap();
    let https = https(settings(&server));
    for kind in [Document::Action, Document::Chain] {
        let document = https.document(kind, &format!("file://{}", path.display())).await;
        assert_eq!(document.unwrap().bytes, b"{}");
    }
    let error = https.document(Document::Chain, "file:///nonexistent").await.unwrap_err();
    let expected = "cannot READ file:///nonexistent: No such file or directory (os error 2)";
    assert_eq!(line(&error, &server), expected);
}

#[tokio::test]
async fn what_is_no_url_is_an_error() {
    let server = Server::plain(ok).await;
    let https = https(settings(&server));
    for text in ["", "stage2.json", "ftp://host/x", "http://", "https://[", "http:///x y", "\u{0}"]
    {
        for error in [
            https.document(Document::Action, text).await.unwrap_err(),
            https.post_form(text, &[]).await.unwrap_err(),
            https.open(text).await.unwrap_err(),
        ] {
            assert!(!error.is_transient(), "{text:?}: {}", Chain(&error));
        }
    }
    let error = https.document(Document::Action, "stage2.json").await.unwrap_err();
    assert_eq!(
        line(&error, &server),
        "cannot fetch \"stage2.json\": expected an http or https URL"
    );
}

#[tokio::test]
async fn roots_are_read_only_for_https() {
    let server = Server::plain(ok).await;
    assert!(!Path::new(&server.roots).exists());
    assert_eq!(chain(&server, "/x").await, Ok("{}".to_owned()));
}
