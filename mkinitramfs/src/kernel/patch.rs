//! Changes to the kernel's source that leave the source as it is.
//!
//! Kbuild looks for a `.c` file in the build directory first and in the source after that. So the
//! files that a patch changes are put, changed, into the build directory; the source may be a tree
//! that others build from, too. Headers are looked for in the source first: a patch of one would do
//! nothing, and is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use super::file::{FileError, cannot};
use super::make::program;

/// Why a patch is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written, or `patch` cannot be run.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing names what is to be changed.
    #[error("expected a unified diff with lines `+++ b/FILE` in {0}")]
    NotADiff(String),
    /// Only what Kbuild finds in the build directory can be changed.
    #[error("expected a patch of .c files below the kernel's source, got {file} in {name}")]
    Unpatchable {
        /// The patch.
        name: String,
        /// What it would change.
        file: String,
    },
    /// The source is another one than the patch was made for.
    #[error(
        "cannot apply {name} to {}: {message}; adapt the patch, or take its line out of the profile",
        source_tree.display()
    )]
    DoesNotApply {
        /// The patch.
        name: String,
        /// The kernel's source.
        source_tree: PathBuf,
        /// What `patch` said last.
        message: String,
    },
}

/// A unified diff, as `git diff` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    name: String,
    text: String,
    files: Vec<PathBuf>,
}

impl Patch {
    /// Reads a patch from a file.
    ///
    /// # Errors
    /// It cannot be read, or [`Self::parse`] refuses it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(name, fs::read_to_string(path).map_err(cannot("read", path))?)
    }

    /// Understands a patch, whose name is for messages.
    ///
    /// # Errors
    /// It is no unified diff, or changes something else than `.c` files.
    pub fn parse(name: String, text: String) -> Result<Self, Error> {
        let files: Vec<&str> = text.lines().filter_map(changed_file).collect();
        if files.is_empty() {
            return Err(Error::NotADiff(name));
        }
        if let Some(file) = files.iter().find(|file| !is_patchable(file)) {
            return Err(Error::Unpatchable { name, file: (*file).to_owned() });
        }
        let files = files.into_iter().map(PathBuf::from).collect();
        Ok(Self { name, text, files })
    }

    /// What it does, for the cache of kernels.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn apply(&self, tree: &Path, source_tree: &Path) -> Result<(), Error> {
        let output = self.run_patch(tree).map_err(cannot("run patch in", tree))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let message = said.lines().last().unwrap_or("patch says nothing").to_owned();
        let source_tree = source_tree.to_owned();
        Err(Error::DoesNotApply { name: self.name.clone(), source_tree, message })
    }

    /// Line numbers may differ from the diff's; the lines around a change may not.
    fn run_patch(&self, tree: &Path) -> std::io::Result<std::process::Output> {
        let mut patch = program("patch")
            .args(["--strip=1", "--batch", "--forward", "--fuzz=0", "--reject-file=-"])
            .arg("--directory")
            .arg(tree)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let written =
            patch.stdin.take().map_or(Ok(()), |mut it| it.write_all(self.text.as_bytes()));
        let output = patch.wait_with_output()?;
        // A patch that does not want the rest has said why.
        if output.status.success() { written.map(|()| output) } else { Ok(output) }
    }
}

