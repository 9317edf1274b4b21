//! What is booted: the same kernel again, with a ramdisk of 64 MiB that cannot be compressed.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mkinitramfs::cpio;
use mkinitramfs::tree::Tree;
use serde_json::json;

use super::debian::Programs;
use crate::certificate::{Authority, Presented};
use crate::document::{self, Artifact, InitrdForm};
use crate::server::BootServer;

/// What makes it large.
pub const PADDING_BYTES: u64 = 64 << 20;

/// Stage3's own part of its command line; the peers' scripts have the same. A tmpfs would take only
/// half of the memory, and stage3 would need more of it than stage2.
const CMDLINE: &str = "console=ttyS0 rootfstype=ramfs";

/// What stage3 says first.
pub const GREETING: &str = "stage3: here I am";

const INIT: &str = "#!/bin/busybox sh\necho stage3: here I am\n/bin/busybox poweroff -f\n";

/// Stage3's kernel and ramdisk as files.
pub struct Payload {
    kernel: PathBuf,
    initramfs: PathBuf,
    kernel_sha256: String,
    initramfs_sha256: String,
}

impl Payload {
    /// Writes the ramdisk for `kernel` into `directory`.
    pub fn write(kernel: &Path, programs: &Programs, directory: &Path) -> anyhow::Result<Self> {
        let mut padding = Vec::new();
        File::open("/dev/urandom")?.take(PADDING_BYTES).read_to_end(&mut padding)?;
        let mut tree = Tree::default();
        tree.file("/bin/busybox", 0o755, programs.read("/bin/busybox")?)?;
        tree.directory("/dev", 0o755)?;
        let kind = mkinitramfs::tree::DeviceKind::Character;
        let console = mkinitramfs::tree::Node::Device { kind, mode: 0o600, number: (5, 1) };
        tree.add("/dev/console", console)?;
        tree.file("/init", 0o755, INIT)?;
        tree.file("/padding", 0o644, padding)?;
        let initramfs = directory.join("payload.cpio");
        fs::write(&initramfs, cpio::archive(&tree, super::ramdisk::DATE)?)
            .with_context(|| format!("cannot write {}", initramfs.display()))?;
        Ok(Self {
            kernel_sha256: document::sha256_of_file(kernel)?,
            initramfs_sha256: document::sha256_of_file(&initramfs)?,
            kernel: kernel.to_owned(),
            initramfs,
        })
    }

    /// A server of its own for each boot, so that its log tells of nothing else.
    pub fn serve(&self) -> anyhow::Result<BootServer> {
        let server = BootServer::for_user_network(&Authority::new()?, Presented::Good)?;
        let [kernel, initramfs] = self.artifacts(&server);
        let document = document::kexec(&kernel, &initramfs, CMDLINE, InitrdForm::TwoWords);
        let digests =
            format!("{}  kernel\n{}  initramfs\n", self.kernel_sha256, self.initramfs_sha256);
        server
            .serve("/document", document)
            .serve("/digests", digests)
            .serve("/kernel", self.kernel.clone())
            .serve("/initramfs", self.initramfs.clone());
        Ok(server)
    }

    /// A document that fetches the same files and only runs this shell command.
    #[must_use]
    pub fn document_for(&self, server: &BootServer, shell: &str) -> String {
        let [kernel, initramfs] = self.artifacts(server);
        let spec = |artifact: &Artifact| json!({ "url": artifact.url, "sha256": artifact.sha256 });
        json!({
            "v1": {
                "files": { "initram": spec(&initramfs), "vmlinuz": spec(&kernel) },
                "commands": [["/bin/busybox", "sh", "-c", shell]],
            }
        })
        .to_string()
    }

    fn artifacts(&self, server: &BootServer) -> [Artifact; 2] {
        let artifact = |path: &str, sha256: &str| Artifact {
            url: server.http_url(path),
            sha256: Some(sha256.to_owned()),
        };
        [artifact("/kernel", &self.kernel_sha256), artifact("/initramfs", &self.initramfs_sha256)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_contenders_give_stage3_the_same_command_line() {
        for script in [include_str!("baseline.sh"), include_str!("floor.sh")] {
            assert!(script.contains(&format!("--command-line='{CMDLINE}'")), "{script}");
        }
    }
}
