//! The programs of a flavour, each with everything that it needs, out of Debian's packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::dynamic::Libraries;
use super::{Error, read};
use crate::flavour::Ingredients;
use crate::sizes::Part;
use crate::tree::{Node, Tree};

const LIBRARY_DIRECTORY: &str = "/lib/";

/// Adds a flavour's files, which lie below `root`, and tells what came with it. Its libraries may take
/// the place of those `of_host`.
pub(super) fn add(
    tree: &mut Tree,
    ingredients: &Ingredients,
    root: &Path,
    of_host: &BTreeSet<String>,
) -> Result<Part, Error> {
    let before = tree.clone();
    let mut libraries = Libraries::of_packages(root, of_host);
    for program in ingredients.programs {
        libraries.add(tree, &inside(root, program), program)?;
        add_links(tree, root, program)?;
    }
    for file in ingredients.files {
        add_file(tree, &mut libraries, file, &inside(root, file))?;
    }
    for (path, text) in ingredients.texts {
        tree.file(path, 0o644, *text)?;
    }
    let new = tree.iter().filter(|(path, _)| before.get(path).is_none());
    let paths: BTreeSet<String> = new.map(|(path, _)| path.to_owned()).collect();
    Ok(Part { name: format!("flavour {}", ingredients.name), paths })
}

fn add_file(
    tree: &mut Tree,
    libraries: &mut Libraries,
    target: &str,
    source: &Path,
) -> Result<(), Error> {
    if target.starts_with(LIBRARY_DIRECTORY) {
        return libraries.add_shared(tree, target, source);
    }
    Ok(tree.file(target, 0o644, read(source)?)?)
}

/// The other names of a program: `/sbin/lvcreate` is a link to `lvm`.
fn add_links(tree: &mut Tree, root: &Path, program: &str) -> Result<(), Error> {
    let Some((directory, name)) = program.rsplit_once('/') else { return Ok(()) };
    let path = inside(root, directory);
    let cannot = |source| Error::Read { path: path.clone(), source };
    for entry in fs::read_dir(&path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(name)) {
            let link = format!("{directory}/{}", entry.file_name().to_string_lossy());
            tree.add(&link, Node::Symlink { target: name.to_owned() })?;
        }
    }
    Ok(())
}

fn inside(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}
