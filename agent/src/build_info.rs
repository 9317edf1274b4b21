//! What the image knows about itself: `/etc/stage2/build.json`, packed by the builder.

use std::path::Path;

use serde::Deserialize;

use crate::packed;
use crate::utc::Utc;

/// Where the image builder puts it.
pub(crate) const BUILD_INFO: &str = "/etc/stage2/build.json";

/// What the image knows about itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct BuildInfo {
    /// Version of the image, as operators read it.
    pub(crate) version: String,
    /// When it was built: no correct clock shows an earlier time.
    pub(crate) source_date_epoch: u64,
}

impl BuildInfo {
    /// Reads what the builder packed.
    pub(crate) fn read(path: &Path) -> Result<Self, packed::Error> {
        packed::read(path)
    }

    /// The earliest time that a correct clock can show.
    pub(crate) fn built(&self) -> Utc {
        Utc(self.source_date_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_time_of_the_build_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, r#"{"version": "1.2", "source_date_epoch": 1700000000}"#).unwrap();
        let info = BuildInfo::read(file.path()).unwrap();
        assert_eq!(info, BuildInfo { version: "1.2".into(), source_date_epoch: 1_700_000_000 });
    }
}
