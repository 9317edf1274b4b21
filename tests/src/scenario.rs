//! The usual set-up of a test: the image under test boots directly in QEMU, and a boot server
//! behind QEMU's user network tells it what to do.

use std::sync::Arc;

use crate::certificate::Presented;
use crate::document::{self, Artifact, InitrdForm};
use crate::image::Image;
use crate::machine::{Card, Machine};
use crate::server::{BootServer, Content, EpoxyHost};
use crate::stage3::{Debian, minimal};
use crate::vm::Vm;

/// The machine's name at the boot server.
pub const HOST: &str = "mlab1.stage2.test";

/// Where the boot document is that follows stage2.
pub const DOCUMENT: &str = "/stage2to3.json";

/// Memory for the agent and payloads of a few MiB.
const MEMORY_MIB: u32 = 256;

/// An image and a server for it.
pub struct Scenario {
    /// The image under test.
    pub image: Arc<Image>,
    /// The boot server, which knows [`HOST`].
    pub server: BootServer,
    session: String,
}

impl Scenario {
    /// A server that presents a certificate of the authority that the image trusts.
    pub fn new() -> anyhow::Result<Self> {
        Self::presenting(Presented::Good)
    }

    /// A server that presents this kind of certificate.
    pub fn presenting(presents: Presented) -> anyhow::Result<Self> {
        Self::with_image(Image::under_test()?, presents)
    }

    /// The same with the flasher in the image.
    pub fn with_flasher() -> anyhow::Result<Self> {
        Self::with_image(Image::with_flasher_under_test()?, Presented::Good)
    }

    /// A machine with another image.
    pub fn with_image(image: Arc<Image>, presents: Presented) -> anyhow::Result<Self> {
        let server = BootServer::for_user_network(&image.authority, presents)?;
        server.add_host(EpoxyHost {
            name: HOST.to_owned(),
            stage1: server.https_url("/stage1to2.json"),
            stage2: server.https_url(DOCUMENT),
            stage3: server.https_url("/stage3post.json"),
            ..EpoxyHost::default()
        });
        let session = server.open_session();
        Ok(Self { image, server, session })
    }

    /// Puts the boot document there that follows stage2.
    pub fn document(&self, document: impl Into<Content>) -> &Self {
        self.server.serve(DOCUMENT, document);
        self
    }

    /// Serves `bytes` at `path` and tells how a document names them, with their digest.
    pub fn artifact(&self, path: &str, bytes: &[u8]) -> Artifact {
        self.server.serve(path, bytes);
        Artifact::of_bytes(&self.server.https_url(path), bytes)
    }

    /// Serves Debian's kernel and a root that only greets, and the document that enters them.
    pub fn document_into_minimal_stage3(
        &self,
        cmdline: &str,
        form: InitrdForm,
    ) -> anyhow::Result<()> {
        self.document(self.minimal_stage3(cmdline, form)?);
        Ok(())
    }

    /// Serves Debian's kernel and a root that only greets; the answer is a document that enters them.
    pub fn minimal_stage3(&self, cmdline: &str, form: InitrdForm) -> anyhow::Result<String> {
        let debian = Debian::prepare(&|line| eprintln!("{line}"))?;
        let kernel = Artifact::of_file(&self.server.https_url("/vmlinuz"), &debian.kernel)?;
        self.server.serve("/vmlinuz", debian.kernel);
        let root = minimal::packed()?;
        let initramfs = self.artifact("/initramfs.cpio.zst", &root);
        Ok(document::kexec(&kernel, &initramfs, cmdline, form))
    }

    /// The route of a step in the session that `stage1` would have opened.
    #[must_use]
    pub fn route(&self, step: &str) -> String {
        format!("/v1/boot/{HOST}/{}/{step}", self.session)
    }

    /// The kernel command line that iPXE would pass.
    #[must_use]
    pub fn cmdline(&self) -> String {
        let url = |step| self.server.https_url(&self.route(step));
        format!(
            "net.ifnames=0 epoxy.ip=192.168.0.2::192.168.0.1:255.255.255.0:{HOST}:eth0:off:: \
             epoxy.stage2={} epoxy.stage3={} epoxy.report={}",
            url("stage2"),
            url("stage3"),
            url("report")
        )
    }

    /// A machine that boots the image with [`Self::cmdline`].
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine_with(&self.cmdline())
    }

    /// A machine that boots the image with this command line.
    #[must_use]
    pub fn machine_with(&self, cmdline: &str) -> Machine {
        Machine::new(MEMORY_MIB)
            .with_kernel(&self.image.vmlinuz, None, cmdline)
            .with_card(Card::new("virtio-net-pci"))
    }

    /// Starts that machine.
    pub fn boot(&self) -> anyhow::Result<Vm> {
        self.start(&self.machine())
    }

    /// Starts a machine; when something is missing on its console the server's log is shown too.
    pub fn start(&self, machine: &Machine) -> anyhow::Result<Vm> {
        Ok(Vm::start(machine)?.asking(&self.server))
    }
}
