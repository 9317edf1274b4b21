//! One HTTPS server for both sides: nginx with a throw-away certificate. It ends when dropped.

use std::fs;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

const START_LIMIT: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);

/// A running server.
pub struct Nginx {
    process: Child,
    port: u16,
    certificate: PathBuf,
}

impl Nginx {
    /// Serves `files` over HTTPS on the loopback; `directory` is for what nginx needs itself.
    pub fn serve(files: &Path, directory: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let certificate = directory.join("certificate.pem");
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(&certificate, pair.cert.pem())?;
        fs::write(directory.join("key.pem"), pair.signing_key.serialize_pem())?;
        let configuration = directory.join("nginx.conf");
        fs::write(&configuration, configuration_text(port, files, directory))?;
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "/usr/sbin/nginx", "-e", "stderr", "-c"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run nginx by setpriv")?;
        let mut nginx = Self { process, port, certificate };
        nginx.wait_until_it_listens()?;
        Ok(nginx)
    }

    /// Where a file is.
    #[must_use]
    pub fn url(&self, file: &str) -> String {
        format!("https://localhost:{}/{file}", self.port)
    }

    /// The certificate that clients are to trust.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.process.try_wait()? {
                bail!("nginx: {status}");
            }
            if Instant::now() > deadline {
                bail!("nginx does not listen after {} s", START_LIMIT.as_secs());
            }
            std::thread::park_timeout(GLANCE);
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM reaches the worker too; SIGKILL would leave it behind.
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        if let Err(error) = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM) {
            eprintln!("bench: cannot end nginx: {error}");
        }
        if let Err(error) = self.process.wait() {
            eprintln!("bench: cannot wait for nginx: {error}");
        }
    }
}

fn configuration_text(port: u16, files: &Path, directory: &Path) -> String {
    let (files, directory) = (files.display(), directory.display());
    let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
    format!(
        "daemon off; {user} worker_processes 1; pid {directory}/pid;
events {{ }}
http {{
    access_log off; sendfile on; tcp_nopush on;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {directory}/certificate.pem; ssl_certificate_key {directory}/key.pem;
        root {files};
    }}
}}
"
    )
}
