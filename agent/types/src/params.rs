//! Every kernel parameter that this product reads: its name stands here and nowhere else.

use crate::cmdline::{Cmdline, Kargs};
use crate::digest::{ParseDigestError, Sha256Digest};
use crate::disk::{Fingerprint, ParseFingerprintError};
use crate::net::{NetworkChoice, NetworkConfig};

/// The network in the kernel's nfsroot grammar.
pub const IP: &str = "epoxy.ip";
/// The IPv4 network.
pub const IPV4: &str = "epoxy.ipv4";
/// The IPv6 network.
pub const IPV6: &str = "epoxy.ipv6";
/// The network interface.
pub const INTERFACE: &str = "epoxy.interface";
/// The host name.
pub const HOSTNAME: &str = "epoxy.hostname";
/// The address of the first stage's boot document.
pub const STAGE1: &str = "epoxy.stage1";
/// The address of the second stage's boot document.
pub const STAGE2: &str = "epoxy.stage2";
/// The address of the third stage's boot document.
pub const STAGE3: &str = "epoxy.stage3";
/// The address for reports.
pub const REPORT: &str = "epoxy.report";
/// The directory of ROMs for this machine's network card.
pub const MROM: &str = "epoxy.mrom";
/// The address of the manifest of ROMs for a fleet's network cards.
pub const ROM_MANIFEST: &str = "epoxy.rom_manifest";
/// The address that backups of network cards' chips are posted below.
pub const ROM_BACKUP: &str = "epoxy.rom_backup";
/// The address of the image for this machine's USB stick.
pub const USBISO: &str = "epoxy.usbiso";
/// What that image must be.
pub const USBISO_SHA256: &str = "epoxy.usbiso_sha256";
/// The disk that gets it.
pub const USBISO_TARGET: &str = "epoxy.usbiso_target";
/// The address of operators' public keys.
pub const SSH_KEYS: &str = "epoxy.ssh_keys";
/// What those keys must be.
pub const SSH_KEYS_SHA256: &str = "epoxy.ssh_keys_sha256";
/// The boot server's name.
pub const SERVER: &str = "epoxy.server";

/// The parameters that set up the network.
pub const NETWORK: &[&str] = &[IP, IPV4, IPV6, INTERFACE, HOSTNAME];

/// The network of a machine that is told none, as a value of [`IP`].
pub const DEFAULT_NETWORK: &str =
    "192.168.0.2::192.168.0.1:255.255.255.0:default-net:eth0::8.8.8.8:";

/// A kernel parameter as its documentation shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What its value looks like.
    pub format: &'static str,
    /// What holds if it is not given.
    pub default: &'static str,
    /// What it is for.
    pub meaning: &'static str,
}

/// All that this product reads. `ip=` is not among them: that one is the kernel's own.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: IP,
        format: "`client:server:gateway:netmask:hostname:device:autoconf:dns0:dns1:ntp0`, `dhcp` or \
                 `device:dhcp`",
        default: "`192.168.0.2::192.168.0.1:255.255.255.0:default-net:eth0::8.8.8.8:`",
        meaning: "The network, in the grammar of the kernel's `ip=`. Without an address: DHCP",
    },
    Parameter {
        name: IPV4,
        format: "`address/prefix,gateway,dns1,dns2`",
        default: "what `epoxy.ip` says",
        meaning: "The IPv4 network; wins over `epoxy.ip`",
    },
    Parameter {
        name: IPV6,
        format: "`address/prefix,gateway,dns1,dns2`",
        default: "no IPv6",
        meaning: "An IPv6 address beside the IPv4 one",
    },
    Parameter {
        name: INTERFACE,
        format: "name",
        default: "what `epoxy.ip` says, or `eth0` with `epoxy.ipv4`, or the first with a carrier",
        meaning: "The network interface",
    },
    Parameter {
        name: HOSTNAME,
        format: "name",
        default: "what `epoxy.ip` says, or its address, or `default-net` with `epoxy.ipv4`",
        meaning: "The host name",
    },
    Parameter {
        name: STAGE1,
        format: "URL",
        default: "`epoxy.stage2` is used",
        meaning: "Where the boot document is; its kernel parameters are added to those given here",
    },
    Parameter {
        name: STAGE2,
        format: "URL",
        default: "the machine waits in rescue",
        meaning: "Where the boot document is, if there is no `epoxy.stage1`",
    },
    Parameter {
        name: STAGE3,
        format: "URL",
        default: "none",
        meaning: "Read by `epoxy_client -action epoxy.stage3` in the next system",
    },
    Parameter {
        name: REPORT,
        format: "URL",
        default: "no report is sent",
        meaning: "Where the result of a boot attempt is reported",
    },
    Parameter {
        name: MROM,
        format: "URL",
        default: "no ROM is written",
        meaning: "In place of a boot: write `<URL>/<model>/<host name>.mrom` to the one network card \
                  that can be written, report, and restart. Needs an image with the flasher",
    },
    Parameter {
        name: ROM_MANIFEST,
        format: "URL",
        default: "no ROM is written",
        meaning: "As `epoxy.mrom`, with a manifest that says which card gets which ROM",
    },
    Parameter {
        name: ROM_BACKUP,
        format: "URL",
        default: "backups stay in the machine",
        meaning: "With `epoxy.mrom` or `epoxy.rom_manifest`: what a card holds is posted to \
                  `<URL>/<host name>/<file>` before anything is erased; unless that is accepted, \
                  nothing is",
    },
    Parameter {
        name: USBISO,
        format: "URL",
        default: "no disk is written",
        meaning: "In place of a boot: write this image to the machine's USB stick, report, and restart. \
                  Needs an image with the flasher and the flavour `disk`",
    },
    Parameter {
        name: USBISO_SHA256,
        format: "64 hexadecimal digits",
        default: "https alone proves the image",
        meaning: "The digest of that image; any other file is refused",
    },
    Parameter {
        name: USBISO_TARGET,
        format: "`bus=B,size=S,model=M,serial=S,label=L,fs=F`, or some of them",
        default: "`bus=usb,fs=vfat`",
        meaning: "The disk that gets it, as `flasher disk list` shows it: the only one that fits, or none",
    },
    Parameter {
        name: SSH_KEYS,
        format: "https URL",
        default: "the image's keys alone may log in",
        meaning: "Where more keys are that may log in, as `authorized_keys` lists them; fetched \
                  beside the boot, again and again until they are there",
    },
    Parameter {
        name: SSH_KEYS_SHA256,
        format: "64 hexadecimal digits",
        default: "https alone proves the keys",
        meaning: "The digest of that file; any other file is refused",
    },
    Parameter {
        name: SERVER,
        format: "host name",
        default: "none",
        meaning: "Not used by itself: boot documents can name it with `kargs`, as any parameter",
    },
];

