//! An operator's terminal: tmux with one pane of 80x24, attached to a machine's serial port.
//!
//! tmux is what operators sit at, and an independent judge of what a terminal shows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::command;
use crate::console::PATIENCE;

/// How often it is looked whether the screen has changed.
const LOOK: Duration = Duration::from_millis(100);

/// Connects the pane with the other end of QEMU's pseudo terminal, byte by byte.
const ATTACH: &str = "stty raw -echo; cat \"$1\" & exec cat >\"$1\"";

/// A terminal; it ends when dropped.
pub struct Tmux {
    socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl Tmux {
    /// Opens a terminal of this size at a serial port.
    pub fn attach(port: &Path, columns: u16, rows: u16) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let tmux = Self { socket: directory.path().join("tmux"), _directory: directory };
        let size = ["-x".to_owned(), columns.to_string(), "-y".to_owned(), rows.to_string()];
        let mut start = tmux.command("new-session");
        start.arg("-d").args(size).args(["sh", "-c", ATTACH, "sh"]).arg(port);
        command::output(&mut start)?;
        // The pane has all rows.
        command::output(tmux.command("set-option").args(["-g", "status", "off"]))?;
        Ok(tmux)
    }

    /// Presses keys, by tmux's names or as text.
    pub fn press(&self, keys: &[&str]) -> anyhow::Result<()> {
        command::output(self.command("send-keys").args(keys)).map(drop)
    }

    /// The rows that are shown now, without the blanks at their ends and without empty ones at the
    /// end.
    pub fn screen(&self) -> anyhow::Result<Vec<String>> {
        let text = command::output(self.command("capture-pane").arg("-p"))?;
        Ok(text.trim_end().lines().map(str::to_owned).collect())
    }

    /// The rows, as soon as what is shown is what is waited for.
    pub fn expect(&self, is_it: impl Fn(&[String]) -> bool) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen()?;
            if is_it(&screen) {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("not on the screen within {PATIENCE:?}:\n{}", screen.join("\n"));
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn command(&self, what: &str) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.env("TERM", "screen").arg("-S").arg(&self.socket).args(["-f", "/dev/null", what]);
        tmux
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It ends by itself when the serial port does.
        let _ended = command::output(&mut self.command("kill-server"));
    }
}
