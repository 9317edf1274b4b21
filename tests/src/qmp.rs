//! QEMU's control socket (QMP): keys, power, pictures of the screen.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// QEMU answers at once; this is for a busy host.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a VGA card in text mode has its memory, and how much.
const VGA_TEXT: u32 = 0xb8000;
const VGA_TEXT_BYTES: u32 = 32 << 10;

/// An open control connection.
pub struct Qmp {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Qmp {
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = connect(socket).context("cannot reach QEMU's control socket")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let answers = BufReader::new(stream.try_clone()?);
        let mut qmp = Self { stream, answers };
        qmp.read_line()?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes one command and returns what it answers.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> anyhow::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream, "{request}")?;
        loop {
            let mut answer = self.read_line()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            // Events come in between.
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    /// Presses keys together, by QEMU's names, such as `["ctrl", "alt", "delete"]`.
    pub fn press(&mut self, keys: &[&str]) -> anyhow::Result<()> {
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.execute("send-key", &json!({ "keys": keys })).map(drop)
    }

    /// Lets a paused machine run.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.execute("cont", &json!({})).map(drop)
    }

    /// Saves what the screen shows as a PPM picture.
    pub fn screendump(&mut self, file: &Path) -> anyhow::Result<()> {
        self.execute("screendump", &json!({ "filename": file })).map(drop)
    }

    /// What a VGA card shows in text mode, with what has just been scrolled off: the characters of
    /// its memory in one text, without line ends.
    pub fn vga_text(&mut self) -> anyhow::Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        let arguments = json!({ "val": VGA_TEXT, "size": VGA_TEXT_BYTES, "filename": file.path() });
        self.execute("pmemsave", &arguments)?;
        let cells = std::fs::read(file.path())?;
        // Every second byte is a colour.
        Ok(cells.iter().step_by(2).map(|character| char::from(*character)).collect())
    }

    /// Pulls or plugs the cable of a network card.
    pub fn set_link(&mut self, card: &str, up: bool) -> anyhow::Result<()> {
        self.execute("set_link", &json!({ "name": card, "up": up })).map(drop)
    }

    /// The port of this host that leads to the machine's ssh server.
    pub fn ssh_port(&mut self) -> anyhow::Result<u16> {
        let question = json!({ "command-line": "info usernet" });
        let answer = self.execute("human-monitor-command", &question)?;
        let table = answer.as_str().context("expected a table of connections")?;
        // TCP[HOST_FORWARD]  12  127.0.0.1 43210  192.168.0.2  22  0  0
        let forward = table.lines().find(|line| line.contains("HOST_FORWARD"));
        let port = forward.and_then(|line| line.split_whitespace().nth(3));
        port.and_then(|port| port.parse().ok())
            .with_context(|| format!("expected a forwarded port in:\n{table}"))
    }

    /// The pseudo terminal at the other end of a serial port that QEMU has made one for.
    pub fn terminal(&mut self, port: &str) -> anyhow::Result<PathBuf> {
        let answer = self.execute("query-chardev", &json!({}))?;
        let ports = answer.as_array().context("expected a list of ports")?;
        let name = ports.iter().find(|known| known["label"] == port).map(|port| &port["filename"]);
        let path = name.and_then(|name| name.as_str()?.strip_prefix("pty:"));
        path.map(PathBuf::from).with_context(|| format!("expected {port} in {answer}"))
    }

    fn read_line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("QEMU's control socket is silent")? == 0 {
            bail!("QEMU has closed its control socket");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

/// QEMU makes its sockets soon after it has started.
pub(crate) fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(socket) {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
            connected => return connected,
        }
    }
}
