//! Asks the flasher what it finds in this machine.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// The program, in an image that has it.
pub(crate) const FLASHER: &str = "/sbin/flasher";

/// It reads files of sysfs and sectors of disks, and waits until the kernel has found all disks.
const LIMIT: Duration = Duration::from_secs(60);

/// Why it does not tell.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An image without the flasher.
    #[error("cannot start {FLASHER}: is it in this image?")]
    Start(#[source] io::Error),
    /// It says why.
    #[error("{0}")]
    Refused(String),
    /// It says something else.
    #[error("{FLASHER} said {0:?}")]
    Said(String),
    /// It says nothing.
    #[error("{FLASHER} said nothing within {} s", LIMIT.as_secs())]
    Silent,
}

/// The answer to these arguments.
pub(crate) async fn ask<T: DeserializeOwned>(arguments: &[&str]) -> Result<T, Error> {
    let mut command = Command::new(FLASHER);
    command.args(arguments).arg("--json").stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.map_err(|_| Error::Silent)?;
    understood(&output.map_err(Error::Start)?.stdout)
}

fn understood<T: DeserializeOwned>(said: &[u8]) -> Result<T, Error> {
    if let Ok(answer) = serde_json::from_slice(said) {
        return Ok(answer);
    }
    let value: Option<Value> = serde_json::from_slice(said).ok();
    let message = value.as_ref().and_then(|value| value.get("message")?.as_str());
    Err(match message {
        Some(message) => Error::Refused(message.to_owned()),
        None => Error::Said(String::from_utf8_lossy(said).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_types::disk::Disks;

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let answer =
            |said: &str| understood::<Disks>(said.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(answer(r#"{"disks":[]}"#), Ok(Disks { disks: Vec::new() }));
        let refusal = r#"{"event":"error","message":"expected one disk"}"#;
        assert_eq!(answer(refusal), Err("expected one disk".to_owned()));
        assert_eq!(answer("x"), Err("/sbin/flasher said \"x\"".to_owned()));
    }
}
