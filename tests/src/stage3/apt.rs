//! What apt knows and fetches.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use nix::unistd::Uid;

use crate::command;

/// The package that depends on the current kernel.
const KERNEL: &str = "linux-image-amd64";

const SUITE: &str = "bookworm";

/// Packages that come along with others, and that a root of some 100 MB is better without.
const UNWANTED: &[&str] = &["usrmerge", "perl", "^perl-modules", "^libperl5", "^lib.*-perl$"];

/// What mmdebstrap does not say clearly.
const WITHOUT_ROOT: &str = "; without root it needs package uidmap, and lines for this user in \
                            /etc/subuid and /etc/subgid";

/// Debian's kernel, unpacked.
pub(super) struct Kernel {
    /// Its release, as `uname -r` says it.
    pub(super) release: String,
    /// The bzImage.
    pub(super) image: PathBuf,
    /// Where `lib/modules` is.
    pub(super) root: PathBuf,
}

/// A line `package version` for each package that would be installed, and for the kernel.
pub(super) fn candidates(packages: &[&str]) -> anyhow::Result<String> {
    let policy = command::output(
        Command::new("apt-cache").env("LC_ALL", "C").arg("policy").args(packages).arg(KERNEL),
    )?;
    let versions = read_policy(&policy);
    for package in packages.iter().chain([&KERNEL]) {
        let is_known = versions.lines().any(|line| line.split(' ').next() == Some(package));
        if !is_known {
            bail!("apt knows no candidate for {package}: run apt-get update");
        }
    }
    Ok(versions)
}

fn read_policy(policy: &str) -> String {
    let mut package = "";
    let mut versions = String::new();
    for line in policy.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = name;
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            versions += &format!("{package} {version}\n");
        }
    }
    versions
}

/// Fetches and unpacks the kernel package that is current.
pub(super) fn unpack_kernel(scratch: &Path) -> anyhow::Result<Kernel> {
    let depends =
        command::output(Command::new("apt-cache").env("LC_ALL", "C").args(["depends", KERNEL]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .with_context(|| format!("apt knows nothing that {KERNEL} depends on"))?;
    command::output(
        Command::new("apt-get").args(["download", "-q", package]).current_dir(scratch),
    )?;
    let archive = fs::read_dir(scratch)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get has not downloaded {package}"))?;
    let root = scratch.join("kernel");
    command::output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&root))?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    Ok(Kernel { image: root.join(format!("boot/vmlinuz-{release}")), release, root })
}

/// Installs Debian's essential packages and `packages` into an archive.
pub(super) fn install_root(
    packages: &[&str],
    archive: &Path,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let purge: String = UNWANTED.iter().map(|pattern| format!(" '{pattern}'")).collect();
    let mut install = Command::new("mmdebstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={}", packages.join(",")))
        .arg("--aptopt=Apt::Install-Recommends \"false\"")
        .arg(format!("--customize-hook=chroot \"$1\" apt-get purge -q -y{purge}"))
        .arg(SUITE)
        .arg(archive)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run mmdebstrap")?;
    let mut said = Vec::new();
    if let Some(stderr) = install.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(step) = line.strip_prefix("I: ").filter(|step| step.ends_with("...")) {
                say(&format!("stage3:   {step}"));
            }
            said.push(line);
        }
    }
    let status = install.wait()?;
    if !status.success() {
        let hint = if Uid::effective().is_root() { "" } else { WITHOUT_ROOT };
        bail!("mmdebstrap: {status}{hint}\n{}", said.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_of_each_package_is_read_and_one_without_is_left_out() {
        let policy = "udev:\n  Installed: (none)\n  Candidate: 252.39-1\n  Version table:\n     \
                      252.39-1 500\nnothing:\n  Installed: (none)\n  Candidate: (none)\n";
        assert_eq!(read_policy(policy), "udev 252.39-1\n");
    }
}
