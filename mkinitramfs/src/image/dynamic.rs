//! Dynamic programs, each with everything that it needs to run.

use std::path::Path;

use super::{Error, read};
use crate::elf::closure::{Needed, SearchPath, closure};
use crate::spec::ImageSpec;
use crate::tree::{self, Node, Tree};

/// The flasher's name in the image.
const FLASHER: &str = "/sbin/flasher";

/// Adds the specification's programs. Returns the flasher's bytes, if it is among them.
pub(super) fn add_all(tree: &mut Tree, spec: &ImageSpec) -> Result<Option<Vec<u8>>, Error> {
    let search = SearchPath::of_host();
    for program in &spec.binary_deps {
        add(tree, program, &program.display().to_string(), &search)?;
    }
    spec.flasher.as_deref().map(|program| add(tree, program, FLASHER, &search)).transpose()
}

/// Adds a program as `target`, and returns its bytes.
pub(super) fn add(
    tree: &mut Tree,
    program: &Path,
    target: &str,
    search: &SearchPath,
) -> Result<Vec<u8>, Error> {
    let bytes = read(program)?;
    tree.file(target, 0o755, bytes.clone())?;
    let cannot = |source| Error::Dependencies { program: program.to_owned(), source };
    for Needed { target, source } in closure(program, search).map_err(cannot)? {
        add_shared(tree, &target, &source)?;
    }
    Ok(bytes)
}

/// A file that other programs may have brought already.
pub(super) fn add_shared(tree: &mut Tree, target: &str, source: &Path) -> Result<(), Error> {
    let node = Node::File { mode: 0o755, contents: read(source)? };
    match tree.get(target) {
        Some(present) if *present == node => Ok(()),
        Some(_) => Err(tree::Error::Duplicate(target.to_owned()).into()),
        None => Ok(tree.add(target, node)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(spec: &ImageSpec) -> Result<(Tree, Option<Vec<u8>>), String> {
        let mut tree = Tree::default();
        let flasher = add_all(&mut tree, spec).map_err(|error| error.to_string())?;
        Ok((tree, flasher))
    }

    #[test]
    fn programs_share_what_they_need() {
        let this_test = std::env::current_exe().unwrap();
        let spec = ImageSpec {
            binary_deps: vec!["/usr/sbin/flashrom".into(), "/usr/bin/env".into()],
            flasher: Some(this_test.clone()),
            ..ImageSpec::default()
        };
        let (tree, flasher) = packed(&spec).unwrap();
        assert_eq!(flasher, Some(std::fs::read(this_test).unwrap()));
        let paths: Vec<&str> = tree.iter().map(|(path, _)| path).collect();
        for path in ["/sbin/flasher", "/usr/bin/env", "/lib64/ld-linux-x86-64.so.2"] {
            assert!(paths.contains(&path), "{paths:?}");
        }
        for name in ["libpci.so.3", "libc.so.6"] {
            assert_eq!(paths.iter().filter(|path| path.ends_with(name)).count(), 1, "{paths:?}");
        }
    }

    #[test]
    fn a_program_that_cannot_run_is_named() {
        let script = "/usr/bin/ldd";
        let spec = ImageSpec { binary_deps: vec![script.into()], ..ImageSpec::default() };
        assert_eq!(packed(&spec).unwrap_err(), "cannot tell what /usr/bin/ldd needs");
    }
}
