//! What to pack: the image's specification, a TOML file.
//!
//! Relative paths are relative to the file. Unknown keys are errors, so a typing error fails the
//! build and not the boot.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::compress::Compression;
use crate::flavour::Flavour;

/// Debian's package `busybox-static` puts it here.
const BUSYBOX: &str = "/bin/busybox";

/// A whole image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageSpec {
    /// Files of public keys that may log in to rescue; none means that nobody can.
    pub authorized_keys: Vec<PathBuf>,
    /// PEM files of CA certificates for TLS; none means the build host's own bundle.
    pub ca_certificates: Vec<PathBuf>,
    /// The default command line; what the loader passes is appended to it.
    pub cmdline: String,
    /// How the ramdisk is compressed.
    pub compression: Compression,
    /// What the agent may do.
    pub policy: Policy,
    /// The kernel that the ramdisk goes into.
    pub kernel: KernelSpec,
    /// The shell and its commands.
    pub busybox: BusyboxSpec,
    /// The machines' own key for ssh.
    pub ssh: SshSpec,
    /// Groups of programs out of Debian's packages, each with what the kernel needs for it.
    pub flavours: Vec<Flavour>,
    /// The flasher, a dynamic program; becomes `/sbin/flasher`.
    pub flasher: Option<PathBuf>,
    /// More dynamic programs of the build host. Each gets its own path in the image, and with it
    /// come its interpreter and every library that it needs.
    #[serde(rename = "binary-deps")]
    pub binary_deps: Vec<PathBuf>,
    /// More files.
    pub files: Vec<FileSpec>,
    /// More symbolic links.
    pub symlinks: Vec<SymlinkSpec>,
}

/// Becomes `/etc/stage2/policy.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Take boot documents over plain HTTP: for labs and benches.
    pub plain_http_documents: bool,
    /// Give a shell to whoever presses Enter on the console, without a password.
    pub console_shell: bool,
}

/// The kernel that the ramdisk goes into.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelSpec {
    /// The name of a `.profile` file of `kernel-config/`.
    pub profile: String,
    /// A source tarball or directory; without it Debian's `linux-source` package.
    pub source: Option<PathBuf>,
}

/// The shell and its commands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusyboxSpec {
    /// A static busybox on the build host.
    pub path: PathBuf,
    /// Which of its commands get a link in `/bin`.
    pub applets: Vec<String>,
}

/// How operators know the machines that boot the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SshSpec {
    /// The private key of every machine, ed25519; without it each makes one of its own at boot.
    pub host_key: Option<PathBuf>,
    /// What a host authority has signed about that key.
    pub host_certificate: Option<PathBuf>,
}

/// One more file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// The file on the build host.
    pub source: PathBuf,
    /// Its path in the image.
    pub target: String,
    /// Its permission bits, in octal.
    #[serde(default)]
    pub mode: Mode,
}

/// One more symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SymlinkSpec {
    /// The link's path in the image.
    pub link: String,
    /// Where it points.
    pub target: String,
}

/// Permission bits, written as `"0644"`: TOML's own number 644 would be decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

/// Why a specification cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the image specification {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or not of this shape.
    #[error("cannot understand the image specification {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

/// Why a text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected permission bits in octal such as \"0644\", got {0:?}")]
pub struct ParseModeError(String);

impl ImageSpec {
    /// Reads a specification; its paths become relative to the working directory.
    ///
    /// # Errors
    /// The file cannot be read or is no specification.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let parse = |source| Error::Parse { path: path.to_owned(), source: Box::new(source) };
        let spec: Self = toml::from_str(&text).map_err(parse)?;
        Ok(spec.relative_to(path.parent().unwrap_or(Path::new(""))))
    }

    fn relative_to(mut self, directory: &Path) -> Self {
        let own = [&mut self.busybox.path];
        let listed = self.authorized_keys.iter_mut().chain(&mut self.ca_certificates);
        let sources = self.files.iter_mut().map(|file| &mut file.source);
        let single = self.kernel.source.iter_mut().chain(&mut self.flasher);
        let ssh = self.ssh.host_key.iter_mut().chain(&mut self.ssh.host_certificate);
        let single = single.chain(ssh);
        for path in own.into_iter().chain(listed).chain(sources).chain(single) {
            *path = directory.join(&path);
        }
        self
    }
}

impl Default for KernelSpec {
    fn default() -> Self {
        Self { profile: "vm".to_owned(), source: None }
    }
}

