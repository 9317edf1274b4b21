//! What the boot server does on purpose, as curl sees it: the tests of the agent stand on it.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Output};
use std::time::Duration;

use vmtest::certificate::{Authority, Presented};
use vmtest::server::{BootServer, EpoxyHost, Fault, Scheme, ServerSetup, Times};

const LOCALHOST: &str = "127.0.0.1";

/// Exit codes of curl, from curl(1).
mod curl {
    pub(super) const OK: i32 = 0;
    pub(super) const PARTIAL: i32 = 18;
    pub(super) const TIMED_OUT: i32 = 28;
    pub(super) const TOO_MANY_REDIRECTS: i32 = 47;
    pub(super) const RECEIVE: i32 = 56;
    pub(super) const CERTIFICATE: i32 = 60;
}

fn server(authority: &Authority, presents: Presented) -> anyhow::Result<BootServer> {
    BootServer::start(&ServerSetup {
        listen: IpAddr::from([127, 0, 0, 1]),
        known_as: LOCALHOST.to_owned(),
        authority,
        presents,
    })
}

fn curl(arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new("curl").args(["--silent", "--max-time", "3"]).args(arguments).output()?)
}

#[test]
fn a_fault_is_what_curl_sees_and_a_healed_path_is_well() -> anyhow::Result<()> {
    let server = server(&Authority::new()?, Presented::Good)?;
    let body = vec![b'x'; 1 << 20];
    server.serve("/file", body.clone());
    let url = server.http_url("/file");
    let looped = Fault::Redirect(302, "/file".to_owned());
    for (fault, exit, received) in [
        (Fault::Status(404), curl::OK, b"status 404, as told\n".len()),
        (Fault::Body(b"<html>".to_vec()), curl::OK, 6),
        (Fault::Chunked, curl::OK, body.len()),
        (Fault::Silence, curl::TIMED_OUT, 0),
        (Fault::StallAfter(1000), curl::TIMED_OUT, 1000),
        (Fault::TruncateAfter(1000), curl::PARTIAL, 1000),
        (looped, curl::TOO_MANY_REDIRECTS, 0),
    ] {
        server.fault("/file", fault.clone(), Times::Always);
        let seen = curl(&["--location", "--max-redirs", "5", &url])?;
        assert_eq!((seen.status.code(), seen.stdout.len()), (Some(exit), received), "{fault:?}");
        server.heal("/file");
    }
    server.fault("/file", Fault::ResetAfter(1000), Times::First(1));
    assert_eq!(curl(&[&url])?.status.code(), Some(curl::RECEIVE));
    assert_eq!(curl(&[&url])?.stdout, body);
    Ok(())
}

#[test]
fn a_range_of_a_file_on_disk_is_a_part_of_it() -> anyhow::Result<()> {
    let server = server(&Authority::new()?, Presented::Good)?;
    let mut file = tempfile::NamedTempFile::new()?;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    file.write_all(&bytes)?;
    server.serve("/file", file.path().to_owned());
    let url = server.http_url("/file");
    assert_eq!(curl(&[&url])?.stdout, bytes);
    assert_eq!(curl(&["--range", "999000-", &url])?.stdout, bytes[999_000..]);
    let head = String::from_utf8(curl(&["--head", &url])?.stdout)?;
    assert!(head.contains("Content-Length: 1000000\r\n"), "{head}");
    assert!(head.contains("Accept-Ranges: bytes\r\n"), "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap_or_default();
    let part_of = |version: &str| {
        curl(&["--range", "999000-", "--header", &format!("If-Range: {version}"), &url])
    };
    assert_eq!(part_of(etag)?.stdout.len(), 1000);
    assert_eq!(part_of("\"another version\"")?.stdout.len(), bytes.len());
    let methods: Vec<String> =
        server.requests_for("/file").into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["GET", "GET", "HEAD", "GET", "GET"]);
    Ok(())
}

#[test]
fn only_the_good_certificate_is_taken_by_a_client_that_trusts_the_authority() -> anyhow::Result<()>
{
    let authority = Authority::new()?;
    let roots = tempfile::NamedTempFile::new()?;
    roots.as_file().write_all(authority.pem().as_bytes())?;
    let roots = roots.path().to_string_lossy().into_owned();
    for (presents, exit) in [
        (Presented::Good, curl::OK),
        (Presented::Expired, curl::CERTIFICATE),
        (Presented::NotYetValid, curl::CERTIFICATE),
        (Presented::WrongName, curl::CERTIFICATE),
        (Presented::SelfSigned, curl::CERTIFICATE),
    ] {
        let server = server(&authority, presents)?;
        server.serve("/", "hello");
        let seen = curl(&["--cacert", &roots, &server.https_url("/")])?;
        assert_eq!(seen.status.code(), Some(exit), "{presents:?}");
        let arrived = server.requests_for("/").len();
        assert_eq!(arrived, usize::from(presents == Presented::Good), "{presents:?}");
    }
    Ok(())
}

#[test]
fn epoxys_routes_want_post_and_reports_want_the_newest_session() -> anyhow::Result<()> {
    let server = server(&Authority::new()?, Presented::Good)?;
    server.add_host(EpoxyHost {
        name: "mlab1".to_owned(),
        stage1: "https://storage/stage1to2.json".to_owned(),
        ..EpoxyHost::default()
    });
    let url = |path: &str| server.http_url(path);
    let status = |arguments: &[&str]| -> anyhow::Result<String> {
        let mut all = vec!["--output", "/dev/null", "--write-out", "%{http_code}"];
        all.extend(arguments);
        Ok(String::from_utf8(curl(&all)?.stdout)?)
    };
    let stage1 = curl(&["--data", "", &url("/v1/boot/mlab1/stage1.json")])?;
    let stage1: serde_json::Value = serde_json::from_slice(&stage1.stdout)?;
    assert_eq!(stage1["v1"]["chain"], "https://storage/stage1to2.json");
    let old = "/v1/boot/mlab1/session0001/report";
    assert!(stage1["kargs"]["epoxy.report"].as_str().is_some_and(|report| report.ends_with(old)));
    assert_eq!(status(&["--data", "message=success", &url(old)])?, "204");
    let newer = server.open_session();
    let newer = format!("/v1/boot/mlab1/{newer}/report");
    assert_eq!(status(&["--data", "message=success", &url(old)])?, "403");
    assert_eq!(status(&["--data", "message=error%3A+no", &url(&newer)])?, "204");
    assert_eq!(status(&[&url("/v1/boot/mlab1/stage1.json")])?, "405");
    assert_eq!(status(&["--data", "", &url("/v1/boot/other/stage1.json")])?, "404");
    let messages: Vec<String> = server.reports().into_iter().map(|report| report.message).collect();
    assert_eq!(messages, ["success", "error: no"]);
    Ok(())
}

#[test]
fn the_log_tells_who_asked_what_and_can_be_waited_for() -> anyhow::Result<()> {
    let server = server(&Authority::new()?, Presented::Good)?;
    let bound = Duration::from_secs(10);
    let asked = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.log().wait_for("/here", 1, bound));
        curl(&["--data", "a=1&b=two+words", &server.http_url("/here?query")])?;
        let asked = waiting.join().ok().flatten();
        anyhow::Ok(asked)
    })?;
    let asked = &asked.expect("expected a request within the bound")[0];
    assert_eq!((asked.method.as_str(), asked.scheme), ("POST", Scheme::Http));
    assert_eq!((asked.field("a"), asked.field("b")), (Some("1"), Some("two words")));
    assert!(server.log().wait_for("/never", 1, Duration::from_millis(10)).is_none());
    Ok(())
}
