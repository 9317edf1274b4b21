//! Which options the kernel has: fragments by purpose, merged onto `tinyconfig`.
//!
//! A [profile](super::profile) lists fragments. What they ask for is checked twice: two fragments may not contradict
//! each other, and every option asked for must be so in the configuration that comes out. Kconfig
//! drops an option silently when something it depends on is missing; here that is an error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A profile, a fragment or a configuration cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is neither an option nor a comment.
    #[error("expected `CONFIG_NAME=value` or a comment at {file}:{line}, got {text:?}")]
    Syntax {
        /// The fragment.
        file: String,
        /// Counted from one.
        line: usize,
        /// The line.
        text: String,
    },
    /// Two fragments ask for different values.
    #[error(
        "cannot have both {option}={first} of {first_fragment} and {option}={second} of {second_fragment}"
    )]
    Contradiction {
        /// The option.
        option: String,
        /// Its value in the fragment that comes first.
        first: String,
        /// That fragment.
        first_fragment: String,
        /// Its value in the other.
        second: String,
        /// The other fragment.
        second_fragment: String,
    },
    /// Kconfig did not do as asked.
    #[error("{} not as asked for:{}", plural(.0.len()), list(.0))]
    Dropped(Vec<Dropped>),
}

/// An option that came out otherwise than asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The option.
    pub option: String,
    /// Who asked for it.
    pub fragment: String,
    /// The value asked for; `n` is "is not set".
    pub wanted: String,
    /// The value it has.
    pub got: String,
}

/// One option as a fragment asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    value: String,
    fragment: String,
}

/// All that a profile asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<String, Request>);

impl Requests {
    /// Adds a fragment that is a file.
    ///
    /// # Errors
    /// As [`Requests::add`], or it cannot be read.
    pub fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.add(&name, &read(path)?)
    }

    /// Adds a fragment's options.
    ///
    /// # Errors
    /// A line is no option, or contradicts an earlier fragment.
    pub fn add(&mut self, fragment: &str, text: &str) -> Result<(), Error> {
        for (index, line) in text.lines().enumerate() {
            let syntax = || Error::Syntax {
                file: fragment.to_owned(),
                line: index + 1,
                text: line.to_owned(),
            };
            match parse_line(line) {
                Some((option, value)) => self.request(option, value, fragment)?,
                None if line.trim().is_empty() || line.starts_with('#') => {}
                None => return Err(syntax()),
            }
        }
        Ok(())
    }

    fn request(&mut self, option: &str, value: &str, fragment: &str) -> Result<(), Error> {
        let request = Request { value: value.to_owned(), fragment: fragment.to_owned() };
        match self.0.get(option) {
            Some(earlier) if earlier.value != value => Err(Error::Contradiction {
                option: option.to_owned(),
                first: earlier.value.clone(),
                first_fragment: earlier.fragment.clone(),
                second: request.value,
                second_fragment: request.fragment,
            }),
            Some(_) => Ok(()),
            None => {
                self.0.insert(option.to_owned(), request);
                Ok(())
            }
        }
    }

    /// The requests as Kconfig reads them, laid over a base configuration.
    #[must_use]
    pub fn over(&self, base: &str) -> String {
        let mut options: BTreeMap<&str, &str> = base.lines().filter_map(parse_line).collect();
        options.extend(
            self.0.iter().map(|(option, request)| (option.as_str(), request.value.as_str())),
        );
        let mut text = String::new();
        for (option, value) in options {
            let line = match value {
                "n" => writeln!(text, "# {option} is not set"),
                value => writeln!(text, "{option}={value}"),
            };
            debug_assert!(line.is_ok(), "a String takes everything");
        }
        text
    }

    /// Checks that a configuration is as asked for.
    ///
    /// # Errors
    /// Some options are not: all of them are named.
    pub fn check(&self, configuration: &str) -> Result<(), Error> {
        let options: BTreeMap<&str, &str> = configuration.lines().filter_map(parse_line).collect();
        let dropped: Vec<Dropped> = self
            .0
            .iter()
            .map(|(option, request)| Dropped {
                option: option.clone(),
                fragment: request.fragment.clone(),
                wanted: request.value.clone(),
                // An option that is not mentioned at all is off.
                got: (*options.get(option.as_str()).unwrap_or(&"n")).to_owned(),
            })
            .filter(|dropped| dropped.wanted != dropped.got)
            .collect();
        if dropped.is_empty() { Ok(()) } else { Err(Error::Dropped(dropped)) }
    }
}

