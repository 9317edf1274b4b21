//! Fetches and verifies the files of a boot document, into memory that is known to suffice.
//!
//! On return every file is there, [`Verified`]; or none is, and the error is one line. A transfer
//! that stalls or breaks goes on where it stopped if the server can do that, with the digest of
//! what is there kept; otherwise it begins again.

use crate::clock::Clock;
use crate::fetch::{self, Body, Fetch, Resume, Validator, shown_text};
use crate::memory::{self, Room};
use crate::progress::{self, Progress, Tick};
use crate::retry::{Backoff, Transient, Tries};
use crate::size::Size;
use crate::verify::{self, Download, Flow, Trust, Verified, Writer};
use agent_types::digest::Sha256Digest;
use std::path::Path;
use std::time::Duration;

/// Pauses between the tries of one file; counted anew whenever the file has grown.
pub(crate) const TRIES: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
    deadline: Duration::from_secs(120),
};

/// One file, with all tries, as in the original client.
pub(crate) const FILE_LIMIT: Duration = Duration::from_secs(2 * 3600);

/// The longest silence of a fetch that is alive: redirects and connections may take 120 s.
const QUIET_LIMIT: Duration = Duration::from_secs(180);

/// A file of unknown length is checked against free memory each time it has grown by this.
const GROWTH_BYTES: u64 = 8 << 20;

/// A file to fetch, as the boot document names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// Its name in the document.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) url: String,
    /// What it must be.
    pub(crate) sha256: Option<Sha256Digest>,
}

/// What fetching needs to know about this machine.
pub(crate) struct Machine<'a> {
    /// Where files go: `TMPDIR`.
    pub(crate) dir: &'a Path,
    /// The kernel's account of its memory, [`crate::meminfo::MEMINFO`].
    pub(crate) meminfo: &'a Path,
    /// How many processors there are.
    pub(crate) processors: usize,
    /// Pauses between tries, [`TRIES`].
    pub(crate) tries: Backoff,
    /// All the time that one file may take, [`FILE_LIMIT`].
    pub(crate) limit: Duration,
    /// Told that we are alive, and within which time it will be told again.
    pub(crate) alive: &'a dyn Fn(Duration),
}

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {name}")]
pub(crate) struct Error {
    /// The file's name in the document.
    pub(crate) name: String,
    /// Why not.
    #[source]
    pub(crate) cause: Cause,
}

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// Neither the server nor a digest would prove what it is.
    #[error("plain http needs a sha256 in the boot document: {url}")]
    NoProof {
        /// Where it is.
        url: String,
    },
    /// The network.
    #[error(transparent)]
    Fetch(fetch::Error),
    /// Too little memory or space.
    #[error("{url}")]
    Room {
        /// Where it is.
        url: String,
        /// What is too little.
        source: memory::Error,
    },
    /// Not what it should be, or not to be written.
    #[error("{url}")]
    Verify {
        /// Where it is.
        url: String,
        /// What is wrong.
        source: verify::Error,
    },
    /// All the time that a file may take is over.
    #[error("{url}: not finished within {limit:.0?}")]
    TooSlow {
        /// Where it is.
        url: String,
        /// How much time that is.
        limit: Duration,
    },
}

impl Transient for Cause {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_transient())
    }
}

/// Fetches all files, one after the other, or none.
pub(crate) async fn fetch_all(
    fetch: &impl Fetch,
    clock: &impl Clock,
    machine: &Machine<'_>,
    artifacts: &[Artifact],
) -> Result<Vec<Verified>, Error> {
    let mut files = Vec::new();
    for artifact in artifacts {
        let transfer = Transfer::new(fetch, clock, machine, artifact);
        let file = transfer.within_limit().await;
        files.push(file.map_err(|cause| Error { name: artifact.name.clone(), cause })?);
    }
    Ok(files)
}

/// One file on its way, over all tries.
struct Transfer<'a, F, C> {
    fetch: &'a F,
    clock: &'a C,
    machine: &'a Machine<'a>,
    artifact: &'a Artifact,
    url: String,
    progress: Progress,
    /// What has arrived, and what the server has told of that version of the file.
    download: Option<Download>,
    validator: Option<Validator>,
    total_bytes: Option<u64>,
    /// How much has arrived in the best try.
    furthest_bytes: u64,
}

impl<'a, F: Fetch, C: Clock> Transfer<'a, F, C> {
    fn new(fetch: &'a F, clock: &'a C, machine: &'a Machine<'a>, artifact: &'a Artifact) -> Self {
        Self {
            fetch,
            clock,
            machine,
            artifact,
            url: shown_text(&artifact.url),
            progress: Progress::new(&artifact.name, clock.now()),
            download: None,
            validator: None,
            total_bytes: None,
            furthest_bytes: 0,
        }
    }

    async fn within_limit(self) -> Result<Verified, Cause> {
        let limit = self.machine.limit;
        let too_slow = Cause::TooSlow { url: self.url.clone(), limit };
        tokio::time::timeout(limit, self.run()).await.unwrap_or(Err(too_slow))
    }

    async fn run(mut self) -> Result<Verified, Cause> {
        self.refuse_without_proof()?;
        let mut tries = Tries::new(self.clock, self.machine.tries);
        loop {
            (self.machine.alive)(QUIET_LIMIT);
            let before = self.furthest_bytes;
            match self.one_try().await {
                Ok(trust) => return self.finish(trust),
                Err(error) => {
                    if self.furthest_bytes > before {
                        tries.begin_anew();
                    }
                    (self.machine.alive)(QUIET_LIMIT + tries.next_pause());
                    tries.pause_after(&self.artifact.name, error).await?;
                }
            }
        }
    }

