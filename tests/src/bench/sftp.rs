//! How fast files go in and out by SFTP on this host: our server against OpenSSH's, with the same
//! client and the same cipher. The ratio of each row must be at least 0.8.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::debian::{LIBRARIES, Programs};
use crate::command;
use crate::operator::{self, Access, Operator};

/// Long enough that a login does not count for much.
const FILE_BYTES: u32 = 512 << 20;

/// sshd wants a user of its own and a directory; neither is put on the host.
const START_SSHD: &str = "cp /etc/passwd passwd \
    && echo sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin >>passwd \
    && mount --bind passwd /etc/passwd && mount -t tmpfs tmpfs /run && mkdir /run/sshd \
    && exec \"$@\"";

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The rescue role.
    Ours,
    /// Debian's sshd and sftp-server.
    OpenSsh,
}

/// Which way the file goes, and how it is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// For people.
    pub name: &'static str,
    command: &'static str,
    cipher: &'static str,
}

/// What OpenSSH's client prefers, and what processors have instructions for.
const CHACHA20: &str = "chacha20-poly1305@openssh.com";
const AES: &str = "aes256-gcm@openssh.com";

/// All that is measured; none may be below 0.8 of the peer's.
pub const TRANSFERS: [Transfer; 4] = [
    Transfer { name: "sftp in, chacha20-poly1305", command: "put file there", cipher: CHACHA20 },
    Transfer { name: "sftp out, chacha20-poly1305", command: "get file there", cipher: CHACHA20 },
    Transfer { name: "sftp in, aes256-gcm", command: "put file there", cipher: AES },
    Transfer { name: "sftp out, aes256-gcm", command: "get file there", cipher: AES },
];

/// Two servers on the host that let the same operator in.
pub struct Sftp {
    ours: Server,
    openssh: Server,
    operator: Operator,
    directory: tempfile::TempDir,
}

impl Sftp {
    /// Starts them. Only root can: OpenSSH's server logs others in by PAM only.
    pub fn start(agent: &Path, programs: &Programs) -> anyhow::Result<Self> {
        let (operator, directory) = (Operator::new()?, tempfile::tempdir_in("/dev/shm")?);
        let keys = directory.path().join("root/.ssh");
        fs::create_dir_all(&keys)?;
        fs::copy(operator.public_key(), keys.join("authorized_keys"))?;
        fs::write(directory.path().join("file"), noise())?;
        let ours = Server::ours(agent, directory.path())?;
        let openssh = Server::openssh(programs, directory.path())?;
        Ok(Self { ours, openssh, operator, directory })
    }

    /// In MB/s, with the login.
    pub fn speed(&self, side: Side, transfer: Transfer) -> anyhow::Result<f64> {
        let server = match side {
            Side::Ours => &self.ours,
            Side::OpenSsh => &self.openssh,
        };
        let access = self.operator.trust((Ipv4Addr::LOCALHOST, server.port).into())?;
        let (file, there) = (self.path("file"), self.path("there"));
        let batch = self.path("batch");
        let command = transfer.command.replace("there", &there.display().to_string());
        fs::write(&batch, command.replace("file", &file.display().to_string()))?;
        let start = Instant::now();
        command::output(&mut sftp(&access, transfer.cipher, &batch))?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(fs::read(&there)? == fs::read(&file)?, "{}: another file", transfer.name);
        fs::remove_file(&there)?;
        Ok(f64::from(FILE_BYTES) / 1e6 / seconds)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn sftp(access: &Access, cipher: &str, batch: &Path) -> Command {
    let mut sftp = access.client("sftp");
    sftp.args(["-q", "-c", cipher, "-b"]).arg(batch).arg("root@127.0.0.1");
    sftp
}

/// Bytes that nobody could compress.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(FILE_BYTES as usize / 8).flatten().collect()
}

/// A server that ends when dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn ours(agent: &Path, root: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(agent);
        let port = free_port()?;
        command.args(["rescue", "--listen", &format!("127.0.0.1:{port}"), "--name", "bench"]);
        Self::start(command.arg("--root").arg(root), port)
    }

    fn openssh(programs: &Programs, directory: &Path) -> anyhow::Result<Self> {
        let (port, shown) = (free_port()?, directory.display());
        operator::make_key(&directory.join("host"))?;
        let sftp_server = programs.on_host("/usr/lib/openssh/sftp-server");
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {shown}/host\nPidFile none\nUsePAM no\n\
             AuthorizedKeysFile {shown}/root/.ssh/authorized_keys\nStrictModes no\n\
             PermitRootLogin prohibit-password\nSubsystem sftp {}\n",
            sftp_server.display()
        );
        fs::write(directory.join("config"), config)?;
        let libraries: Vec<_> =
            LIBRARIES.iter().map(|path| programs.on_host(path).display().to_string()).collect();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", START_SSHD, "sh", "env"]);
        command.arg(format!("LD_LIBRARY_PATH={}", libraries.join(":")));
        command.arg(programs.on_host("/usr/sbin/sshd")).args(["-D", "-e", "-f", "config"]);
        Self::start(command.current_dir(directory), port)
    }

    /// Returns when it listens.
    fn start(command: &mut Command, port: u16) -> anyhow::Result<Self> {
        let shown = format!("{command:?}");
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(process.stderr.take().context("no stderr")?).lines();
        let server = Self { process, port };
        let listens = |line: &std::io::Result<String>| {
            line.as_ref().is_ok_and(|line| line.contains("istening on "))
        };
        ensure!(lines.any(|line| listens(&line)), "{shown} does not listen");
        // Nobody reads the rest, but it must not hold the server up.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
