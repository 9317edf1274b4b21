//! Runs programs of the host and tells in full what went wrong with one.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Runs a command to its end and returns its standard output.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    let ran =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    if !ran.status.success() {
        bail!("{shown}: {}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}
