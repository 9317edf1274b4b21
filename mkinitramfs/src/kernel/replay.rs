//! Runs steps of the kernel's build again, by the commands that the build itself recorded.
//!
//! Beside every target `x` the kernel's build leaves `.x.cmd`, whose first line is
//! `savedcmd_<path> := <shell command>`. Running make would first look at every object and link
//! `vmlinux` anew; the last steps alone take a fraction of a second.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::make;

/// Why a step was not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The build recorded no command for a target.
    #[error("cannot find the command that made {target} in {}", path.display())]
    NoCommand {
        /// The target.
        target: String,
        /// The file that should have it.
        path: PathBuf,
    },
    /// No shell.
    #[error("cannot run a shell")]
    Shell(#[source] io::Error),
    /// The command failed.
    #[error("cannot make {target}: {message}")]
    Failed {
        /// The target.
        target: String,
        /// What the command said.
        message: String,
    },
}

/// Makes a target again from what its command reads.
///
/// # Errors
/// The build recorded no command for it, or the command fails.
pub(super) fn replay(build: &Path, target: &str) -> Result<(), Error> {
    let command = recorded(build, target)?;
    let output = make::program("/bin/sh")
        .args(["-c", &command])
        .current_dir(build)
        .output()
        .map_err(Error::Shell)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { target: target.to_owned(), message })
}

fn recorded(build: &Path, target: &str) -> Result<String, Error> {
    let (directory, name) = target.rsplit_once('/').unwrap_or((".", target));
    let path = build.join(directory).join(format!(".{name}.cmd"));
    let text = fs::read_to_string(&path).unwrap_or_default();
    let command = text.lines().find_map(|line| command_of(line, target));
    command.ok_or_else(|| Error::NoCommand { target: target.to_owned(), path })
}

/// The command as the shell gets it: make's two ways to write a special character are undone.
fn command_of(line: &str, target: &str) -> Option<String> {
    let rest = line.strip_prefix("savedcmd_").or_else(|| line.strip_prefix("cmd_"))?;
    let command = rest.strip_prefix(target)?.strip_prefix(" := ")?;
    Some(command.replace("$(pound)", "#").replace("$$", "$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build_with(line: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("boot")).unwrap();
        fs::write(directory.path().join("boot/.out.cmd"), line).unwrap();
        directory
    }

    #[test]
    fn a_recorded_command_runs_in_the_build_directory() {
        let line = "savedcmd_boot/out := printf '%s' '$(pound)$$x' > boot/out\n\nsource_x := y\n";
        let build = build_with(line);
        replay(build.path(), "boot/out").unwrap();
        assert_eq!(fs::read_to_string(build.path().join("boot/out")).unwrap(), "#$x");
    }

    #[test]
    fn a_step_sees_nothing_of_the_callers_environment() {
        // cargo has set variables for this test, CARGO_MANIFEST_DIR among them.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let build = build_with("savedcmd_boot/out := env > boot/out\n");
        replay(build.path(), "boot/out").unwrap();
        let text = fs::read_to_string(build.path().join("boot/out")).unwrap();
        // The last four are the shell's own.
        let known = ["HOME", "LC_ALL", "PATH", "TMPDIR", "OLDPWD", "PWD", "SHLVL", "_"];
        let strange = |line: &&str| !known.contains(&line.split('=').next().unwrap());
        assert_eq!(text.lines().filter(strange).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let build = build_with("savedcmd_boot/out := echo no room >&2; false\n");
        let error = replay(build.path(), "boot/out").unwrap_err();
        assert_eq!(error.to_string(), "cannot make boot/out: no room");
        let error = replay(build.path(), "boot/other").unwrap_err();
        assert!(error.to_string().starts_with("cannot find the command that made boot/other in "));
    }
}
