//! The programs that build a kernel, looked for before anything is started.

use std::path::Path;

/// Something that a kernel build needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tool {
    /// A program in `PATH`, or the absolute path of a header.
    name: &'static str,
    /// Debian's package that has it.
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { name: "make", package: "make" },
    Tool { name: "gcc", package: "gcc" },
    Tool { name: "ld", package: "binutils" },
    Tool { name: "objcopy", package: "binutils" },
    Tool { name: "flex", package: "flex" },
    Tool { name: "bison", package: "bison" },
    Tool { name: "bc", package: "bc" },
    Tool { name: "awk", package: "mawk" },
    Tool { name: "patch", package: "patch" },
    Tool { name: "tar", package: "tar" },
    Tool { name: "xz", package: "xz-utils" },
    Tool { name: "zstd", package: "zstd" },
    // objtool checks every object.
    Tool { name: "/usr/include/gelf.h", package: "libelf-dev" },
    Tool { name: "/usr/include/stdio.h", package: "libc6-dev" },
];

/// Why no build can start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot build a kernel without {}: run `apt-get install {}`", .missing.join(", "), .packages.join(" ")
)]
pub struct Error {
    missing: Vec<&'static str>,
    packages: Vec<&'static str>,
}

/// Checks that all tools are there.
///
/// # Errors
/// Some are not: all of them are named, with the command that installs them.
pub fn check(path: &str) -> Result<(), Error> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !is_there(tool.name, path)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    Err(Error { missing: missing.iter().map(|tool| tool.name).collect(), packages })
}

fn is_there(name: &str, path: &str) -> bool {
    // An absolute name replaces the directory it is joined to.
    std::env::split_paths(path).any(|directory| directory.join(name).is_file())
        || (name.starts_with('/') && Path::new(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let directory = tempfile::tempdir().unwrap();
        for tool in TOOLS.iter().filter(|tool| !matches!(tool.name, "flex" | "ld" | "objcopy")) {
            if !tool.name.starts_with('/') {
                std::fs::write(directory.path().join(tool.name), "").unwrap();
            }
        }
        let error = check(directory.path().to_str().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot build a kernel without ld, objcopy, flex: run `apt-get install binutils flex`"
        );
    }
}
