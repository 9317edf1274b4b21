//! What PID 1 sees when it looks around, and nobody tells it.

/// Whether there is a key with which somebody could log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// There is one.
    Some,
    /// There is none, or none yet.
    None,
}

/// Whether an operator wishes that nothing is started or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Yes.
    On,
    /// No.
    Off,
}

/// What PID 1 sees when it looks around, before each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Keys of operators.
    pub(crate) keys: Keys,
    /// The operators' wish.
    pub(crate) hold: Hold,
}
