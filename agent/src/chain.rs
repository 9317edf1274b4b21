//! Shows an error with its causes, once, at the top.

use std::error::Error;
use std::fmt;

/// An error and its causes on one line, separated by `: `.
#[derive(Debug)]
pub(crate) struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot load the kernel")]
    struct Load(#[source] io::Error);

    #[test]
    fn the_operator_reads_what_failed_and_then_why() {
        let error = Load(io::Error::other("no memory"));
        assert_eq!(Chain(&error).to_string(), "cannot load the kernel: no memory");
    }
}
