//! Which ROM a fleet's cards shall carry.

use std::collections::BTreeSet;

use super::{PciId, RomVersion};
use crate::digest::Sha256Digest;

/// Which ROM a fleet's cards shall carry, as JSON: `{"roms": [{"cards": ["15b3:1007"], "url": …,
/// "sha256": …, "version": …, "minimum_version": …}]}`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RomManifest {
    roms: Vec<RomEntry>,
}

/// One ROM and the cards that it is for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RomEntry {
    /// The cards that it is for.
    pub cards: Vec<PciId>,
    /// Where it is fetched from; may hold the boot document's templates.
    pub url: String,
    /// Digest of the file.
    #[serde(deserialize_with = "digest")]
    pub sha256: Sha256Digest,
    /// Its version.
    pub version: RomVersion,
    /// Cards whose ROM is this or newer are left alone; absent: cards get exactly `version`.
    #[serde(default)]
    pub minimum_version: Option<RomVersion>,
    /// May it replace a newer ROM?
    #[serde(default)]
    pub allow_downgrade: bool,
}

/// Why a text is no [`RomManifest`].
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON that was expected.
    #[error("cannot read the ROM manifest")]
    Json(#[from] serde_json::Error),
    /// Two ROMs for one card.
    #[error("card {0} is in the ROM manifest twice")]
    Twice(PciId),
    /// A ROM that would not satisfy its own minimum, and so be written at every boot.
    #[error("the ROM manifest demands version {minimum} at least, and gives {version}")]
    BelowMinimum {
        /// What it demands.
        minimum: RomVersion,
        /// What it gives.
        version: RomVersion,
    },
}

impl RomManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// It is no manifest, names two ROMs for one card, or a ROM below its own minimum.
    pub fn parse(json: &str) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_str(json)?;
        manifest.roms.iter().try_for_each(RomEntry::check)?;
        let mut seen = BTreeSet::new();
        match manifest.roms.iter().flat_map(|rom| &rom.cards).find(|card| !seen.insert(**card)) {
            Some(card) => Err(ManifestError::Twice(*card)),
            None => Ok(manifest),
        }
    }

    /// The ROM for `card`.
    #[must_use]
    pub fn rom_for(&self, card: PciId) -> Option<&RomEntry> {
        self.roms.iter().find(|rom| rom.cards.contains(&card))
    }
}

impl RomEntry {
    fn check(&self) -> Result<(), ManifestError> {
        match &self.minimum_version {
            Some(minimum) if self.version < *minimum => Err(ManifestError::BelowMinimum {
                minimum: minimum.clone(),
                version: self.version.clone(),
            }),
            _ => Ok(()),
        }
    }
}

fn digest<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Sha256Digest, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(second_card: &str) -> String {
        let digest = "ab".repeat(32);
        format!(
            r#"{{"roms": [
                {{"cards": ["15b3:1003", "15b3:1007"], "url": "http://h/a.mrom",
                  "sha256": "{digest}", "version": "3.10.0", "minimum_version": "3.9.0"}},
                {{"cards": ["{second_card}"], "url": "http://h/b.rom",
                  "sha256": "{digest}", "version": "1.0"}}]}}"#
        )
    }

    #[test]
    fn a_card_gets_the_rom_that_names_it() {
        let manifest = RomManifest::parse(&manifest("8086:10d3")).unwrap();
        let url = |card: &str| manifest.rom_for(card.parse().unwrap()).map(|rom| rom.url.as_str());
        assert_eq!(url("15b3:1007"), Some("http://h/a.mrom"));
        assert_eq!(url("8086:10d3"), Some("http://h/b.rom"));
        assert_eq!(url("8086:10d4"), None);
    }

    #[test]
    fn a_card_with_two_roms_makes_the_manifest_invalid() {
        let error = RomManifest::parse(&manifest("15b3:1003")).unwrap_err();
        assert_eq!(error.to_string(), "card 15b3:1003 is in the ROM manifest twice");
    }

    #[test]
    fn a_rom_below_its_own_minimum_makes_the_manifest_invalid() {
        // As text, 3.9.0 is more than 3.10.0.
        let text = manifest("8086:10d3").replace("\"3.10.0\"", "\"3.8.9\"");
        let error = RomManifest::parse(&text).unwrap_err();
        let expected = "the ROM manifest demands version 3.9.0 at least, and gives 3.8.9";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_typing_error_in_a_key_is_an_error() {
        let text = manifest("8086:10d3").replace("minimum_version", "minimumversion");
        assert!(RomManifest::parse(&text).is_err());
    }
}
