//! Tells the boot server how an attempt ended.
//!
//! A hand-off to the next kernel reports nothing: `success` would tell an ePoxy server that the host
//! is up, and it would stop offering updates before stage3 has run. Session ids, tokens and whatever
//! else looks secret are taken out of both fields.

use agent_types::redact::redact;

use crate::evidence::Evidence;
use crate::fetch::{self, Fetch, shown_text};
use crate::retry::Transient;

/// How an attempt ended, in the words that the server understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every command ended with status 0.
    Success,
    /// The attempt failed; the text says why.
    Failure(String),
}

/// Why a report did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line names no address for reports.
    #[error("cannot report: {0} is not on the kernel command line")]
    NoAddress(String),
    /// The server did not take it. 403: not this machine's address, or an old session; 404: unknown.
    #[error("cannot report")]
    Fetch(#[from] fetch::Error),
}

impl Transient for Error {
    fn is_transient(&self) -> bool {
        match self {
            Self::NoAddress(_) => false,
            Self::Fetch(error) => error.is_transient(),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Failure(reason) => write!(f, "error: {}", redact(reason)),
        }
    }
}

/// What a report tells.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// How the attempt ended.
    pub(crate) outcome: &'a Outcome,
    /// The state of the document.
    pub(crate) debug_config: &'a str,
    /// What is left of earlier boots.
    pub(crate) evidence: &'a Evidence,
    /// How operators know this machine when they log in; more fields.
    pub(crate) introduction: &'a [(&'static str, String)],
}

/// Posts the report to `url`, the value of the parameter `key`.
pub(crate) async fn send(
    fetch: &impl Fetch,
    key: &str,
    url: Option<&str>,
    report: &Report<'_>,
) -> Result<(), Error> {
    let url = url.ok_or_else(|| Error::NoAddress(key.to_owned()))?;
    let message = report.outcome.to_string();
    let more = [report.introduction, &report.evidence.fields()].concat();
    let own = [("message", message.as_str()), ("debug.config", report.debug_config)];
    let fields: Vec<_> =
        own.into_iter().chain(more.iter().map(|(name, text)| (*name, text.as_str()))).collect();
    fetch.post_form(url, &fields).await?;
    report.evidence.arrived();
    log::info!("reported to {}", shown_text(url));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_carries_no_session() {
        let reason = "https://boot/v1/boot/host/s3cr3t/stage2: status 500".to_owned();
        assert_eq!(
            Outcome::Failure(reason).to_string(),
            "error: https://boot/v1/boot/host/…/stage2: status 500"
        );
        assert_eq!(Outcome::Success.to_string(), "success");
    }
}
