//! How the boot role ends, as PID 1 reads it from the exit code.

use std::process::ExitCode;

/// What the boot role tells PID 1 with its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootExit {
    /// The boot document ran to its end; nothing is left to do.
    Done,
    /// The time for attempts is over: restart the machine.
    GaveUp,
    /// The command line names no boot document: wait in rescue.
    NothingToDo,
    /// A card must not be erased again, nor the machine restarted, before a person has looked.
    NeedsOperator,
    /// What was to be done is done: restart the machine.
    Restart,
}

/// An exit code that [`BootExit`] does not have: the boot role died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected exit code 0 or 2 to 5, got {0}")]
pub struct UnknownExitCode(pub i32);

impl BootExit {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::GaveUp, Self::NothingToDo, Self::NeedsOperator, Self::Restart];

    /// The exit code; 1 is left to errors and 101 to panics, which mean that the role died.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::GaveUp => 2,
            Self::NothingToDo => 3,
            Self::NeedsOperator => 4,
            Self::Restart => 5,
        }
    }
}

impl From<BootExit> for ExitCode {
    fn from(exit: BootExit) -> Self {
        exit.code().into()
    }
}

impl TryFrom<i32> for BootExit {
    type Error = UnknownExitCode;

    fn try_from(code: i32) -> Result<Self, Self::Error> {
        Self::ALL
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
            .ok_or(UnknownExitCode(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_read_as_it_was_written() {
        for exit in BootExit::ALL {
            assert_eq!(BootExit::try_from(i32::from(exit.code())), Ok(exit));
        }
    }

    #[test]
    fn any_other_code_is_a_death() {
        for code in [-1, 1, 6, 101, 137] {
            assert_eq!(BootExit::try_from(code), Err(UnknownExitCode(code)));
        }
    }
}
