//! Changes to the kernel's source that leave the source as it is.
//!
//! Where Kbuild makes `X.o` of `X.c` it looks for that in the build directory first and in the source
//! after that. So the files that a patch changes are put, changed, into the build directory; the
//! source may be a tree that others build from, too. Whatever else uses a source file looks in the
//! source first. So patches change `.c` files only, and when the kernel is built, `check` makes
//! sure that each was compiled as changed, and nowhere as it was.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Output, Stdio};

use super::file::{FileError, cannot, files_below, remove_tree};
use super::make::program;
use super::notes::Notes;

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
        "cannot apply {name} to {}: adapt the patch, or take its line out of the profile:\n{message}",
        source_tree.display()
    )]
    DoesNotApply {
        /// The patch.
        name: String,
        /// The kernel's source.
        source_tree: PathBuf,
        /// What `patch` said.
        message: String,
    },
    /// The change is not, or not everywhere, in the kernel.
    #[error(
        "cannot change {} with a patch: in this kernel it is {how}", file.display()
    )]
    NoEffect {
        /// What was to be changed.
        file: PathBuf,
        /// What the build did with it.
        how: &'static str,
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

    /// Changes `tree`, which then has the files of `source_tree` that this patch names.
    fn apply(&self, tree: &Path, source_tree: &Path) -> Result<(), Error> {
        let does_not_apply = |message: String| {
            let (name, source_tree) = (self.name.clone(), source_tree.to_owned());
            Error::DoesNotApply { name, source_tree, message }
        };
        for file in self.files.iter().filter(|file| !tree.join(file).exists()) {
            let from = source_tree.join(file);
            if !from.is_file() {
                return Err(does_not_apply(format!("there is no {}", file.display())));
            }
            copy(&from, &tree.join(file))?;
        }
        let output = self.run_patch(tree).map_err(cannot("run patch in", tree))?;
        if output.status.success() { Ok(()) } else { Err(does_not_apply(words(&output))) }
    }

    /// Line numbers may differ from the diff's; the lines around a change may not.
    fn run_patch(&self, tree: &Path) -> io::Result<Output> {
        let mut patch = program("patch")
            .args([
                "--strip=1",
                "--batch",
                "--forward",
                "--fuzz=0",
                "--reject-file=-",
                "--no-backup-if-mismatch",
            ])
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

/// All that a program said.
fn words(output: &Output) -> String {
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&said).trim_end().to_owned()
}

/// Puts what the patches change of `source` into `build`. What is there already keeps its time, so that
/// make has nothing to do.
pub(super) fn lay_over(patches: &[Patch], source: &Path, build: &Path) -> Result<(), Error> {
    let changed = build.join("patched");
    remove_tree(&changed)?;
    let laid = changed_files(patches, source, &changed).and_then(|files| {
        files.iter().try_for_each(|file| lay(&changed.join(file), &build.join(file)))
    });
    remove_tree(&changed)?;
    laid
}

/// Makes the changed files in `tree`, and names them.
fn changed_files(
    patches: &[Patch],
    source: &Path,
    tree: &Path,
) -> Result<BTreeSet<PathBuf>, Error> {
    fs::create_dir(tree).map_err(cannot("create", tree))?;
    let mut expected = BTreeSet::new();
    for patch in patches {
        patch.apply(tree, source)?;
        expected.extend(patch.files.iter().cloned());
        // A diff can do more than we understand: make, remove and rename files.
        let found = files_below(tree)?;
        let found = found.iter().filter_map(|file| file.strip_prefix(tree).ok());
        let found: BTreeSet<PathBuf> = found.map(Path::to_owned).collect();
        if let Some(other) = found.symmetric_difference(&expected).next() {
            let (name, file) = (patch.name.clone(), other.display().to_string());
            return Err(Error::Unpatchable { name, file });
        }
    }
    Ok(expected)
}

fn lay(from: &Path, to: &Path) -> Result<(), Error> {
    let is_there = fs::read(to).ok() == Some(fs::read(from).map_err(cannot("read", from))?);
    if is_there { Ok(()) } else { copy(from, to) }
}

/// Makes sure that a built kernel has what the patches change.
pub(super) fn check(patches: &[Patch], source: &Path, build: &Path) -> Result<(), Error> {
    let files: BTreeSet<&PathBuf> = patches.iter().flat_map(|patch| &patch.files).collect();
    if files.is_empty() {
        return Ok(());
    }
    let notes = Notes::read(build)?;
    for file in files {
        let no_effect = |how| Err(Error::NoEffect { file: file.clone(), how });
        if notes.name(&source.join(file)) {
            return no_effect("also, or only, used as it is in the source");
        }
        if !notes.say_compiled(file) {
            return no_effect("not compiled");
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
    fn what_patch_says_of_a_diff_that_cannot_be_applied_is_shown() {
        for (text, expected) in [
            (DIFF.replace("-two", "-zwei"), "Hunk #1 FAILED at 1."),
            (DIFF.replace(" three", "three"), "malformed patch at line"),
            (DIFF[..DIFF.find("@@").unwrap()].to_owned(), "Only garbage was found"),
            (DIFF.replace("fork", "spoon"), "there is no kernel/spoon.c"),
        ] {
            let (_directory, source, build) = trees(SOURCE);
            let error = lay_over(&[patch(&text).unwrap()], &source, &build).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_diff_that_does_more_than_change_c_files_is_refused() {
        let new_header = "--- /dev/null\n+++ new/kernel/fork.h\n@@ -0,0 +1,1 @@\n+int x;\n";
        let removal = "--- a/kernel/fork.c\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-one\n-zwei\n-three\n";
        for (more, file) in [(new_header, "kernel/fork.h"), (removal, "kernel/fork.c")] {
            let (_directory, source, build) = trees(SOURCE);
            let patch = patch(&format!("{DIFF}{more}")).unwrap();
            match lay_over(&[patch], &source, &build) {
                Err(Error::Unpatchable { file: refused, .. }) => assert_eq!(refused, file),
                other => panic!("expected {file} to be refused, got {other:?}"),
            }
        }
    }

    #[test]
    fn a_change_that_is_not_everywhere_in_the_kernel_is_an_error() {
        let own = "source_kernel/fork.o := kernel/fork.c\n";
        for (note, how) in [
            (own, None),
            ("", Some("not compiled")),
            ("source_kernel/fork.o := SOURCE/kernel/fork.c\n", Some("used as it is")),
            ("deps_x.o := \\\n  SOURCE/kernel/sched/../fork.c \\\n", Some("used as it is")),
            ("deps_x.o := \\\n  SOURCE/other/kernel/fork.c \\\n", Some("not compiled")),
        ] {
            let (_directory, source, build) = trees(SOURCE);
            fs::create_dir(build.join("kernel")).unwrap();
            let note = note.replace("SOURCE", &source.display().to_string());
            fs::write(build.join("kernel/.fork.o.cmd"), &note).unwrap();
            // What has no patch is nobody's business.
            fs::write(build.join(".exit.o.cmd"), "source_kernel/exit.o := x/exit.c\n").unwrap();
            let result = check(&[patch(DIFF).unwrap()], &source, &build);
            let error = result.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(how.unwrap_or_default()), "{note}: {error}");
            assert_eq!(error.is_empty(), how.is_none(), "{note}: {error}");
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
