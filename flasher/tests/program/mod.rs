//! Scripts in place of the programs that the flasher runs.

use std::path::Path;
use std::process::Command;

/// Makes a program of a script. Another process writes it: what another thread starts meanwhile would
/// inherit our file, and a program that somebody has open for writing cannot be run.
pub(crate) fn write(program: &Path, script: &str) {
    let text = program.with_extension("script");
    assert!(std::fs::write(&text, script).is_ok(), "{}", text.display());
    let install = Command::new("install").args(["-m", "755"]).args([&text, program]).status();
    assert!(install.is_ok_and(|status| status.success()), "{}", program.display());
}
