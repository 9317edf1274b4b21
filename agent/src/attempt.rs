//! One attempt at a boot: the document, its files, its commands, and the report of how it went.
//!
//! Nothing of the document is run before all of it is evaluated and every file is verified. The
//! files exist as long as the commands run. A command that enters the next kernel does not return,
//! so a hand-over reports nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use agent_types::cmdline::Kargs;
use agent_types::flash_report::FlashReport;
use agent_types::nextboot::{self, FileRequest, Plan, Requests};
use agent_types::params::Updates;
use agent_types::redact::redact_words;

use crate::artifact::{self, Artifact, Machine};
use crate::chain::Chain;
use crate::clock::Clock;
use crate::commands::{self, Argv, COMMAND_LIMIT, Output};
use crate::document_keys;
use crate::evidence::Evidence;
use crate::fetch::{Fetch, OverTls};
use crate::flash_reports::{self, FlashReports};
use crate::hold;
use crate::kexec::{self, DOWNLOADS_VARIABLE};
use crate::pid1::Pid1;
use crate::report::{self, Outcome, Report};
use crate::rescue;
use crate::resolve::{self, AddKargs, Resolved};
use crate::retry::{Backoff, Transient, Tries};
use crate::sys::Linux;
use crate::update;
use crate::verify::Verified;
use crate::watch::{MARGIN, Watch};
use crate::wishes::Wishes;

/// For all documents together: three that each take their whole time.
const DOCUMENTS_LIMIT: Duration = Duration::from_secs(30 * 60);
/// One request that takes its whole time.
const REPORT_LIMIT: Duration = Duration::from_secs(11 * 60);
/// For the report of an attempt that another one follows, with its own report.
const ONE_TRY: Backoff = Backoff { deadline: Duration::ZERO, ..LAST_REPORT };
/// A port behind spanning tree passes nothing for 30 s after a card has been reset.
const LAST_REPORT: Backoff = Backoff {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(16),
    deadline: Duration::from_secs(60),
};

/// Whether anything is done, or only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Files are fetched, commands are run, the outcome is reported.
    Run,
    /// Documents are fetched, which may change the server's state; the rest is only shown.
    DryRun,
}

/// What follows an attempt that fails for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followup {
    /// Another one, with a report of its own.
    Attempt,
    /// None: the time is over.
    Nothing,
}

impl Followup {
    /// What these tries leave time for.
    pub(crate) fn after<C: Clock>(tries: &Tries<'_, C>) -> Self {
        if tries.has_time_left() { Self::Attempt } else { Self::Nothing }
    }
}

/// Where the boot document comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// From the boot server, at the address in this parameter.
    Server { action: &'a str, add_kargs: AddKargs },
    /// From ourselves: ROMs for cards, an image for a disk.
    Update { updates: &'a Updates, hostname: &'a str },
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server { action, .. } => action,
            Self::Update { .. } => "the update",
        })
    }
}

/// What all attempts have in common.
pub(crate) struct Attempt<'a, F, C> {
    pub(crate) fetch: &'a F,
    pub(crate) clock: &'a C,
    pub(crate) machine: &'a Machine<'a>,
    pub(crate) watch: &'a Watch,
    pub(crate) wishes: &'a Wishes,
    pub(crate) source: Source<'a>,
    /// The parameter that holds the address for reports.
    pub(crate) report: &'a str,
    /// What the first report tells of earlier boots.
    pub(crate) evidence: &'a Evidence,
    /// The directory where flashers say how it went.
    pub(crate) flash_reports: &'a Path,
    /// Below which the ssh server finds keys that a document brings; none where it is not ours.
    pub(crate) keys_below: Option<&'a Path>,
    /// Where commands print.
    pub(crate) output: Output<'a>,
    pub(crate) mode: Mode,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    #[error(
        "cannot load all boot documents within {} min, beginning with that of {first}",
        DOCUMENTS_LIMIT.as_secs() / 60
    )]
    TooSlow { first: String },
    #[error("cannot follow the boot document")]
    Document(#[from] nextboot::Error),
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    #[error(transparent)]
    Update(#[from] update::Error),
    #[error(transparent)]
    Command(#[from] commands::Error),
    #[error("given up for a new attempt, as the operator wishes")]
    NewAttempt,
    /// A card or a disk that must not be written again before a person has looked at it.
    #[error("{}: {}", .0.card, .0.told())]
    NeedsOperator(Box<FlashReport>),
}

impl Transient for Error {
    /// Servers, documents and cables get mended; a command line does not change.
    fn is_transient(&self) -> bool {
        !matches!(self, Self::Resolve(resolve::Error::NoAction(_)) | Self::NeedsOperator(_))
    }
}

impl Error {
    /// Whether neither another attempt nor a restart may follow.
    pub(crate) fn needs_operator(&self) -> bool {
        matches!(self, Self::NeedsOperator(_))
    }
}

/// How an attempt went, and what is to be reported of it.
#[must_use]
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) result: Result<(), Error>,
    /// How far the document was understood.
    state: String,
}

