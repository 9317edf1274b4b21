//! The files that say who may log in, and what they are told.

use std::fs;
use std::io;
use std::path::Path;

use crate::chain::Chain;
use crate::keyring::AUTHORIZED_KEYS;
use crate::rescue::access::Access;
use crate::rescue::authorized_keys;

const REVOKED_KEYS: &str = "root/.ssh/revoked_keys";
const MESSAGE_OF_THE_DAY: &str = "run/stage2/motd";

/// The keys as they are now. With a list of revoked keys that cannot be read, there are none.
pub(super) fn access(root: &Path) -> Access {
    let mut keys = Vec::new();
    for name in AUTHORIZED_KEYS {
        let path = root.join(name);
        let Some(text) = read(&path) else { continue };
        let (good, bad) = authorized_keys::parse(&text);
        keys.extend(good);
        for error in bad {
            log::warn!("ssh: {}: {}", path.display(), Chain(&error));
        }
    }
    let path = root.join(REVOKED_KEYS);
    match authorized_keys::parse_revoked(&read(&path).unwrap_or_default()) {
        Ok(revoked) => Access { keys, revoked },
        Err(error) => {
            log::error!("ssh: all keys are refused: {}: {}", path.display(), Chain(&error));
            Access::default()
        }
    }
}

fn read(path: &Path) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            log::warn!("ssh: cannot read {}: {error}", path.display());
            None
        }
    }
}

/// The message of the day, as a terminal shows it.
pub(super) fn message(root: &Path) -> Vec<u8> {
    let message = read(&root.join(MESSAGE_OF_THE_DAY)).unwrap_or_default();
    message.replace('\n', "\r\n").into_bytes()
}
