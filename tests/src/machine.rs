//! What machine is to be emulated, as a value, and the QEMU command line that makes it.

use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The first network card's address; `dnsmasq` and tests refer to it.
pub const MAC: &str = "52:54:00:73:74:32";

/// QEMU's name of the first network card, for pulling its cable.
pub const CARD: &str = "card0";

/// The name of QEMU's control socket.
pub(crate) const CONTROL: &str = "control";

/// The name of the second serial port's socket.
pub(crate) const SECOND_SERIAL: &str = "second-serial";

/// How the host is known inside QEMU's user network.
pub const USER_NETWORK_HOST: &str = "192.168.0.1";

/// The address that QEMU's user network gives to the machine.
pub const USER_NETWORK_GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);

/// The name that QEMU's user network gives to the machine.
pub const HOSTNAME: &str = "mlab1.stage2.test";

/// A PC chipset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chipset {
    /// PCI Express, since 2009.
    #[default]
    Q35,
    /// PCI only.
    I440fx,
}

/// What runs before a boot loader or a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Firmware {
    /// A PC BIOS: SeaBIOS.
    #[default]
    Bios,
    /// UEFI: OVMF, which begins with the settings that Debian ships.
    Efi,
}

/// Debian's package `ovmf`: the program, and the settings of a machine as it leaves the factory.
const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];

/// Whether a network card brings a boot ROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rom {
    /// None: the card cannot boot.
    None,
    /// iPXE: Debian's QEMU gives each model the ROM that package `ipxe-qemu` has for it.
    Ipxe,
    /// This file, as a card would carry it in its flash.
    File(PathBuf),
}

/// What a network card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// QEMU's user network `192.168.0.0/24`, with DHCP and TFTP of its own.
    User(UserNetwork),
    /// A tap that exists already, by name.
    Tap(String),
}

/// What QEMU's user network offers to a machine that boots from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserNetwork {
    /// The directory that is served by TFTP.
    pub tftp: Option<PathBuf>,
    /// The file that DHCP tells.
    pub bootfile: Option<String>,
    /// Whether a port of this host leads to the ssh server of the machine at
    /// [`USER_NETWORK_GUEST`]; QEMU chooses it, see [`crate::qmp::Qmp::ssh_port`].
    pub ssh: bool,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// QEMU's name of the model.
    pub model: String,
    /// Its boot ROM.
    pub rom: Rom,
    /// What it is plugged into.
    pub wire: Wire,
}

impl Card {
    /// A card without a boot ROM in QEMU's user network.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Self { model: model.to_owned(), rom: Rom::None, wire: Wire::User(UserNetwork::default()) }
    }

    /// The same card with iPXE in its boot ROM.
    #[must_use]
    pub fn with_ipxe(self) -> Self {
        Self { rom: Rom::Ipxe, ..self }
    }

    /// The same card with this file in its boot ROM.
    #[must_use]
    pub fn with_rom(self, file: &Path) -> Self {
        Self { rom: Rom::File(file.to_owned()), ..self }
    }

    /// The same card plugged in elsewhere.
    #[must_use]
    pub fn on(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }
}

/// What happens when the machine restarts itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRestart {
    /// QEMU ends, which a test can wait for.
    #[default]
    End,
    /// It boots again.
    BootAgain,
}

/// A machine to be emulated.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The chipset.
    pub chipset: Chipset,
    /// The firmware.
    pub firmware: Firmware,
    /// How much memory it has.
    pub memory_mib: u32,
    /// A kernel that QEMU loads itself, without firmware or network.
    pub kernel: Option<PathBuf>,
    /// The initramfs for that kernel.
    pub initramfs: Option<PathBuf>,
    /// The command line for that kernel.
    pub cmdline: OsString,
    /// A directory that it sees as a disk with a FAT file system, and boots from unless its first card
    /// does.
    pub disk: Option<PathBuf>,
    /// Network cards.
    pub cards: Vec<Card>,
    /// Whether there is a VGA card, which takes the firmware's output from the serial console.
    pub vga: bool,
    /// Whether it has a second serial port, which is [`crate::vm::Vm::second_console`].
    pub second_serial: bool,
    /// Whether it waits for [`crate::qmp::Qmp::resume`] before its first instruction.
    pub paused: bool,
    /// What a restart does.
    pub on_restart: OnRestart,
    /// Arguments for QEMU as they are.
    pub extra: Vec<OsString>,
}

/// The kernel's check whether the timer ticks goes wrong, and the kernel panics, where the host is too
/// busy to emulate some ticks in time.
const NO_TIMER_CHECK: &str = " no_timer_check";

impl Machine {
    /// A machine that boots from its first network card.
    #[must_use]
    pub fn new(memory_mib: u32) -> Self {
        Self { memory_mib, ..Self::default() }
    }

