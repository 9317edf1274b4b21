//! On the host: fetch and verify a large file over HTTPS, with our `epoxy_client` and with
//! `curl | sha256sum`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::nginx::Nginx;
use super::resident::in_kib;
use crate::{command, document};

/// What is fetched.
const FILE_BYTES: u64 = 1 << 30;

/// Everything is in memory: no disk is measured.
const MEMORY: &str = "/dev/shm";

/// The file, its server, and what our client is to do with it.
pub struct Download {
    directory: tempfile::TempDir,
    nginx: Nginx,
    sha256: String,
    client: PathBuf,
}

/// One fetch by our client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fetched {
    /// How long it took.
    pub seconds: f64,
    /// The most that the client has had in memory, in KiB; the file is not in it.
    pub peak_kib: u32,
}

impl Download {
    /// Makes a file and starts a server for it.
    pub fn prepare(agent: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("stage2-bench-")
            .tempdir_in(MEMORY)
            .with_context(|| format!("cannot make a directory in {MEMORY}"))?;
        let files = directory.path().join("files");
        fs::create_dir(&files)?;
        let file = files.join("payload");
        io::copy(&mut File::open("/dev/urandom")?.take(FILE_BYTES), &mut File::create(&file)?)
            .with_context(|| format!("cannot write 1 GiB to {}", file.display()))?;
        let sha256 = document::sha256_of_file(&file)?;
        let nginx = Nginx::serve(&files, directory.path())?;
        fs::create_dir(directory.path().join("downloads"))?;
        let download = Self { directory, nginx, sha256, client: fs::canonicalize(agent)? };
        download.write_document()?;
        Ok(download)
    }

    /// Our client runs a document with this file, as far as its command.
    pub fn ours(&self) -> anyhow::Result<Fetched> {
        let mut client = Command::new(&self.client);
        client
            .arg0("epoxy_client")
            .args(["-retry=false", "-action", "epoxy.stage3", "-cmdline"])
            .arg(self.directory.path().join("cmdline"))
            .env("TMPDIR", self.directory.path().join("downloads"))
            .env("SSL_CERT_FILE", self.nginx.certificate());
        let started = Instant::now();
        let said = command::output(&mut client)?;
        let seconds = started.elapsed().as_secs_f64();
        let peak_kib = in_kib(&said).with_context(|| format!("expected VmHWM, got {said:?}"))?;
        Ok(Fetched { seconds, peak_kib })
    }

    /// `curl | sha256sum`, in seconds.
    pub fn peer(&self) -> anyhow::Result<f64> {
        let started = Instant::now();
        let mut curl = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--cacert"])
            .arg(self.nginx.certificate())
            .arg(self.nginx.url("payload"))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run curl")?;
        let body = curl.stdout.take().context("curl has no standard output")?;
        let sum = Command::new("sha256sum").stdin(body).output().context("cannot run sha256sum")?;
        let status = curl.wait()?;
        let seconds = started.elapsed().as_secs_f64();
        if !status.success() || !sum.stdout.starts_with(self.sha256.as_bytes()) {
            bail!("curl: {status}; sha256sum: {}", String::from_utf8_lossy(&sum.stdout));
        }
        Ok(seconds)
    }

    fn write_document(&self) -> anyhow::Result<()> {
        let document = json!({
            "v1": {
                "files": {
                    "payload": { "url": self.nginx.url("payload"), "sha256": self.sha256 },
                },
                // The parent of the command is the client.
                "commands": [["/bin/sh", "-c", "grep VmHWM /proc/$PPID/status"]],
            }
        });
        let path = self.directory.path().join("document.json");
        fs::write(&path, document.to_string())?;
        let cmdline = format!("epoxy.stage3=file://{}", path.display());
        Ok(fs::write(self.directory.path().join("cmdline"), cmdline)?)
    }
}
