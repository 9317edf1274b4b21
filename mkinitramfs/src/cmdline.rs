//! Checks the default command line with the agent's own parser, so that a typing error fails the
//! build and not the boot.

/// Why a command line cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel would read something else than what is written.
    #[error("expected one line of printable ASCII as the command line, got {0:?}")]
    Character(char),
}

/// Checks a command line.
///
/// # Errors
/// It is not one line, or the agent would warn about it.
pub fn check(cmdline: &str) -> Result<(), Error> {
    match cmdline.chars().find(|c| !(c.is_ascii_graphic() || *c == ' ')) {
        Some(character) => Err(Error::Character(character)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_of_printable_ascii_is_taken() {
        for (cmdline, expected) in [
            ("", Ok(())),
            ("console=ttyS0,115200n8 epoxy.ip=\"a b\"", Ok(())),
            ("quiet\n", Err(Error::Character('\n'))),
            ("quiet\tx", Err(Error::Character('\t'))),
            ("name=caf\u{e9}", Err(Error::Character('\u{e9}'))),
        ] {
            assert_eq!(check(cmdline), expected, "{cmdline:?}");
        }
    }
}