impl Default for BusyboxSpec {
    fn default() -> Self {
        let applets = DEFAULT_APPLETS.split_whitespace().map(str::to_owned).collect();
        Self { path: BUSYBOX.into(), applets }
    }
}

impl Default for Mode {
    fn default() -> Self {
        Self(0o644)
    }
}

impl TryFrom<String> for Mode {
    type Error = ParseModeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 && text.starts_with('0') => Ok(Self(mode)),
            _ => Err(ParseModeError(text)),
        }
    }
}

/// What boot documents call and what an operator in rescue looks for.
const DEFAULT_APPLETS: &str = "
    [ arping ash awk base64 basename blockdev cat chgrp chmod chown chroot clear cmp cp cpio cut
    date dd devmem df diff dirname dmesg du echo egrep env expr false fgrep find flock free ftpget
    grep gunzip gzip halt head hexdump hostname hwclock id ifconfig ip kill killall less ln logger
    ls md5sum mkdir mkfifo mknod mktemp more mount mv nc netstat nproc nslookup od pidof ping ping6
    poweroff printf ps pwd readlink realpath reboot reset rm rmdir route sed seq setsid sh sha1sum
    sha256sum sleep sort stat strings stty sync sysctl tail tar tee telnet test tftp time timeout
    top touch tr traceroute true tty umount uname uniq unxz unzip uptime usleep vi watch wc wget
    which whoami xargs xxd xz xzcat yes zcat";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ImageSpec, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn an_empty_specification_is_the_default_image() {
        assert_eq!(parse(""), Ok(ImageSpec::default()));
    }

    #[test]
    fn every_key_is_read_and_paths_are_relative_to_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        let text = r#"
            authorized_keys = ["admin.pub"]
            ca_certificates = ["/etc/ca.pem"]
            cmdline = "console=ttyS0"
            compression = "xz"
            policy = { plain_http_documents = true, console_shell = true }
            kernel = { profile = "vm", source = "linux.tar.xz" }
            busybox = { path = "busybox", applets = ["sh"] }
            ssh = { host_key = "host", host_certificate = "host-cert.pub" }
            flavours = ["disk"]
            flasher = "flasher"
            binary-deps = ["/usr/bin/mstflint"]
            files = [{ source = "motd", target = "/etc/motd" }]
            symlinks = [{ link = "/bin/bash", target = "sh" }]
        "#;
        std::fs::write(&path, text).unwrap();
        let file = FileSpec {
            source: directory.path().join("motd"),
            target: "/etc/motd".into(),
            mode: Mode(0o644),
        };
        let expected = ImageSpec {
            authorized_keys: vec![directory.path().join("admin.pub")],
            ca_certificates: vec!["/etc/ca.pem".into()],
            cmdline: "console=ttyS0".into(),
            compression: Compression::Xz,
            policy: Policy { plain_http_documents: true, console_shell: true },
            kernel: KernelSpec {
                profile: "vm".into(),
                source: Some(directory.path().join("linux.tar.xz")),
            },
            busybox: BusyboxSpec {
                path: directory.path().join("busybox"),
                applets: vec!["sh".into()],
            },
            ssh: SshSpec {
                host_key: Some(directory.path().join("host")),
                host_certificate: Some(directory.path().join("host-cert.pub")),
            },
            flavours: vec![Flavour::Disk],
            flasher: Some(directory.path().join("flasher")),
            binary_deps: vec!["/usr/bin/mstflint".into()],
            files: vec![file],
            symlinks: vec![SymlinkSpec { link: "/bin/bash".into(), target: "sh".into() }],
        };
        assert_eq!(ImageSpec::read(&path).unwrap(), expected);
    }

    #[test]
    fn a_specification_with_an_error_says_what_is_wrong() {
        for (text, expected) in [
            ("authorised_keys = []", "unknown field `authorised_keys`"),
            ("policy = { insecure = true }", "unknown field `insecure`"),
            ("compression = \"lzma\"", "unknown variant `lzma`"),
            ("flavours = [\"tape\"]", "unknown variant `tape`, expected `disk`"),
            ("cmdline = 5", "invalid type: integer"),
            ("files = [{ source = \"a\" }]", "missing field `target`"),
            ("files = [{ source = \"a\", target = \"/a\", mode = 644 }]", "invalid type: integer"),
            (
                "files = [{ source = \"a\", target = \"/a\", mode = \"644\" }]",
                "expected permission bits",
            ),
            (
                "files = [{ source = \"a\", target = \"/a\", mode = \"0999\" }]",
                "expected permission bits",
            ),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = ImageSpec::read(Path::new("none.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the image specification none.toml");
    }
}
