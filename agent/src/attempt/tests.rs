use super::*;
use crate::artifact::TRIES;
use crate::clock::FakeClock;
use crate::fetch::{self, Body, Document, Resume, Text};
use crate::watch::{Announcements, Word};

/// A server whose documents each take nine minutes, and name the next one.
struct Slow;

impl Fetch for Slow {
    async fn document(&self, _: Document, url: &str) -> Result<Text, fetch::Error> {
        tokio::time::sleep(Duration::from_secs(9 * 60)).await;
        let bytes = format!(r#"{{"v1": {{"chain": "{url}x"}}}}"#).into_bytes();
        Ok(Text { bytes, over_tls: None })
    }

    async fn post_form(&self, _: &str, _: &[(&str, &str)]) -> Result<(), fetch::Error> {
        Ok(())
    }

    async fn post_file(&self, _: &str, _: &[u8]) -> Result<(), fetch::Error> {
        unreachable!("a document sends no files")
    }

    async fn open(&self, _: &str) -> Result<Body, fetch::Error> {
        unreachable!("no document names files")
    }

    async fn reopen(&self, _: &str, _: &Resume) -> Result<Option<Body>, fetch::Error> {
        unreachable!("no document names files")
    }
}

/// PID 1 waits longer than that, and would not know why.
#[tokio::test(start_paused = true)]
async fn slow_documents_end_the_attempt_before_its_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let (mut announcements, pipe) = Announcements::open().unwrap();
    let attempt = Attempt {
        fetch: &Slow,
        clock: &FakeClock::new(),
        machine: &Machine {
            dir: directory.path(),
            meminfo: Path::new(crate::meminfo::MEMINFO),
            processors: 1,
            tries: TRIES,
            limit: artifact::FILE_LIMIT,
            alive: &|_| {},
        },
        watch: &Watch::into(pipe),
        wishes: &Wishes::of_nobody(),
        source: Source::Server { action: "epoxy.stage2", add_kargs: AddKargs::No },
        report: "epoxy.report",
        evidence: &Evidence::of_this_machine(),
        flash_reports: directory.path(),
        keys_below: None,
        output: Output::Inherited,
        mode: Mode::DryRun,
    };
    let begun = tokio::time::Instant::now();
    let ended = attempt.run(&mut Kargs::parse("epoxy.stage2=u")).await;
    let announced = announcements.read().pop();
    let Some(Ok(Word::Step(announced))) = announced else { panic!("{announced:?}") };
    assert!(begun.elapsed() < announced.limit, "{announced:?}");
    let error = ended.result.unwrap_err();
    let expected =
        "cannot load all boot documents within 30 min, beginning with that of epoxy.stage2";
    assert_eq!(error.to_string(), expected);
    assert!(error.is_transient());
}
