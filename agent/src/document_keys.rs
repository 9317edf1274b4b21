//! Takes the keys that a boot document brings: files of it that have names of ours.
//!
//! On entry the files are [`Verified`]. On return the ssh server has the keys, and those that an
//! earlier document brought are gone if this one has none. What is not proved well enough is left
//! out with a warning, and the boot goes on: who names a key can log in, so the document and all
//! that led to it must have come over https, and each key must have the digest that it names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_types::nextboot::{AUTHORIZED_KEYS_FILE, FileRequest, SSH_HOST_KEY_FILE};

use crate::chain::Chain;
use crate::fetch::{OverTls, shown_text};
use crate::keyring::{self, Change, DOCUMENTS_HOST_KEY, LONGEST_BYTES, OF_THE_DOCUMENT};
use crate::rescue::authorized_keys;
use crate::rescue::host_key::{self, HostKey};
use crate::size::Size;
use crate::verify::{Trust, Verified};

/// A file of ours in a boot document.
struct Kind {
    /// The document's name for it.
    name: &'static str,
    /// Where it goes.
    path: &'static str,
    /// Makes sure that it is of use; the answer is for the log.
    check: fn(&FileRequest, &str) -> Result<String, Error>,
    /// What is said when it goes.
    gone: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: AUTHORIZED_KEYS_FILE,
        path: OF_THE_DOCUMENT,
        check: operators,
        gone: "the keys of an earlier boot document may not log in any more",
    },
    Kind {
        name: SSH_HOST_KEY_FILE,
        path: DOCUMENTS_HOST_KEY,
        check: host,
        gone: "the host key of an earlier boot document is not used any more",
    },
];

/// Why a key is left out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("expected a boot document that came over https all the way")]
    NotOverTls,
    #[error("expected a sha256 in the boot document, got none")]
    NoDigest,
    #[error("a private key comes over https only: {0}")]
    NotSecret(String),
    #[error("expected at most {}, got {}", Size(LONGEST_BYTES), Size(*.0))]
    TooLong(u64),
    #[error("expected public keys, got none")]
    NoKeys,
    #[error(transparent)]
    HostKey(#[from] host_key::Error),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot change {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Whether a file of a document is for us.
pub(crate) fn is_ours(file: &FileRequest) -> bool {
    KINDS.iter().any(|kind| kind.name == file.name)
}

/// Takes what there is for us among `files`, below `root`.
pub(crate) fn take(root: &Path, over_tls: Option<OverTls>, files: &[(&FileRequest, Verified)]) {
    for kind in &KINDS {
        let file = files.iter().find(|(request, _)| request.name == kind.name);
        match take_one(kind, &root.join(kind.path), over_tls, file) {
            Ok(Some(said)) => log::info!("ssh: {said}"),
            Ok(None) => {}
            Err(error) => log::warn!("ssh: {} is left out: {}", kind.name, Chain(&error)),
        }
    }
}

/// What has changed, if anything has.
fn take_one(
    kind: &Kind,
    path: &Path,
    over_tls: Option<OverTls>,
    file: Option<&(&FileRequest, Verified)>,
) -> Result<Option<String>, Error> {
    let write = |source| Error::Write { path: path.to_owned(), source };
    let Some((request, file)) = file else {
        // Not for anybody on the way to say.
        let gone = over_tls.map_or(Ok(Change::None), |_| keyring::remove(path)).map_err(write)?;
        return Ok((gone == Change::Changed).then(|| kind.gone.to_owned()));
    };
    let text = proved(over_tls, file)?;
    let said = (kind.check)(request, &text)?;
    let change = keyring::replace(path, text.as_bytes()).map_err(write)?;
    Ok((change == Change::Changed).then_some(said))
}

/// The contents, if document and file are proved.
fn proved(over_tls: Option<OverTls>, file: &Verified) -> Result<String, Error> {
    let OverTls { .. } = over_tls.ok_or(Error::NotOverTls)?;
    let Trust::Sha256(_) = file.trust() else { return Err(Error::NoDigest) };
    if file.length_bytes() > LONGEST_BYTES {
        return Err(Error::TooLong(file.length_bytes()));
    }
    let read = |source| Error::Read { path: file.path().to_owned(), source };
    let bytes = fs::read(file.path()).map_err(read)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn operators(_: &FileRequest, text: &str) -> Result<String, Error> {
    let (keys, errors) = authorized_keys::parse(text);
    errors.iter().for_each(|error| log::warn!("ssh: {AUTHORIZED_KEYS_FILE}: {}", Chain(error)));
    match keys.len() {
        0 => Err(Error::NoKeys),
        1 => Ok("1 key of the boot document may log in".to_owned()),
        keys => Ok(format!("{keys} keys of the boot document may log in")),
    }
}

/// A digest proves what it is, and hides nothing.
fn host(request: &FileRequest, text: &str) -> Result<String, Error> {
    if !request.url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")) {
        return Err(Error::NotSecret(shown_text(&request.url)));
    }
    let key = HostKey::of_a_document(text)?;
    Ok(format!("the boot document brings the host key {}", key.fingerprint()))
}

#[cfg(test)]
mod tests;