/// [`PARAMETERS`] as a table in Markdown.
#[must_use]
pub fn markdown_table() -> String {
    let row = |p: &Parameter| {
        format!("| `{}` | {} | {} | {} |\n", p.name, p.format, p.default, p.meaning)
    };
    let head = "| Parameter | Format | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    head + &PARAMETERS.iter().map(row).collect::<String>()
}

/// What the boot role is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootParams {
    /// What boot documents see of the command line.
    pub kargs: Kargs,
    /// Which parameter names the boot document; none: there is nothing to do.
    pub action: Option<Action>,
    /// What is written in place of a boot.
    pub updates: Updates,
    /// Which parameter names the address for reports. The document of [`Action::Stage1`] may be the
    /// first to give it a value.
    pub report: &'static str,
    /// More keys may log in.
    pub ssh_keys: Option<SshKeys>,
    /// The network.
    pub network: NetworkChoice,
}

/// Where public keys of operators are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKeys {
    /// [`SSH_KEYS`].
    pub url: String,
    /// [`SSH_KEYS_SHA256`] as it was given: what is no digest must not count as none.
    pub sha256: Option<String>,
}

/// Network cards get ROMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RomUpdate {
    /// Where they are.
    pub source: RomSource,
    /// [`ROM_BACKUP`].
    pub backup: Option<String>,
}

/// What is written in place of a boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updates {
    /// Cards get ROMs.
    pub rom: Option<RomUpdate>,
    /// A disk gets an image.
    pub disk: Option<DiskUpdate>,
}

impl Updates {
    /// Is nothing to be written?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rom.is_none() && self.disk.is_none()
    }
}

/// Where the image for this machine's USB stick is, and which disk it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUpdate {
    /// [`USBISO`].
    pub url: String,
    /// [`USBISO_SHA256`] as it was given: what is no digest must not count as none.
    pub sha256: Option<String>,
    /// [`USBISO_TARGET`] as it was given: what is no fingerprint must not count as none.
    pub target: Option<String>,
}

impl DiskUpdate {
    /// What the image must be.
    ///
    /// # Errors
    /// It is no digest.
    pub fn digest(&self) -> Result<Option<Sha256Digest>, ParseDigestError> {
        self.sha256.as_deref().map(str::parse).transpose()
    }

    /// Which disk is meant; without a word about it, the only USB disk with a FAT file system.
    ///
    /// # Errors
    /// It is no fingerprint.
    pub fn fingerprint(&self) -> Result<Fingerprint, ParseFingerprintError> {
        self.target.as_deref().map_or(Ok(Fingerprint::usb_stick()), str::parse)
    }
}

/// Where ROMs for this machine's network cards are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RomSource {
    /// [`MROM`]: below this address, by model and host name.
    Directory(String),
    /// [`ROM_MANIFEST`]: where the manifest at this address says.
    Manifest(String),
}

/// The parameter that names the boot document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// [`STAGE1`]: the document's kernel parameters are taken over.
    Stage1,
    /// [`STAGE2`].
    Stage2,
}

impl Action {
    /// The parameter's name.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Stage1 => STAGE1,
            Self::Stage2 => STAGE2,
        }
    }
}

impl BootParams {
    /// Is there nothing to boot and nothing to write?
    #[must_use]
    pub const fn ask_for_nothing(&self) -> bool {
        self.action.is_none() && self.updates.is_empty()
    }

