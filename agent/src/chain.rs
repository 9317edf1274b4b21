//! An error with its causes, on one line: `cannot mount proc on /proc: Device or resource busy`.
//!
//! Our errors show themselves without their source, so a line repeats nothing. Foreign errors often
//! show their source too; a cause that the line already ends with is left out.

use std::error::Error;
use std::fmt;

/// Shows an error followed by each of its causes.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = one_line(self.0);
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = one_line(error);
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        f.write_str(&line)
    }
}

/// The kernel log ends a record at a newline; a server may have put one into its words.
fn one_line(error: &dyn Error) -> String {
    error.to_string().replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot mount proc")]
        Mount { source: io::Error },
        #[error("expected \"a\nb\"")]
        TwoLines,
    }

    #[test]
    fn causes_follow_on_the_same_line() {
        let error = Outer::Mount { source: io::Error::other("busy") };
        assert_eq!(Chain(&error).to_string(), "cannot mount proc: busy");
    }

    #[test]
    fn a_newline_in_an_error_does_not_end_the_line() {
        assert_eq!(Chain(&Outer::TwoLines).to_string(), "expected \"a b\"");
    }

    #[test]
    fn a_cause_that_was_shown_already_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot send: {0}")]
        struct Foreign(#[source] io::Error);
        let error = Foreign(io::Error::other("broken"));
        assert_eq!(Chain(&error).to_string(), "cannot send: broken");
    }
}
