//! Files over real connections: what an operator sees, and what is left behind.

use super::*;
use crate::chain::Chain;
use crate::clock::FakeClock;
use crate::fetch::test_server::{Flaw, Request, Server, Step, answer, head};
use crate::fetch::{Https, Settings};
use crate::policy::Policy;
use std::cell::RefCell;
use std::path::PathBuf;

/// `printf 0123456789 | sha256sum`
const DIGITS: &str = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
/// `printf '' | sha256sum`
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const QUICK_TRIES: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(4),
    deadline: Duration::from_secs(3),
};

/// What is left of a run: files that were given out, the error line, and the pauses.
#[derive(Debug, PartialEq)]
struct Outcome {
    files: Result<Vec<String>, String>,
    slept_secs: Vec<u64>,
}

impl Outcome {
    fn at_once(text: &str) -> Self {
        Self { files: Ok(vec![text.to_owned()]), slept_secs: vec![] }
    }

    fn refused(line: &str) -> Self {
        Self { files: Err(line.to_owned()), slept_secs: vec![] }
    }
}

struct Lab {
    server: Server,
    dir: tempfile::TempDir,
    meminfo: PathBuf,
    stall: Duration,
    announced: RefCell<Vec<Duration>>,
}

impl Lab {
    fn new(server: Server) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        Self {
            server,
            dir,
            meminfo: crate::meminfo::MEMINFO.into(),
            stall: Duration::from_secs(30),
            announced: RefCell::default(),
        }
    }

    /// The machine's memory is nearly full, for as long as what is returned lives.
    fn leave_available(&mut self, memory: &str) -> tempfile::NamedTempFile {
        let meminfo = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&meminfo, format!("MemAvailable:   {memory}\n")).unwrap();
        self.meminfo = meminfo.path().to_owned();
        meminfo
    }

    async fn fetch(&self, sha256: Option<&str>) -> Outcome {
        let one = self.fetch_with(sha256, 1).await;
        assert_eq!(
            std::fs::read_dir(self.dir.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
        one
    }

    async fn fetch_with(&self, sha256: Option<&str>, processors: usize) -> Outcome {
        let settings = Settings {
            stall: self.stall,
            ..Settings::new("1.2", Policy::default(), self.server.roots.clone())
        };
        let alive = |within| self.announced.borrow_mut().push(within);
        let machine = Machine {
            dir: self.dir.path(),
            meminfo: &self.meminfo,
            processors,
            tries: QUICK_TRIES,
            limit: FILE_LIMIT,
            alive: &alive,
        };
        let artifact = Artifact {
            name: "kernel".to_owned(),
            url: format!("{}/k", self.server.base),
            sha256: sha256.map(|digest| digest.parse().unwrap()),
        };
        let clock = FakeClock::new();
        let files = fetch_all(&Https::new(settings), &clock, &machine, &[artifact]).await;
        let text = |file: &Verified| std::fs::read_to_string(file.path()).unwrap();
        let files = match files {
            Ok(files) => Ok(files.iter().map(text).collect()),
            Err(error) => Err(Chain(&error).to_string().replace(&self.server.base, "BASE")),
        };
        Outcome { files, slept_secs: clock.slept_secs() }
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.server.requests().into_iter().map(|mut r| r.headers.remove("range")).collect()
    }
}

fn digits(_: &Request) -> Vec<Step> {
    answer("200 OK", &[], b"0123456789")
}

/// What the server sends to a request, whatever it is.
type Answer = fn() -> Vec<Step>;

/// Sends 4 of 10 bytes, then does `step`; a request for the rest gets `rest`.
fn breaks_after_4(
    step: Step,
    validator: &'static str,
    rest: Answer,
) -> impl Fn(&Request) -> Vec<Step> {
    move |request| {
        if request.headers.contains_key("range") {
            return rest();
        }
        let begin = Step::Send(b"0123".to_vec());
        [head("200 OK", &["Content-Length: 10", validator]), vec![begin, step.clone()]].concat()
    }
}

fn the_rest() -> Vec<Step> {
    answer("206 Partial Content", &["Content-Range: bytes 4-9/10"], b"456789")
}

fn the_rest_of_v1() -> Vec<Step> {
    answer("206 Partial Content", &["Content-Range: bytes 4-9/10", "ETag: \"v1\""], b"456789")
}

#[tokio::test]
async fn a_file_is_taken_if_its_digest_holds() {
    for server in [Server::plain(digits).await, Server::tls(Flaw::None, digits).await] {
        let lab = Lab::new(server);
        for processors in [1, 2] {
            let outcome = lab.fetch_with(Some(DIGITS), processors).await;
            assert_eq!(outcome, Outcome::at_once("0123456789"));
        }
        let wrong = format!("cannot fetch kernel: BASE/k: expected sha256 {OTHER}, got {DIGITS}");
        assert_eq!(lab.fetch(Some(OTHER)).await, Outcome::refused(&wrong));
        assert_eq!(lab.server.asked().len(), 3, "a wrong digest is not tried again");
    }
}

#[tokio::test]
async fn a_file_without_a_digest_is_taken_only_over_https() {
    let lab = Lab::new(Server::tls(Flaw::None, digits).await);
    assert_eq!(lab.fetch(None).await, Outcome::at_once("0123456789"));
    let lab = Lab::new(Server::plain(digits).await);
    let refused = "cannot fetch kernel: plain http needs a sha256 in the boot document: BASE/k";
    assert_eq!(lab.fetch(None).await, Outcome::refused(refused));
    assert_eq!(lab.server.asked().len(), 0);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let lab = Lab::new(Server::plain(|_| answer("200 OK", &[], b"")).await);
    assert_eq!(lab.fetch(Some(EMPTY)).await, Outcome::at_once(""));
    let wrong = format!("cannot fetch kernel: BASE/k: expected sha256 {DIGITS}, got {EMPTY}");
    assert_eq!(lab.fetch(Some(DIGITS)).await, Outcome::refused(&wrong));
}

#[tokio::test]
async fn a_chunked_body_needs_no_length() {
    let chunked = b"4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n".to_vec();
    let script = move |_: &Request| {
        [head("200 OK", &["Transfer-Encoding: chunked"]), vec![Step::Send(chunked.clone())]]
            .concat()
    };
    let lab = Lab::new(Server::plain(script).await);
    assert_eq!(lab.fetch(Some(DIGITS)).await, Outcome::at_once("0123456789"));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_tried_again() {
    let lab = Lab::new(Server::plain(|_| answer("404 Not Found", &[], b"")).await);
    let line = "cannot fetch kernel: cannot GET BASE/k: HTTP 404 Not Found";
    assert_eq!(lab.fetch(Some(DIGITS)).await, Outcome::refused(line));
}

#[tokio::test]
async fn a_server_error_is_tried_again_after_a_pause() {
    let broken = std::sync::atomic::AtomicBool::new(true);
    let script =
        move |request: &Request| match broken.swap(false, std::sync::atomic::Ordering::SeqCst) {
            true => answer("500 Internal Server Error", &[], b""),
            false => digits(request),
        };
    let lab = Lab::new(Server::plain(script).await);
    let expected = Outcome { slept_secs: vec![1], ..Outcome::at_once("0123456789") };
    assert_eq!(lab.fetch(Some(DIGITS)).await, expected);
    let within = [180, 181, 180].map(Duration::from_secs);
    assert_eq!(*lab.announced.borrow(), within, "a watchdog is told, pauses included");
}

#[tokio::test]
async fn tries_end_at_the_deadline() {
    let lab = Lab::new(Server::plain(|_| answer("503 Service Unavailable", &[], b"")).await);
    let line = "cannot fetch kernel: cannot GET BASE/k: HTTP 503 Service Unavailable";
    let expected = Outcome { slept_secs: vec![1, 2], ..Outcome::refused(line) };
    assert_eq!(lab.fetch(Some(DIGITS)).await, expected);
}

#[tokio::test]
async fn a_transfer_that_breaks_goes_on_where_it_stopped() {
    for step in [Step::Silence, Step::Reset, Step::Pause(Duration::ZERO)] {
        let versions: [(_, Answer); 2] = [
            ("ETag: \"v1\"", the_rest_of_v1),
            ("Last-Modified: Thu, 20 Nov 2025 13:14:05 GMT", the_rest),
        ];
        for (validator, rest) in versions {
            let script = breaks_after_4(step.clone(), validator, rest);
            let mut lab = Lab::new(Server::plain(script).await);
            if let Step::Silence = step {
                lab.stall = Duration::from_millis(500);
            }
            let expected = Outcome { slept_secs: vec![1], ..Outcome::at_once("0123456789") };
            assert_eq!(lab.fetch(Some(DIGITS)).await, expected, "{step:?}");
            assert_eq!(lab.ranges(), [None, Some("bytes=4-".to_owned())]);
            let if_range = lab.server.requests()[1].headers["if-range"].clone();
            assert_eq!(if_range, validator.split_once(": ").unwrap().1);
        }
    }
}

#[tokio::test]
async fn a_file_that_has_changed_meanwhile_is_taken_from_its_begin() {
    let rests: [Answer; 2] = [
        // If-Range does not hold: the whole file.
        || answer("200 OK", &[], b"0123456789"),
        // The server counts otherwise than we do: of no use.
        || answer("206 Partial Content", &["Content-Range: bytes 5-9/10", "ETag: \"a\""], b"56789"),
    ];
    let lab = Lab::new(Server::plain(breaks_after_4(Step::Reset, "ETag: \"a\"", rests[0])).await);
    let expected = Outcome { slept_secs: vec![1], ..Outcome::at_once("0123456789") };
    assert_eq!(lab.fetch(Some(DIGITS)).await, expected);

    let lab = Lab::new(Server::plain(breaks_after_4(Step::Reset, "ETag: \"a\"", rests[1])).await);
    lab.fetch(Some(DIGITS)).await.files.unwrap_err();
    assert_eq!(lab.ranges()[..3], [None, Some("bytes=4-".to_owned()), None]);
}

#[tokio::test]
async fn without_a_validator_a_transfer_begins_again_and_gives_up_in_the_end() {
    let script = breaks_after_4(Step::Pause(Duration::ZERO), "X: y", the_rest);
    let lab = Lab::new(Server::plain(script).await);
    let line = "cannot fetch kernel: cannot GET BASE/k: body ended after 4 of 10 bytes";
    // The first try has brought something, so the pauses begin anew after it, once.
    let expected = Outcome { slept_secs: vec![1, 2], ..Outcome::refused(line) };
    assert_eq!(lab.fetch(Some(DIGITS)).await, expected);
    assert_eq!(lab.ranges(), [None, None, None]);
}

#[tokio::test]
async fn a_file_that_does_not_fit_is_refused_before_its_bytes_come() {
    let script = |_: &Request| {
        [head("200 OK", &["Content-Length: 1099511627776"]), vec![Step::Silence]].concat()
    };
    let mut lab = Lab::new(Server::plain(script).await);
    let _meminfo = lab.leave_available("65536 kB");
    let line = "cannot fetch kernel: BASE/k: cannot hold 1024.0 GiB in 64.0 MiB of available \
                memory: add memory to the machine, or make the file smaller";
    assert_eq!(lab.fetch(Some(DIGITS)).await, Outcome::refused(line));
}

#[tokio::test]
async fn a_file_of_unknown_length_is_refused_when_it_has_grown_too_much() {
    let script = |_: &Request| {
        let megabyte = Step::Send(vec![b'x'; 1 << 20]);
        [head("200 OK", &[]), vec![megabyte; 20], vec![Step::Silence]].concat()
    };
    let mut lab = Lab::new(Server::plain(script).await);
    let _meminfo = lab.leave_available("8192 kB");
    let line = "cannot fetch kernel: BASE/k: cannot hold 8.0 MiB in 8.0 MiB of available \
                memory: add memory to the machine, or make the file smaller";
    assert_eq!(lab.fetch(Some(DIGITS)).await, Outcome::refused(line));
}

#[tokio::test]
async fn a_server_that_is_not_proved_gets_no_file_taken() {
    let lab = Lab::new(Server::tls(Flaw::WrongName, digits).await);
    let line = "cannot fetch kernel: cannot GET BASE/k: the certificate of localhost is valid for \
                boot.example, 10.0.0.1 only: use such a name in the URL, or have the certificate \
                issued for localhost";
    assert_eq!(lab.fetch(Some(DIGITS)).await, Outcome::refused(line));
}

#[tokio::test]
async fn two_versions_of_a_file_are_never_joined() {
    // Servers that know ranges and no If-Range, and got another file meanwhile.
    let rests: [Answer; 3] = [
        || the_rest_of_another(&["Content-Range: bytes 4-9/10", "ETag: \"v2\""]),
        || the_rest_of_another(&["Content-Range: bytes 4-9/10"]),
        || the_rest_of_another(&["Content-Range: bytes 4-10/11", "ETag: \"v1\""]),
    ];
    for rest in rests {
        let script = breaks_after_4(Step::Reset, "ETag: \"v1\"", rest);
        let lab = Lab::new(Server::tls(Flaw::None, script).await);
        lab.fetch(None).await.files.unwrap_err();
        assert_eq!(lab.ranges()[..3], [None, Some("bytes=4-".to_owned()), None]);
        let within = [180, 181, 180, 180].map(Duration::from_secs);
        assert_eq!(lab.announced.borrow()[..4], within, "before each request and the pause");
    }
}

fn the_rest_of_another(headers: &[&str]) -> Vec<Step> {
    answer("206 Partial Content", headers, b"efghij")
}

#[tokio::test]
async fn a_date_does_not_prove_that_a_file_without_a_digest_is_the_same() {
    let date = "Last-Modified: Thu, 20 Nov 2025 13:14:05 GMT";
    let script = breaks_after_4(Step::Reset, date, the_rest);
    let lab = Lab::new(Server::tls(Flaw::None, script).await);
    lab.fetch(None).await.files.unwrap_err();
    assert_eq!(lab.ranges(), [None, None, None]);
}

#[tokio::test]
async fn a_part_that_nobody_asked_for_is_not_taken_for_the_file() {
    let lab = Lab::new(Server::tls(Flaw::None, |_| the_rest_of_v1()).await);
    let line = "cannot fetch kernel: cannot GET BASE/k: expected all of it, got a part (HTTP 206)";
    assert_eq!(lab.fetch(None).await, Outcome::refused(line));
}