    /// Reads a command line, usually the contents of `/proc/cmdline`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let kargs = Kargs::of_machine(text);
        // A parameter without a value names nothing.
        let given = |key: &str| kargs.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
        let is_given = |action: &Action| given(action.key()).is_some();
        Self {
            action: [Action::Stage1, Action::Stage2].into_iter().find(is_given),
            updates: Updates {
                rom: given(MROM)
                    .map(RomSource::Directory)
                    .or_else(|| given(ROM_MANIFEST).map(RomSource::Manifest))
                    .map(|source| RomUpdate { source, backup: given(ROM_BACKUP) }),
                disk: given(USBISO).map(|url| DiskUpdate {
                    url,
                    sha256: given(USBISO_SHA256),
                    target: given(USBISO_TARGET),
                }),
            },
            report: REPORT,
            ssh_keys: given(SSH_KEYS).map(|url| SshKeys { url, sha256: given(SSH_KEYS_SHA256) }),
            network: NetworkConfig::from_cmdline(&Cmdline::parse(text)),
            kargs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage1_wins_over_stage2() {
        let cases = [
            ("quiet", None),
            ("epoxy.stage2=u", Some(Action::Stage2)),
            ("epoxy.stage1=u", Some(Action::Stage1)),
            ("epoxy.stage2=u epoxy.stage1=v", Some(Action::Stage1)),
            ("epoxy.stage2=u epoxy.stage1=", Some(Action::Stage2)),
            ("epoxy.stage1 epoxy.stage2", None),
            ("epoxy.stage3=u", None),
            ("quiet\tepoxy.stage2=u", Some(Action::Stage2)),
            ("quiet -- epoxy.stage2=u", Some(Action::Stage2)),
        ];
        for (text, action) in cases {
            assert_eq!(BootParams::parse(text).action, action, "{text:?}");
        }
    }

    #[test]
    fn an_update_is_asked_for_by_an_address() {
        let update = |text: &str| BootParams::parse(text).updates.rom;
        assert_eq!(update("epoxy.stage2=u epoxy.mrom="), None);
        let with = |source, backup: Option<&str>| {
            Some(RomUpdate { source, backup: backup.map(str::to_owned) })
        };
        let directory = RomSource::Directory("d".to_owned());
        assert_eq!(update("epoxy.mrom=d epoxy.rom_manifest=m"), with(directory, None));
        let manifest = RomSource::Manifest("m".to_owned());
        assert_eq!(update("epoxy.rom_manifest=m epoxy.rom_backup=b"), with(manifest, Some("b")));
        assert_eq!(update("epoxy.rom_backup=b"), None);
    }

    #[test]
    fn an_image_for_a_stick_goes_to_the_only_one_or_to_the_one_that_is_named() {
        let disk = |text: &str| BootParams::parse(text).updates.disk;
        assert_eq!(disk("epoxy.usbiso= epoxy.usbiso_target=serial=x"), None);
        let update = disk("epoxy.usbiso=u").unwrap();
        assert_eq!(update.fingerprint(), Ok(Fingerprint::usb_stick()));
        assert_eq!((update.url.as_str(), update.digest()), ("u", Ok(None)));
        let update = disk("epoxy.usbiso=u epoxy.usbiso_target=bus=usb,serial=x").unwrap();
        assert_eq!(update.fingerprint(), "bus=usb,serial=x".parse());
        let update = disk("epoxy.usbiso=u epoxy.usbiso_target=sda epoxy.usbiso_sha256=0a").unwrap();
        assert!(update.fingerprint().is_err() && update.digest().is_err());
    }

    #[test]
    fn keys_of_operators_have_an_address_and_maybe_a_digest() {
        let keys = |text: &str| BootParams::parse(text).ssh_keys;
        let at = |sha256: Option<&str>| {
            Some(SshKeys { url: "u".to_owned(), sha256: sha256.map(str::to_owned) })
        };
        assert_eq!(keys("epoxy.ssh_keys= epoxy.ssh_keys_sha256=0a"), None);
        assert_eq!(keys("epoxy.ssh_keys=u"), at(None));
        assert_eq!(keys("epoxy.ssh_keys=u epoxy.ssh_keys_sha256=0a"), at(Some("0a")));
    }

    #[test]
    fn every_parameter_has_one_row_in_the_table() {
        let table = markdown_table();
        assert_eq!(table.lines().count(), PARAMETERS.len() + 2);
        for name in NETWORK.iter().chain(&[
            STAGE1,
            STAGE2,
            STAGE3,
            REPORT,
            MROM,
            ROM_MANIFEST,
            ROM_BACKUP,
            USBISO,
            USBISO_SHA256,
            USBISO_TARGET,
            SERVER,
            SSH_KEYS,
            SSH_KEYS_SHA256,
        ]) {
            let rows = table.lines().filter(|row| row.starts_with(&format!("| `{name}` |")));
            assert_eq!(rows.count(), 1, "{name}");
        }
    }

    #[test]
    fn no_cell_breaks_the_table() {
        assert!(PARAMETERS.iter().all(|p| !(p.format.contains('|') || p.meaning.contains('|'))));
    }
}
