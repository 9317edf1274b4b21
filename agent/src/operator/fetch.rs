//! `stage2 fetch`: downloads one file with the boot role's own means, and verifies it.
//!
//! On return the file is complete and verified under its name; after an error there is none.

use std::io;
use std::path::{Path, PathBuf};

use super::arguments::Fetch;
use crate::artifact::{self, Artifact, FILE_LIMIT, Machine};
use crate::boot::processors;
use crate::clock::Monotonic;
use crate::fetch::{Https, Settings};
use crate::meminfo::MEMINFO;
use crate::packed;
use crate::policy::{POLICY, Policy};
use crate::tls::{self, PACKED_ROOTS};
use crate::verify::{self, Verified};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot tell a file name from {0:?}: name one with -o FILE")]
    Name(String),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Policy(#[from] packed::Error),
    #[error(transparent)]
    Artifact(Box<artifact::Error>),
    #[error(transparent)]
    Keep(#[from] verify::Error),
}

pub(super) fn fetch(request: &Fetch) -> Result<(), Error> {
    let target = target(request)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    for file in runtime.block_on(download(request, &target))? {
        file.keep_as(&target.directory.join(&target.name))?;
    }
    Ok(())
}

/// Beside its target, so that it only needs another name in the end.
async fn download(request: &Fetch, target: &Target) -> Result<Vec<Verified>, Error> {
    let policy = Policy::read(Path::new(POLICY))?;
    let roots = tls::roots_file(Path::new(PACKED_ROOTS), None);
    let fetch = Https::new(Settings::new(env!("CARGO_PKG_VERSION"), policy, roots));
    let machine = Machine {
        dir: &target.directory,
        meminfo: Path::new(MEMINFO),
        processors: processors(),
        tries: artifact::TRIES,
        limit: FILE_LIMIT,
        alive: &|_| {},
    };
    let Fetch { url, sha256, .. } = request;
    let artifact = Artifact { name: target.name.clone(), url: url.clone(), sha256: *sha256 };
    let files = artifact::fetch_all(&fetch, &Monotonic, &machine, &[artifact]).await;
    files.map_err(|error| Error::Artifact(Box::new(error)))
}

/// Where the file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    directory: PathBuf,
    name: String,
}

fn target(request: &Fetch) -> Result<Target, Error> {
    let path = request.output.as_deref().unwrap_or_else(|| last_part(&request.url));
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    let name = name.filter(|_| !path.ends_with('/')).ok_or_else(|| Error::Name(path.to_owned()))?;
    let directory = Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).to_owned();
    Ok(Target { directory, name: name.to_owned() })
}

/// `name` in `https://host/path/name?query`; nothing in `https://host`.
fn last_part(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let behind_scheme = path.split_once("://").map_or(path, |(_, behind)| behind);
    behind_scheme.rsplit_once('/').map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(url: &str, output: Option<&str>) -> Result<Target, String> {
        let output = output.map(str::to_owned);
        target(&Fetch { url: url.to_owned(), sha256: None, output }).map_err(|e| e.to_string())
    }

    #[test]
    fn the_file_goes_where_it_is_told_or_gets_the_urls_name() {
        let at = |directory: &str, name: &str| {
            Ok(Target { directory: directory.into(), name: name.to_owned() })
        };
        for (url, output, expected) in [
            ("https://h/a/b?c=d/e", None, at(".", "b")),
            ("https://h/a", Some("x"), at(".", "x")),
            ("https://h/a", Some("/tmp/x"), at("/tmp", "x")),
            ("https://h/a", Some("../x"), at("..", "x")),
        ] {
            assert_eq!(target_of(url, output), expected, "{url} {output:?}");
        }
    }

    #[test]
    fn without_a_name_there_is_a_remedy() {
        for (url, output, shown) in [
            ("https://h/", None, ""),
            ("https://h", None, ""),
            ("https://h/a", Some("/tmp/"), "/tmp/"),
        ] {
            let expected = format!("cannot tell a file name from {shown:?}: name one with -o FILE");
            assert_eq!(target_of(url, output), Err(expected));
        }
    }
}
