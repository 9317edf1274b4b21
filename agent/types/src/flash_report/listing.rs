//! What the flasher finds in a machine.

use serde::{Deserialize, Serialize};

use crate::rom::PciId;

/// The part of `flasher list --json` that the agent reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The cards that `auto` chooses from.
    pub writable: Vec<WritableCard>,
}

/// A card that can be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritableCard {
    /// Its address, as `--card` takes it.
    pub card: String,
    /// Which card it is.
    pub pci_id: PciId,
}
