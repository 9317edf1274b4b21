//! Dynamic programs, each with everything that it needs to run.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Error, read};
use crate::elf::closure::{Needed, SearchPath, closure};
use crate::spec::ImageSpec;
use crate::tree::{self, Node, Tree};

/// The flasher's name in the image.
const FLASHER: &str = "/sbin/flasher";

/// Where the libraries of programs come from, and which are in the image.
pub(super) struct Libraries {
    search: SearchPath,
    /// What an older copy may have brought.
    replaceable: BTreeSet<String>,
    brought: BTreeSet<String>,
}

impl Libraries {
    /// This host's.
    pub(super) fn of_host() -> Self {
        let search = SearchPath::of_host();
        Self { search, replaceable: BTreeSet::new(), brought: BTreeSet::new() }
    }

    /// Those of packages that are unpacked below `root`. A host that lags behind its lists of packages
    /// has older ones, for which these stand in: a library's name changes with its interface.
    pub(super) fn of_packages(root: &Path, of_host: &BTreeSet<String>) -> Self {
        let search = SearchPath::below(root);
        Self { search, replaceable: of_host.clone(), brought: BTreeSet::new() }
    }

    /// The paths of those that were not in the image before.
    pub(super) fn into_brought(self) -> BTreeSet<String> {
        self.brought
    }

    /// Adds a program as `target` with all that it needs, and returns its bytes.
    pub(super) fn add(
        &mut self,
        tree: &mut Tree,
        program: &Path,
        target: &str,
    ) -> Result<Vec<u8>, Error> {
        let bytes = read(program)?;
        tree.file(target, 0o755, bytes.clone())?;
        let cannot = |source| Error::Dependencies { program: program.to_owned(), source };
        for Needed { target, source } in closure(program, &self.search).map_err(cannot)? {
            self.add_shared(tree, &target, &source)?;
        }
        Ok(bytes)
    }

    /// A file that other programs may have brought already.
    pub(super) fn add_shared(
        &mut self,
        tree: &mut Tree,
        target: &str,
        source: &Path,
    ) -> Result<(), Error> {
        let node = Node::File { mode: 0o755, contents: read(source)? };
        match tree.get(target) {
            Some(present) if *present == node => return Ok(()),
            Some(_) if self.replaceable.remove(target) => tree.replace(target, node),
            Some(_) => return Err(tree::Error::Duplicate(target.to_owned()).into()),
            None => tree.add(target, node)?,
        }
        self.brought.insert(target.to_owned());
        Ok(())
    }
}

/// Adds the specification's programs, with this host's libraries. Returns the flasher's bytes, if it is
/// among them.
pub(super) fn add_all(
    tree: &mut Tree,
    spec: &ImageSpec,
    libraries: &mut Libraries,
) -> Result<Option<Vec<u8>>, Error> {
    for program in &spec.binary_deps {
        libraries.add(tree, program, &program.display().to_string())?;
    }
    spec.flasher.as_deref().map(|program| libraries.add(tree, program, FLASHER)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(spec: &ImageSpec) -> Result<(Tree, Option<Vec<u8>>), String> {
        let mut tree = Tree::default();
        let flasher = add_all(&mut tree, spec, &mut Libraries::of_host())
            .map_err(|error| error.to_string())?;
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
    fn a_packages_library_stands_in_for_an_older_one_of_the_host_and_for_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            path
        };
        let (old, new, other) = (file("old"), file("new"), file("other"));
        let mut tree = Tree::default();
        tree.file("/lib/own.so.1", 0o755, "of the specification").unwrap();
        let mut of_host = Libraries::of_host();
        of_host.add_shared(&mut tree, "/lib/udev.so.1", &old).unwrap();
        let mut packages = Libraries::of_packages(directory.path(), &of_host.into_brought());
        for _ in 0..2 {
            packages.add_shared(&mut tree, "/lib/udev.so.1", &new).unwrap();
        }
        let library = Node::File { mode: 0o755, contents: b"new".to_vec() };
        assert_eq!(tree.get("/lib/udev.so.1"), Some(&library));
        for taken in ["/lib/own.so.1", "/lib/udev.so.1"] {
            let error = packages.add_shared(&mut tree, taken, &other).unwrap_err().to_string();
            assert_eq!(error, format!("cannot put two things at {taken}"));
        }
    }

    #[test]
    fn a_program_that_cannot_run_is_named() {
        let script = "/usr/bin/ldd";
        let spec = ImageSpec { binary_deps: vec![script.into()], ..ImageSpec::default() };
        assert_eq!(packed(&spec).unwrap_err(), "cannot tell what /usr/bin/ldd needs");
    }
}