/// Puts what the patches change of `source` into `build`. What is there already keeps its time, so that
/// make has nothing to do.
pub(super) fn lay_over(patches: &[Patch], source: &Path, build: &Path) -> Result<(), Error> {
    let files: BTreeSet<&PathBuf> = patches.iter().flat_map(|patch| &patch.files).collect();
    let changed = tempfile::tempdir_in(build).map_err(cannot("create a directory in", build))?;
    for file in &files {
        copy(&source.join(file), &changed.path().join(file))?;
    }
    patches.iter().try_for_each(|patch| patch.apply(changed.path(), source))?;
    for file in &files {
        let (from, to) = (changed.path().join(file), build.join(file));
        let is_there = fs::read(&to).ok() == Some(fs::read(&from).map_err(cannot("read", &from))?);
        if !is_there {
            copy(&from, &to)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let directory = to.parent().unwrap_or(to);
    fs::create_dir_all(directory).map_err(cannot("create", directory))?;
    let bytes = fs::read(from).map_err(cannot("read", from))?;
    Ok(fs::write(to, bytes).map_err(cannot("write", to))?)
}

/// The file in `+++ b/kernel/fork.c`, perhaps with a date behind it.
fn changed_file(line: &str) -> Option<&str> {
    let file = line.strip_prefix("+++ b/")?;
    Some(file.split('\t').next().unwrap_or(file))
}

fn is_patchable(file: &str) -> bool {
    let path = Path::new(file);
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    is_below && path.extension().is_some_and(|extension| extension == "c")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "one\ntwo\nthree\n";
    const DIFF: &str = "Why.\n\n--- a/kernel/fork.c\n+++ b/kernel/fork.c\t2026-01-01\n\
                        @@ -1,3 +1,3 @@\n one\n-two\n+zwei\n three\n";

    fn patch(text: &str) -> Result<Patch, Error> {
        Patch::parse("some.patch".to_owned(), text.to_owned())
    }

    /// A source and an empty build directory.
    fn trees(fork: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let [source, build] = ["source", "build"].map(|name| directory.path().join(name));
        fs::create_dir_all(source.join("kernel")).unwrap();
        fs::create_dir(&build).unwrap();
        fs::write(source.join("kernel/fork.c"), fork).unwrap();
        (directory, source, build)
    }

    #[test]
    fn what_a_patch_changes_lies_in_the_build_directory_and_the_source_stays() {
        let (_directory, source, build) = trees(SOURCE);
        lay_over(&[patch(DIFF).unwrap()], &source, &build).unwrap();
        let laid = build.join("kernel/fork.c");
        assert_eq!(fs::read_to_string(&laid).unwrap(), "one\nzwei\nthree\n");
        assert_eq!(fs::read_to_string(source.join("kernel/fork.c")).unwrap(), SOURCE);
        assert_eq!(fs::read_dir(&build).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn patches_build_on_each_other_and_again_on_a_source_that_has_changed() {
        let (_directory, source, build) = trees(SOURCE);
        let second = DIFF.replace("-two\n+zwei", "-zwei\n+deux");
        let patches = [patch(DIFF).unwrap(), patch(&second).unwrap()];
        for fork in [SOURCE, SOURCE, "zero\none\ntwo\nthree\n"] {
            fs::write(source.join("kernel/fork.c"), fork).unwrap();
            lay_over(&patches, &source, &build).unwrap();
            let laid = fs::read_to_string(build.join("kernel/fork.c")).unwrap();
            assert_eq!(laid, fork.replace("two", "deux"));
        }
    }

    #[test]
    fn a_file_that_is_laid_over_already_keeps_its_time() {
        let (_directory, source, build) = trees(SOURCE);
        let patches = [patch(DIFF).unwrap()];
        lay_over(&patches, &source, &build).unwrap();
        let laid = build.join("kernel/fork.c");
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        fs::File::options().write(true).open(&laid).unwrap().set_modified(long_ago).unwrap();
        lay_over(&patches, &source, &build).unwrap();
        assert_eq!(fs::metadata(&laid).unwrap().modified().unwrap(), long_ago);
    }

    #[test]
    fn a_patch_for_another_source_names_itself_and_leaves_nothing() {
        for fork in ["one\nTWO\nthree\n", "one\nzwei\nthree\n", "ONE\ntwo\nthree\n"] {
            let (_directory, source, build) = trees(fork);
            let error = lay_over(&[patch(DIFF).unwrap()], &source, &build).unwrap_err();
            let begin = format!("cannot apply some.patch to {}: ", source.display());
            assert!(error.to_string().starts_with(&begin), "{error}");
            assert_eq!(fs::read_dir(&build).unwrap().count(), 0);
        }
    }

    #[test]
    fn what_is_no_patch_of_c_files_is_refused() {
        for (file, expected) in [
            ("include/linux/kexec.h", Some("include/linux/kexec.h")),
            ("arch/x86/entry/entry_64.S", Some("arch/x86/entry/entry_64.S")),
            ("../other/fork.c", Some("../other/fork.c")),
            ("/etc/fork.c", Some("/etc/fork.c")),
            ("kernel/fork.c", None),
        ] {
            let result = patch(&format!("--- a/x\n+++ b/{file}\n"));
            let refused = result.err().map(|error| error.to_string());
            let expected = expected.map(|file| {
                format!(
                    "expected a patch of .c files below the kernel's source, got {file} in some.patch"
                )
            });
            assert_eq!(refused, expected);
        }
        assert!(matches!(patch("CONFIG_A=y\n"), Err(Error::NotADiff(_))));
    }
}
