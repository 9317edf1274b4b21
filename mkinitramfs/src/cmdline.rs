//! Checks the default command line with the agent's own parser, so that a typing error fails the
//! build and not the boot.

use agent_types::cmdline::Cmdline;
use agent_types::net::NetworkConfig;
use agent_types::params::{BootParams, PARAMETERS, USBISO_SHA256, USBISO_TARGET};

/// What all of our own parameters begin with.
const OWN_PREFIX: &str = "epoxy.";

/// The kernel's command line has 2047 bytes for this, a blank, and what the loader passes.
pub const LONGEST_BYTES: usize = 1024;

/// Why a command line cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel would read something else than what is written.
    #[error("expected one line of printable ASCII as the command line, got {0:?}")]
    Character(char),
    /// The loader's part would be cut off.
    #[error(
        "expected a default command line of at most {LONGEST_BYTES} bytes, so that the loader's has \
         room, got {0}"
    )]
    TooLong(usize),
    /// The agent would boot with a warning.
    #[error("cannot pack this command line: {0}")]
    Warning(String),
}

/// Checks a command line; returns what the operator may want to look at again.
///
/// # Errors
/// It is not one line, or the agent would warn about it.
pub fn check(cmdline: &str) -> Result<Vec<String>, Error> {
    if let Some(character) = cmdline.chars().find(|c| !(c.is_ascii_graphic() || *c == ' ')) {
        return Err(Error::Character(character));
    }
    check_length(cmdline)?;
    check_disk(&BootParams::parse(cmdline))?;
    let cmdline = Cmdline::parse(cmdline);
    if let Some(contradiction) = cmdline.contradictions().first() {
        return Err(Error::Warning(contradiction.to_string()));
    }
    if let Some(warning) = NetworkConfig::from_cmdline(&cmdline).warnings.first() {
        return Err(Error::Warning(warning.to_string()));
    }
    Ok(unknown(&cmdline))
}

pub(crate) fn check_length(cmdline: &str) -> Result<(), Error> {
    if cmdline.len() > LONGEST_BYTES { Err(Error::TooLong(cmdline.len())) } else { Ok(()) }
}

/// The agent would refuse to write the disk.
fn check_disk(params: &BootParams) -> Result<(), Error> {
    let Some(disk) = &params.updates.disk else { return Ok(()) };
    let wrong = |name: &str, error: String| Error::Warning(format!("{name}: {error}"));
    disk.digest().map_err(|error| wrong(USBISO_SHA256, error.to_string()))?;
    disk.fingerprint().map_err(|error| wrong(USBISO_TARGET, error.to_string()))?;
    Ok(())
}

/// Boot documents may use any parameter, so one that the agent does not know is no error.
fn unknown(cmdline: &Cmdline<'_>) -> Vec<String> {
    cmdline
        .iter()
        .map(|parameter| parameter.key)
        .filter(|key| key.starts_with(OWN_PREFIX))
        .filter(|key| PARAMETERS.iter().all(|known| known.name != *key))
        .map(|key| format!("note: {key} means nothing to the agent; boot documents may use it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_of_printable_ascii_is_taken() {
        for (cmdline, expected) in [
            ("", Ok(vec![])),
            ("console=tty0 console=ttyS0,115200n8 dyndbg=\"a b\"", Ok(vec![])),
            ("quiet\n", Err(Error::Character('\n'))),
            ("quiet\tx", Err(Error::Character('\t'))),
            ("name=caf\u{e9}", Err(Error::Character('\u{e9}'))),
            (&"x".repeat(LONGEST_BYTES), Ok(vec![])),
            (&"x".repeat(LONGEST_BYTES + 1), Err(Error::TooLong(LONGEST_BYTES + 1))),
        ] {
            assert_eq!(check(cmdline), expected, "{cmdline:?}");
        }
    }

    #[test]
    fn what_the_agent_would_warn_about_is_refused() {
        for (cmdline, expected) in [
            ("epoxy.ipv4=192.0.2.300/24,192.0.2.1", "epoxy.ipv4: "),
            ("epoxy.hostname=a epoxy.hostname=b", "epoxy.hostname is given with different values"),
        ] {
            let error = check(cmdline).unwrap_err().to_string();
            assert!(error.starts_with("cannot pack this command line: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_parameter_that_only_documents_can_use_is_noted() {
        let notes = check("epoxy.ipv5=x epoxy.ipv4=192.0.2.2/24,192.0.2.1").unwrap();
        assert_eq!(
            notes,
            ["note: epoxy.ipv5 means nothing to the agent; boot documents may use it"]
        );
    }
}
