//! The role `epoxy_client`: one boot document, on any Linux host, as the original client runs it.
//!
//! The network is whatever the host has. Under stage2's own init a failure ends in a restart of the
//! machine, as the original's does; anywhere else the machine is left alone and the exit status is 1.

mod flags;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent_types::cmdline::Kargs;
use anyhow::Context as _;

use self::flags::{Flags, Request, USAGE};
use crate::artifact::{self, FILE_LIMIT, Machine};
use crate::attempt::{Attempt, Followup, Mode, Source};
use crate::boot::processors;
use crate::chain::Chain;
use crate::clock::Monotonic;
use crate::commands::Output;
use crate::evidence::Evidence;
use crate::fetch::{Https, Settings};
use crate::meminfo::MEMINFO;
use crate::pid1::Pid1;
use crate::policy::{POLICY, Policy};
use crate::resolve::AddKargs;
use crate::retry::{Backoff, Tries};
use crate::sys::{Linux, Signal, System as _, Target};
use crate::tls::{self, PACKED_ROOTS};
use crate::watch::Watch;
use crate::wishes::Wishes;

/// As the original does it.
const ATTEMPTS: Backoff = Backoff {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(60),
    deadline: Duration::from_secs(6 * 60 * 60),
};
const ONE_ATTEMPT: Backoff = Backoff { deadline: Duration::ZERO, ..ATTEMPTS };
const VERSION: &str = env!("CARGO_PKG_VERSION");
const WRONG_USAGE: u8 = 2;

/// Runs the role with the words behind its name.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match Request::parse(arguments.iter().cloned()) {
        Ok(Request::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Request::Version) => {
            println!("epoxy_client (stage2) {VERSION}");
            ExitCode::SUCCESS
        }
        Ok(Request::Run(flags)) => run_document(&flags),
        Err(error) => {
            eprintln!("epoxy_client: {error}");
            WRONG_USAGE.into()
        }
    }
}

fn run_document(flags: &Flags) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let end = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(attempts(flags)));
    match end {
        Ok(Ran::ToItsEnd) => ExitCode::SUCCESS,
        Ok(Ran::NeedsOperator) => ExitCode::FAILURE,
        Ok(Ran::Failed) => {
            restart_if_ours();
            ExitCode::FAILURE
        }
        Err(error) => {
            log::error!("{}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// How the last attempt went.
enum Ran {
    ToItsEnd,
    Failed,
    /// A card must not lose power before a person has looked at it.
    NeedsOperator,
}

async fn attempts(flags: &Flags) -> anyhow::Result<Ran> {
    let cmdline = std::fs::read(&flags.cmdline)
        .with_context(|| format!("cannot read {}", flags.cmdline.display()))?;
    let mut kargs = Kargs::parse(&String::from_utf8_lossy(&cmdline));
    let policy = Policy::read(Path::new(POLICY))?;
    let roots = tls::roots_file(Path::new(PACKED_ROOTS), env_path("SSL_CERT_FILE"));
    let fetch = Https::new(Settings::new(VERSION, policy, roots));
    let dir = env_path("TMPDIR").unwrap_or_else(|| "/tmp".into());
    let machine = Machine {
        dir: &dir,
        meminfo: Path::new(MEMINFO),
        processors: processors(),
        tries: artifact::TRIES,
        limit: FILE_LIMIT,
        alive: &|_| {},
    };
    let attempt = Attempt {
        fetch: &fetch,
        clock: &Monotonic,
        machine: &machine,
        watch: &Watch::from_env(),
        wishes: &Wishes::of_nobody(),
        source: Source::Server {
            action: &flags.action,
            add_kargs: if flags.add_kargs { AddKargs::Yes } else { AddKargs::No },
        },
        report: &flags.report,
        evidence: &Evidence::of_this_machine(),
        flash_reports: machine.dir,
        keys_below: None,
        output: Output::Inherited,
        mode: if flags.dry_run { Mode::DryRun } else { Mode::Run },
    };
    let mut tries = Tries::new(&Monotonic, if flags.retry { ATTEMPTS } else { ONE_ATTEMPT });
    loop {
        let ended = attempt.run(&mut kargs).await;
        attempt.report(&kargs, &ended, Followup::after(&tries)).await;
        let Err(error) = ended.result else { return Ok(Ran::ToItsEnd) };
        if let Err(error) = tries.pause_after("attempt", error).await {
            return Ok(if error.needs_operator() { Ran::NeedsOperator } else { Ran::Failed });
        }
    }
}

fn env_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The original restarts the machine; a machine that is not ours is its own init's business.
fn restart_if_ours() {
    if Pid1::find() != Pid1::Ours {
        return;
    }
    log::warn!("asking PID 1 to restart the machine, as the original client does");
    if let Err(error) = Linux.signal(Target::Process(1), Signal::Terminate) {
        log::error!("cannot ask PID 1 to restart the machine: {error}");
    }
}