    /// Decided before anything is asked: no byte of such a file can be used.
    fn refuse_without_proof(&self) -> Result<(), Cause> {
        if self.artifact.sha256.is_some() {
            return Ok(());
        }
        let scheme = self.artifact.url.get(..6).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("https:") {
            return Err(Cause::NoProof { url: self.url.clone() });
        }
        log::warn!(
            "{} has no sha256 in the boot document: taken because https proves the server of {}",
            self.artifact.name,
            self.url
        );
        Ok(())
    }

    async fn one_try(&mut self) -> Result<Trust, Cause> {
        let mut body = self.open().await.map_err(Cause::Fetch)?;
        let trust = self.trust(&body)?;
        // Before the room is asked for: a restart gives back what the last try has used.
        let download = self.download_from(body.start_bytes)?;
        self.check_room(rest_bytes(&body))?;
        download.expect(body.total_bytes);
        self.tell_begin(&body);
        self.validator = body.validator.take();
        self.total_bytes = body.total_bytes;
        let mut writer = Writer::new(download, self.machine.processors);
        let received = self.receive(&mut body, &mut writer).await;
        let download = writer.stop().await.map_err(|error| self.verify_error(error))?;
        self.furthest_bytes = self.furthest_bytes.max(download.length_bytes());
        self.download = Some(download);
        received.map(|()| trust)
    }

    /// Asks for the rest, if there is a begin, and otherwise or failing that for all of it.
    async fn open(&self) -> Result<Body, fetch::Error> {
        let Artifact { url, .. } = self.artifact;
        if let Some(resume) = self.resume() {
            if let Some(body) = self.fetch.reopen(url, &resume).await? {
                return Ok(body);
            }
            // Another request may take all its time too.
            (self.machine.alive)(QUIET_LIMIT);
        }
        self.fetch.open(url).await
    }

    /// Only with a version's name can the rest be asked for. Two versions may have the same date: no
    /// digest would tell that they were joined.
    fn resume(&self) -> Option<Resume> {
        let from_bytes = self.download.as_ref()?.length_bytes();
        let validator = self.validator.clone()?;
        let is_proof = self.artifact.sha256.is_some() || matches!(validator, Validator::ETag(_));
        let total_bytes = self.total_bytes;
        (from_bytes > 0 && is_proof).then_some(Resume { from_bytes, validator, total_bytes })
    }

    fn trust(&self, body: &Body) -> Result<Trust, Cause> {
        match (self.artifact.sha256, body.over_tls) {
            (Some(digest), _) => Ok(Trust::Sha256(digest)),
            (None, Some(over_tls)) => Ok(Trust::Server(over_tls)),
            (None, None) => Err(Cause::NoProof { url: self.url.clone() }),
        }
    }

    fn check_room(&self, need_bytes: u64) -> Result<(), Cause> {
        let Machine { dir, meminfo, .. } = self.machine;
        Room::read(meminfo, dir)
            .and_then(|room| room.check(need_bytes, dir))
            .map_err(|source| Cause::Room { url: self.url.clone(), source })
    }

    fn tell_begin(&mut self, body: &Body) {
        let name = &self.artifact.name;
        match body.start_bytes {
            0 => log::info!("{}", progress::first_line(name, &body.url, body.total_bytes)),
            from => log::info!("{name}: going on after {}", Size(from)),
        }
        self.progress.answered(body.start_bytes, body.total_bytes, self.clock.now());
    }

    /// The file as far as it is there, if the server goes on where it ends.
    fn download_from(&mut self, start_bytes: u64) -> Result<Download, Cause> {
        let Machine { dir, .. } = self.machine;
        let download = match self.download.take() {
            Some(download) if download.length_bytes() == start_bytes => Ok(download),
            Some(mut download) => download.restart().map(|()| download),
            None => Download::create(dir, &self.artifact.name),
        };
        download.map_err(|error| self.verify_error(error))
    }

    async fn receive(&mut self, body: &mut Body, writer: &mut Writer) -> Result<(), Cause> {
        let mut unchecked_bytes = 0;
        while let Some(chunk) = body.chunk().await.map_err(Cause::Fetch)? {
            let length_bytes = chunk.len() as u64;
            if let Flow::Stopped = writer.write(&chunk).await {
                return Ok(());
            }
            if let Tick::Told = self.progress.add(length_bytes, self.clock.now()) {
                (self.machine.alive)(QUIET_LIMIT);
            }
            unchecked_bytes += length_bytes;
            if body.total_bytes.is_none() && unchecked_bytes >= GROWTH_BYTES {
                self.check_room(GROWTH_BYTES)?;
                unchecked_bytes = 0;
            }
        }
        Ok(())
    }

    fn finish(mut self, trust: Trust) -> Result<Verified, Cause> {
        let download = match self.download.take() {
            Some(download) => download,
            None => self.download_from(0)?,
        };
        let verified = download.finish(trust).map_err(|error| self.verify_error(error))?;
        let proof = match verified.trust() {
            Trust::Sha256(_) => "sha256 verified",
            Trust::Server(_) => "server verified, no sha256 given",
        };
        self.progress.finish(proof, self.clock.now());
        Ok(verified)
    }

    fn verify_error(&self, source: verify::Error) -> Cause {
        Cause::Verify { url: self.url.clone(), source }
    }
}

/// What is still to come, as far as the server has told; a body of unknown length is checked as it
/// grows.
fn rest_bytes(body: &Body) -> u64 {
    body.total_bytes.map_or(0, |total| total.saturating_sub(body.start_bytes))
}

#[cfg(test)]
mod tests;