impl Ended {
    /// Whether neither another attempt nor a restart may follow.
    pub(crate) fn needs_operator(&self) -> bool {
        self.result.as_ref().is_err_and(Error::needs_operator)
    }

    /// A server that is to have only this report to learn it from gets it more surely.
    fn report_tries(&self, followup: Followup) -> Backoff {
        match &self.result {
            Err(error) if error.is_transient() && followup == Followup::Attempt => ONE_TRY,
            _ => LAST_REPORT,
        }
    }

    fn outcome(&self) -> Outcome {
        match &self.result {
            Ok(()) => Outcome::Success,
            Err(error) => Outcome::Failure(Chain(error).to_string()),
        }
    }
}

impl<F: Fetch, C: Clock> Attempt<'_, F, C> {
    /// Makes the attempt; one that the operator ends is nobody's failure.
    pub(crate) async fn run(&self, kargs: &mut Kargs) -> Ended {
        self.watch.board.attempt();
        self.begin_without_a_kernel();
        let mut state = nextboot::debug_config_without_document(kargs);
        let result = self.follow_document(kargs, &mut state).await;
        self.watch.board.plan(&state);
        let is_given_up = result.as_ref().is_err_and(|error| !error.needs_operator());
        if is_given_up && self.wishes.is_new_attempt_wanted() {
            return Ended { result: Err(Error::NewAttempt), state };
        }
        let ended = Ended { result, state };
        let outcome = ended.outcome();
        log::info!("Result: {outcome}");
        if let Outcome::Failure(reason) = &outcome {
            self.watch.board.failed(reason);
        }
        ended
    }

    /// Reports how it went. The network may have been lost meanwhile, and must be there again.
    pub(crate) async fn report(&self, kargs: &Kargs, ended: &Ended, followup: Followup) {
        if !matches!(ended.result, Err(Error::NewAttempt)) {
            self.send_report(kargs, ended, followup).await;
        }
    }

    /// On another's machine, a loaded kernel is another's business.
    fn begin_without_a_kernel(&self) {
        if self.mode == Mode::Run && Pid1::find() == Pid1::Ours {
            kexec::forget_loaded(&mut Linux);
        }
    }

    /// `state` is what a report tells of the document, as far as we came.
    async fn follow_document(&self, kargs: &mut Kargs, state: &mut String) -> Result<(), Error> {
        if let Some(report) = FlashReports::left_for_an_operator(self.flash_reports) {
            return Err(Error::NeedsOperator(Box::new(report)));
        }
        self.watch.step("boot document", DOCUMENTS_LIMIT + MARGIN);
        let document = self.unless_retried(self.document(kargs)).await;
        *state = nextboot::debug_config_without_document(kargs);
        let Resolved { document, over_tls } = document?;
        *state = document.debug_config(kargs);
        let requests = document.requests(kargs)?;
        *state = requests.debug_config();
        match self.mode {
            Mode::Run => {
                self.watch.board.plan(state);
                let files = self.unless_retried(self.fetch_files(&requests, over_tls)).await?;
                let plan = requests.plan(&paths(&files))?;
                *state = plan.debug_config();
                self.watch.board.plan(state);
                let reports = FlashReports::begin(self.flash_reports);
                let ran = self.run_commands(&plan, &reports).await;
                state.push_str(&flash_reports::shown(&reports.read()));
                match flash_reports::for_an_operator(reports.read()) {
                    Some(report) => Err(Error::NeedsOperator(Box::new(report))),
                    None => ran,
                }
            }
            Mode::DryRun => {
                let plan = requests.clone().plan(&self.would_be_paths(&requests))?;
                *state = plan.debug_config();
                plan.commands.iter().for_each(|command| show(command));
                Ok(())
            }
        }
    }

    async fn document(&self, kargs: &mut Kargs) -> Result<Resolved, Error> {
        let loaded = tokio::time::timeout(DOCUMENTS_LIMIT, self.load_document(kargs)).await;
        match loaded {
            Ok(document) => document,
            Err(_) => Err(Error::TooSlow { first: self.source.to_string() }),
        }
    }

    async fn load_document(&self, kargs: &mut Kargs) -> Result<Resolved, Error> {
        match self.source {
            Source::Server { action, add_kargs } => {
                Ok(resolve::follow(self.fetch, kargs, action, add_kargs).await?)
            }
            Source::Update { updates, hostname } => {
                let document = update::document(self.fetch, updates, hostname).await?;
                Ok(Resolved { document, over_tls: None })
            }
        }
    }

    /// Keys come first: operators get in while the rest is still on its way.
    async fn fetch_files(
        &self,
        requests: &Requests,
        over_tls: Option<OverTls>,
    ) -> Result<Vec<(String, Verified)>, Error> {
        let (keys, others): (Vec<_>, Vec<_>) =
            requests.files.iter().partition(|file| document_keys::is_ours(file));
        let mut files = self.fetch_these(&keys).await?;
        if let Some(root) = self.keys_below {
            document_keys::take(root, over_tls, &files);
        }
        files.extend(self.fetch_these(&others).await?);
        Ok(files.into_iter().map(|(request, file)| (request.name.clone(), file)).collect())
    }

    async fn fetch_these<'r>(
        &self,
        requests: &[&'r FileRequest],
    ) -> Result<Vec<(&'r FileRequest, Verified)>, Error> {
        let artifacts: Vec<_> = requests.iter().map(|request| artifact(request)).collect();
        let files = artifact::fetch_all(self.fetch, self.clock, self.machine, &artifacts).await?;
        for file in &files {
            let path = file.path().display();
            log::debug!("{path}: {} bytes, sha256 {}", file.length_bytes(), file.sha256());
        }
        Ok(requests.iter().copied().zip(files).collect())
    }

    async fn run_commands(&self, plan: &Plan, reports: &FlashReports) -> Result<(), Error> {
        let downloads = (DOWNLOADS_VARIABLE.to_owned(), self.machine.dir.display().to_string());
        let own = [downloads, reports.variable()].into_iter().chain(self.wishes.variable());
        let env: Vec<_> = own.chain(plan.env.iter().cloned()).collect();
        for command in &plan.commands {
            let program = command.first().map_or("command", String::as_str);
            hold::obey(self.wishes, self.watch, program).await;
            if self.wishes.is_new_attempt_wanted() {
                return Err(Error::NewAttempt);
            }
            show(command);
            let time = self.time_for(program);
            commands::run(Argv(command), &env, self.output, time).await?;
        }
        Ok(())
    }

    /// Ends when the command has had its time; being held does not count.
    async fn time_for(&self, program: &str) -> Duration {
        loop {
            self.watch.step(program, COMMAND_LIMIT + MARGIN);
            tokio::time::sleep(COMMAND_LIMIT).await;
            if !self.wishes.is_held() {
                return COMMAND_LIMIT;
            }
            hold::obey(self.wishes, self.watch, "the end of a command").await;
        }
    }

    /// What the network takes long for ends when the operator wants a new attempt.
    async fn unless_retried<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error>
    where
        Error: From<E>,
    {
        tokio::select! {
            done = work => Ok(done?),
            () = self.wishes.until(Wishes::is_retry_wanted) => Err(Error::NewAttempt),
        }
    }

    /// The boot matters more than the report: one that does not arrive is a warning.
    async fn send_report(&self, kargs: &Kargs, ended: &Ended, followup: Followup) {
        let (url, outcome) = (kargs.get(self.report), ended.outcome());
        if self.mode == Mode::DryRun {
            log::info!("Report: {outcome} (not sent: this is a dry run)");
            return;
        }
        let introduction = rescue::introduction();
        let report = Report {
            outcome: &outcome,
            debug_config: &ended.state,
            evidence: self.evidence,
            introduction: &introduction,
        };
        let mut tries = Tries::new(self.clock, ended.report_tries(followup));
        loop {
            self.watch.step("report", REPORT_LIMIT + MARGIN);
            let sent = report::send(self.fetch, self.report, url, &report).await;
            let Err(error) = sent else { return };
            if let Err(error) = tries.pause_after("report", error).await {
                return log::warn!("{}", Chain(&error));
            }
        }
    }

    fn would_be_paths(&self, requests: &Requests) -> BTreeMap<String, String> {
        let path = |name: &str| shown_path(&self.machine.dir.join(format!("{name}-dryrun")));
        requests.files.iter().map(|file| (file.name.clone(), path(&file.name))).collect()
    }
}

fn artifact(request: &FileRequest) -> Artifact {
    Artifact { name: request.name.clone(), url: request.url.clone(), sha256: request.sha256 }
}

fn paths(files: &[(String, Verified)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, file)| (name.clone(), shown_path(file.path()))).collect()
}

fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

fn show(command: &[String]) {
    log::info!("Command: {}", Argv(&redact_words(command)));
}

#[cfg(test)]
mod tests;