    /// A machine that QEMU boots directly.
    #[must_use]
    pub fn with_kernel(self, kernel: &Path, initramfs: Option<&Path>, cmdline: &str) -> Self {
        Self {
            kernel: Some(kernel.to_owned()),
            initramfs: initramfs.map(Path::to_owned),
            cmdline: cmdline.into(),
            ..self
        }
    }

    /// The machine with one more network card.
    #[must_use]
    pub fn with_card(mut self, card: Card) -> Self {
        self.cards.push(card);
        self
    }

    /// Everything on QEMU's command line; its sockets will be in `sockets`.
    pub(crate) fn arguments(&self, accelerator: &str, sockets: &Path) -> Vec<OsString> {
        let chipset = match self.chipset {
            Chipset::Q35 => "q35",
            Chipset::I440fx => "pc",
        };
        // Without graphics the firmware and iPXE write to the serial console.
        let graphics = if self.vga { "on" } else { "off" };
        let mut arguments: Vec<OsString> = [
            "-no-user-config",
            "-nodefaults",
            "-display",
            "none",
            "-cpu",
            "max",
            "-smp",
            "1",
            "-accel",
            accelerator,
            "-serial",
            "stdio",
        ]
        .map(OsString::from)
        .into();
        let mut add = |key: &str, value: &OsStr| arguments.extend([key.into(), value.to_owned()]);
        add("-machine", format!("{chipset},graphics={graphics}").as_ref());
        add("-m", self.memory_mib.to_string().as_ref());
        add("-qmp", &joined("unix:", &sockets.join(CONTROL), ",server=on,wait=off"));
        if let Some(kernel) = &self.kernel {
            add("-kernel", kernel.as_ref());
            let mut cmdline = self.cmdline.clone();
            cmdline.push(NO_TIMER_CHECK);
            add("-append", &cmdline);
        }
        if let Some(initramfs) = &self.initramfs {
            add("-initrd", initramfs.as_ref());
        }
        if self.firmware == Firmware::Efi {
            for file in OVMF {
                let flash = "if=pflash,format=raw,snapshot=on,file=";
                add("-drive", &joined(flash, file.as_ref(), ""));
            }
        }
        if let Some(directory) = &self.disk {
            let disk = "if=none,id=disk,format=raw,readonly=on,file=fat:";
            add("-drive", &joined(disk, directory, ""));
            add("-device", "virtio-blk-pci,drive=disk,bootindex=2".as_ref());
        }
        if self.second_serial {
            // QEMU waits until somebody listens.
            add("-serial", &joined("unix:", &sockets.join(SECOND_SERIAL), ",server=on,wait=on"));
        }
        if self.vga {
            add("-vga", "std".as_ref());
        }
        for (number, card) in self.cards.iter().enumerate() {
            add("-netdev", &card.netdev(number));
            add("-device", &card.device(number));
        }
        if self.paused {
            arguments.push("-S".into());
        }
        if self.on_restart == OnRestart::End {
            arguments.push("-no-reboot".into());
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

impl Card {
    fn netdev(&self, number: usize) -> OsString {
        match &self.wire {
            Wire::Tap(name) => {
                format!("tap,id=wire{number},ifname={name},script=no,downscript=no").into()
            }
            Wire::User(user) => {
                let mut netdev = OsString::from(format!(
                    "user,id=wire{number},net=192.168.0.0/24,host={USER_NETWORK_HOST},\
                     dhcpstart={USER_NETWORK_GUEST},dns=192.168.0.3,hostname={HOSTNAME}"
                ));
                if let Some(tftp) = &user.tftp {
                    netdev.push(joined(",tftp=", tftp, ""));
                }
                if let Some(bootfile) = &user.bootfile {
                    netdev.push(format!(",bootfile={bootfile}"));
                }
                if user.ssh {
                    netdev.push(format!(",hostfwd=tcp:127.0.0.1:0-{USER_NETWORK_GUEST}:22"));
                }
                netdev
            }
        }
    }

    fn device(&self, number: usize) -> OsString {
        let Self { model, .. } = self;
        let mac = MAC.replace("32", &format!("{:02x}", 0x32 + number));
        let mut device =
            OsString::from(format!("{model},id=card{number},netdev=wire{number},mac={mac}"));
        match &self.rom {
            Rom::None => device.push(",romfile="),
            Rom::Ipxe => {}
            Rom::File(file) => device.push(joined(",romfile=", file, "")),
        }
        if number == 0 && self.rom != Rom::None {
            // A kernel that QEMU loads itself has 0.
            device.push(",bootindex=1");
        }
        device
    }
}

fn joined(before: &str, path: &Path, after: &str) -> OsString {
    let mut text = OsString::from(before);
    text.push(path);
    text.push(after);
    text
}
