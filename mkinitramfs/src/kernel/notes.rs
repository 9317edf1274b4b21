//! What Kbuild notes beside each object, in `.X.o.cmd`: the files that it was made of.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::file::{FileError, cannot, files_below};

/// The notes of a whole build.
pub(super) struct Notes(Vec<String>);

impl Notes {
    /// Reads what a build has left in its directory.
    pub(super) fn read(build: &Path) -> Result<Self, FileError> {
        files_below(build)?
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "cmd"))
            .map(|path| fs::read_to_string(path).map_err(cannot("read", path)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether an object was compiled of this file of the build directory.
    pub(super) fn say_compiled(&self, file: &Path) -> bool {
        let object = file.with_extension("o");
        let compiled = format!("source_{} := {}\n", object.display(), file.display());
        self.0.iter().any(|note| note.contains(&compiled))
    }

    /// Whether anything was made of this file, perhaps by a way round such as
    /// `compressed/../string.c`.
    pub(super) fn name(&self, file: &Path) -> bool {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.0
            .iter()
            .flat_map(|note| note.split([' ', '\n', ')']))
            .filter(|word| word.ends_with(&*name))
            .any(|word| straightened(Path::new(word)) == file)
    }
}

fn straightened(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut straight, part| {
        if part == Component::ParentDir {
            straight.pop();
        } else {
            straight.push(part);
        }
        straight
    })
}
