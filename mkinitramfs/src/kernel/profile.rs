//! What a kernel is made of besides its source: fragments of its configuration, and patches.

use std::path::{Path, PathBuf};

use super::config::{self, Requests};
use super::patch::{self, Patch};

/// Why a profile cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The profile, or a fragment.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A patch.
    #[error(transparent)]
    Patch(#[from] patch::Error),
    /// A line names neither.
    #[error("expected a .config or a .patch file in {}, got {name:?}", path.display())]
    Unknown {
        /// The profile.
        path: PathBuf,
        /// The line.
        name: String,
    },
}

/// A profile with all that it names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// The options.
    pub requests: Requests,
    /// The patches, in their order.
    pub patches: Vec<Patch>,
}

impl Profile {
    /// Reads a profile, one file a line, and those files, which lie beside it.
    ///
    /// # Errors
    /// A file cannot be read or understood, or fragments contradict each other.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let directory = path.parent().unwrap_or(Path::new(""));
        let mut profile = Self::default();
        let text = config::read(path)?;
        let names = text.lines().map(str::trim);
        for name in names.filter(|name| !name.is_empty() && !name.starts_with('#')) {
            let file = directory.join(name);
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("config") => profile.requests.add_file(&file)?,
                Some("patch") => profile.patches.push(Patch::read(&file)?),
                _ => return Err(Error::Unknown { path: path.to_owned(), name: name.to_owned() }),
            }
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> Result<Profile, Error> {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        file("a.config", "CONFIG_A=y\n");
        file("b.patch", "--- a/b.c\n+++ b/b.c\n");
        Profile::read(&file("x.profile", text))
    }

    #[test]
    fn a_profile_names_fragments_and_patches() {
        let profile = profile("# why\na.config\n\n  b.patch \n").unwrap();
        assert_eq!(profile.requests.over(""), "CONFIG_A=y\n");
        let patch = Patch::parse("b.patch".to_owned(), "--- a/b.c\n+++ b/b.c\n".to_owned());
        assert_eq!(profile.patches, [patch.unwrap()]);
    }

    #[test]
    fn what_a_profile_cannot_name_is_refused() {
        let error = profile("a.config\nreadme.txt\n").unwrap_err().to_string();
        assert!(error.starts_with("expected a .config or a .patch file in "), "{error}");
        assert!(error.ends_with(", got \"readme.txt\""), "{error}");
        assert!(matches!(profile("c.config"), Err(Error::Config(_))));
        assert!(matches!(profile("c.patch"), Err(Error::Patch(_))));
    }

    #[test]
    fn what_the_tests_use_in_place_of_the_default_kernel_has_all_of_it() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-config");
        let [vm, netdevsim] = ["vm.profile", "netdevsim.profile"]
            .map(|name| Profile::read(&directory.join(name)).unwrap());
        netdevsim.requests.check(&vm.requests.over("")).unwrap_err();
        vm.requests.check(&netdevsim.requests.over("")).unwrap();
        assert_eq!(netdevsim.patches, vm.patches);
    }
}
