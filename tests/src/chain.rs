//! The whole boot as it is in production: iPXE in the card's ROM, a boot server, stage2, stage3.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use agent_types::params::MROM;
use anyhow::{Context as _, ensure};

use crate::certificate::Presented;
use crate::document::{self, Artifact, InitrdForm};
use crate::flash::PARTITIONS;
use crate::image::Image;
use crate::machine::{Card, Machine, UserNetwork, Wire};
use crate::server::{BootServer, EpoxyHost};
use crate::stage3::{Debian, minimal};

/// The machine's name at the boot server.
pub const HOST: &str = crate::machine::HOSTNAME;

/// The project whose images are booted, part of their paths.
pub const PROJECT: &str = "sandbox";

/// The release of the images that are booted, part of their paths.
pub const RELEASE: &str = "v1.0.0";

/// Where the image of stage2 is.
pub const STAGE2: &str = "/sandbox/v1.0.0/stage2/stage2_vmlinuz";
/// Where stage3's kernel is.
pub const STAGE3_KERNEL: &str = "/sandbox/v1.0.0/stage3_debian/vmlinuz";
/// Where stage3's root is.
pub const STAGE3_INITRAMFS: &str = "/sandbox/v1.0.0/stage3_debian/initramfs.cpio.zst";
/// Where the program is that stage3 runs last.
pub const SETUP: &str = "/sandbox/v1.0.0/stage3_debian/setup.sh";
/// Where ROMs are, by model and host name.
pub const ROMS: &str = "/sandbox/v1.0.0/roms";
const STAGE1TO2: &str = "/sandbox/v1.0.0/stage2/stage1to2.ipxe";
const STAGE2TO3: &str = "/sandbox/v1.0.0/stage3_debian/stage2to3.json";
const STAGE3POST: &str = "/sandbox/v1.0.0/stage3_debian/stage3post.json";

/// The same place as a document names it.
const IN_DOCUMENT: &str =
    "/{{kargs `epoxy.project`}}/{{kargs `epoxy.images_version`}}/stage3_debian/";

/// Debian's kernel says only what matters, and systemd what it starts.
const STAGE3_CMDLINE: &str = "net.ifnames=0 autoconf=0 console=ttyS0 loglevel=6";

const SETUP_SCRIPT: &str = "#!/bin/sh\n\
    echo \"setup: project $1, network $2, on $(. /etc/os-release; echo \"$PRETTY_NAME\")\"\n";

/// What stage2 is told to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage3 {
    /// Debian with systemd, which runs `epoxy_client` and reports.
    Debian,
    /// Debian's kernel, and a root that says that it is there and ends.
    Minimal,
    /// The image again, which updates the ROM of the machine's card.
    RomUpdate,
}

/// Everything that a machine needs to boot from its card.
pub struct Chain {
    /// The image of stage2.
    pub image: Arc<Image>,
    /// The boot server.
    pub server: BootServer,
    directory: tempfile::TempDir,
}

impl Chain {
    /// Gets everything ready, telling `say` how it goes.
    pub fn prepare(image: Arc<Image>, stage3: Stage3, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        let server = BootServer::for_user_network(&image.authority, Presented::Good)?;
        let directory = tempfile::tempdir()?;
        let chain = Self { image, server, directory };
        chain.serve_stage2()?;
        chain.serve_host();
        if stage3 == Stage3::RomUpdate {
            chain.serve_rom_update()?;
            return Ok(chain);
        }
        let debian = Debian::prepare(say)?;
        let initramfs = chain.directory.path().join("initramfs");
        match stage3 {
            Stage3::Debian => {
                debian.with_agent(&chain.image.agent, chain.image.authority.pem(), &initramfs)?;
            }
            Stage3::Minimal | Stage3::RomUpdate => fs::write(&initramfs, minimal::packed()?)?,
        }
        chain.serve_stage3(&debian.kernel, initramfs)?;
        Ok(chain)
    }

    /// A machine with a card of this model, which boots from Debian's iPXE for it.
    #[must_use]
    pub fn machine(&self, model: &str, memory_mib: u32) -> Machine {
        self.machine_with(Card::new(model).with_ipxe(), memory_mib)
    }

    /// A machine with this card, which boots from it.
    #[must_use]
    pub fn machine_with(&self, card: Card, memory_mib: u32) -> Machine {
        let user = UserNetwork {
            tftp: Some(self.directory.path().join("tftp")),
            bootfile: Some("rom.ipxe".to_owned()),
            ssh: false,
        };
        Machine::new(memory_mib).with_card(card.on(Wire::User(user)))
    }

    /// It was iPXE, and nobody else, who fetched stage2 first.
    pub fn stage2_was_fetched_by_ipxe(&self) -> anyhow::Result<()> {
        let fetched = self.server.requests_for(STAGE2);
        let by = fetched.first().and_then(|request| request.header("user-agent"));
        ensure!(by.is_some_and(|agent| agent.starts_with("iPXE/")), "{fetched:?}");
        Ok(())
    }

    fn serve_stage2(&self) -> anyhow::Result<()> {
        let tftp = self.directory.path().join("tftp");
        fs::create_dir(&tftp).context("cannot make a directory for TFTP")?;
        let stage1 = self.server.http_url(&format!("/v1/boot/{HOST}/stage1.ipxe"));
        fs::write(tftp.join("rom.ipxe"), document::rom_script(&stage1))?;
        // iPXE of Debian speaks no HTTPS; whatever stage2 loads itself, it loads over HTTPS.
        let script = document::stage1to2_ipxe(&self.server.http_url(STAGE2), PROJECT, "");
        self.server.serve(STAGE1TO2, script).serve(STAGE2, self.image.vmlinuz.clone());
        Ok(())
    }

    /// In place of stage3: the image of stage2, with the address of the ROMs on its command line.
    fn serve_rom_update(&self) -> anyhow::Result<()> {
        let kernel = Artifact::of_file(&self.server.https_url(STAGE2), &self.image.vmlinuz)?;
        let cmdline = format!("net.ifnames=0 {MROM}={} {PARTITIONS}", self.server.https_url(ROMS));
        self.server.serve(STAGE2TO3, document::kexec_into(&kernel, &cmdline));
        Ok(())
    }

    fn serve_stage3(&self, kernel: &std::path::Path, initramfs: PathBuf) -> anyhow::Result<()> {
        let place = |name: &str| self.server.https_url(&format!("{IN_DOCUMENT}{name}"));
        let stage2to3 = document::kexec(
            &Artifact::of_file(&place("vmlinuz"), kernel)?,
            &Artifact::of_file(&place("initramfs.cpio.zst"), &initramfs)?,
            STAGE3_CMDLINE,
            InitrdForm::TwoWords,
        );
        let setup = Artifact::of_bytes(&place("setup.sh"), SETUP_SCRIPT.as_bytes());
        self.server
            .serve(STAGE2TO3, stage2to3)
            .serve(STAGE3POST, document::stage3post(&setup))
            .serve(STAGE3_KERNEL, kernel.to_owned())
            .serve(STAGE3_INITRAMFS, initramfs)
            .serve(SETUP, SETUP_SCRIPT);
        Ok(())
    }

    fn serve_host(&self) {
        self.server.add_host(EpoxyHost {
            name: HOST.to_owned(),
            stage1_ipxe: self.server.http_url(STAGE1TO2),
            stage1: self.server.https_url(STAGE2TO3),
            stage2: self.server.https_url(STAGE2TO3),
            stage3: self.server.https_url(STAGE3POST),
            images_version: RELEASE.to_owned(),
        });
    }
}
