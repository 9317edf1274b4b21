//! The files that say who may log in, and what they are told.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::chain::Chain;
use crate::keyring::{AUTHORIZED_KEYS, LONGEST_BYTES};
use crate::rescue::access::Access;
use crate::rescue::authorized_keys::{self, AuthorizedKey};
use crate::rescue::options::Strangers;

const REVOKED_KEYS: &str = "root/.ssh/revoked_keys";
const MESSAGE_OF_THE_DAY: &str = "run/stage2/motd";

/// The keys as they are now. With a list of revoked keys that cannot be read, there are none. What is
/// wrong with the files is told as often as strangers are.
pub(super) fn access(root: &Path, strangers: Strangers) -> Access {
    let say = |line: String| {
        if strangers == Strangers::Named {
            log::warn!("ssh: {line}");
        }
    };
    let path = root.join(REVOKED_KEYS);
    let revoked = match read(&path) {
        Ok(text) => {
            authorized_keys::parse_revoked(&text).map_err(|error| Chain(&error).to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match revoked {
        Ok(revoked) => Access { keys: authorized(root, &say), revoked },
        Err(error) => {
            say(format!("all keys are refused: {}: {error}", path.display()));
            Access::default()
        }
    }
}

fn authorized(root: &Path, say: &dyn Fn(String)) -> Vec<AuthorizedKey> {
    let mut keys = Vec::new();
    for path in AUTHORIZED_KEYS.map(|name| root.join(name)) {
        let (good, bad) = match read(&path) {
            Ok(text) => authorized_keys::parse(&text),
            Err(error) => {
                say(format!("cannot read {}: {error}", path.display()));
                continue;
            }
        };
        keys.extend(good);
        for error in bad {
            say(format!("{}: {}", path.display(), Chain(&error)));
        }
    }
    keys
}

/// The text of a file, nothing if there is none. Files come from everywhere: a name in another
/// character set must not lock operators out, and one that never ends must not fill the memory.
fn read(path: &Path) -> io::Result<String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    if file.take(LONGEST_BYTES + 1).read_to_end(&mut bytes)? as u64 > LONGEST_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The message of the day, as a terminal shows it.
pub(super) fn message(root: &Path) -> Vec<u8> {
    let message = read(&root.join(MESSAGE_OF_THE_DAY)).unwrap_or_default();
    message.replace('\n', "\r\n").into_bytes()
}
