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

/// Whether a card or a disk lets the machine restart: half of a ROM on a chip is no ROM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flasher {
    /// Nothing is known that speaks against it.
    None,
    /// This process may be writing to one.
    Running(u32),
    /// One has ended, and a person must look at what it left.
    LeftForAnOperator,
}

/// What PID 1 sees when it looks around, before each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Keys of operators.
    pub(crate) keys: Keys,
    /// The operators' wish.
    pub(crate) hold: Hold,
    /// Cards and disks.
    pub(crate) flasher: Flasher,
}