/// `CONFIG_X=value`, or `# CONFIG_X is not set` as the value `n`.
fn parse_line(line: &str) -> Option<(&str, &str)> {
    let not_set = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set"));
    let (option, value) = not_set.map(|option| (option, "n")).or_else(|| line.split_once('='))?;
    let name = option.strip_prefix("CONFIG_")?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((option, value.trim_end()))
}

pub(super) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn plural(options: usize) -> String {
    if options == 1 {
        "a kernel option is".to_owned()
    } else {
        format!("{options} kernel options are")
    }
}

fn list(dropped: &[Dropped]) -> String {
    let line = |dropped: &Dropped| {
        let Dropped { option, fragment, wanted, got } = dropped;
        format!("\n  {option}: {fragment} asks for {wanted}, got {got}")
    };
    dropped.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAGMENT: &str =
        "# agent init: why\nCONFIG_A=y\n\n# CONFIG_B is not set\nCONFIG_C=\"x y\"\n";

    fn requests(fragments: &[(&str, &str)]) -> Result<Requests, Error> {
        let mut requests = Requests::default();
        fragments.iter().try_for_each(|(name, text)| requests.add(name, text))?;
        Ok(requests)
    }

    #[test]
    fn fragments_override_the_base() {
        let requests = requests(&[("one.config", FRAGMENT)]).unwrap();
        let text = requests.over("CONFIG_B=y\nCONFIG_D=y\n");
        assert_eq!(text, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x y\"\nCONFIG_D=y\n");
    }

    #[test]
    fn every_dropped_option_is_named_with_the_fragment_that_asks_for_it() {
        let requests =
            requests(&[("one.config", FRAGMENT), ("two.config", "CONFIG_E=0x10\n")]).unwrap();
        assert!(requests.check("CONFIG_A=y\nCONFIG_C=\"x y\"\nCONFIG_E=0x10\n").is_ok());
        let error = requests.check("CONFIG_B=y\nCONFIG_C=\"x y\"\nCONFIG_E=0x20\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "3 kernel options are not as asked for:\n  CONFIG_A: one.config asks for y, got n\
             \n  CONFIG_B: one.config asks for n, got y\n  CONFIG_E: two.config asks for 0x10, got 0x20"
        );
    }

    #[test]
    fn fragments_may_repeat_but_not_contradict_each_other() {
        assert!(requests(&[("one", FRAGMENT), ("two", FRAGMENT)]).is_ok());
        let error =
            requests(&[("one", "CONFIG_A=y"), ("two", "# CONFIG_A is not set")]).unwrap_err();
        assert_eq!(error.to_string(), "cannot have both CONFIG_A=y of one and CONFIG_A=n of two");
    }

    #[test]
    fn a_line_that_is_no_option_is_an_error() {
        for text in ["CONFIG_A", "A=y", "CONFIG_=y", "CONFIG_A B=y"] {
            let error = requests(&[("one.config", text)]).unwrap_err();
            let expected =
                format!("expected `CONFIG_NAME=value` or a comment at one.config:1, got {text:?}");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn every_option_of_our_own_fragments_has_a_comment_above_it() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-config");
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "config") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for block in text.split("\n\n").filter(|block| block.contains("CONFIG_")) {
                let first = block.trim_start().lines().next().unwrap();
                assert!(parse_line(first).is_none(), "{}: {first} has no comment", path.display());
            }
        }
    }
}
