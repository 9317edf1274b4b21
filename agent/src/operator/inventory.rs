//! `stage2 inventory`: what the machine is made of, as far as the kernel has found it.
//!
//! What a kernel or a machine does not tell is left out.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::Form;
use crate::meminfo;
use crate::size::Size;

pub(super) fn show(form: Form, out: &mut impl Write) -> io::Result<()> {
    let inventory = Inventory::read(Path::new("/"));
    match form {
        Form::Text => write!(out, "{inventory}"),
        Form::Json => writeln!(out, "{}", serde_json::to_string(&inventory)?),
    }
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Inventory {
    /// Maker, model and serial number, as the firmware has them.
    machine: Vec<String>,
    processors: usize,
    processor: Option<String>,
    memory_bytes: u64,
    cards: Vec<Card>,
    disks: Vec<Disk>,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Card {
    interface: String,
    mac: Option<String>,
    driver: Option<String>,
    /// `vendor:device` on the PCI bus.
    pci: Option<String>,
    /// Where on the bus.
    slot: Option<String>,
}

/// A disk, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Disk {
    name: String,
    size_bytes: u64,
    model: Option<String>,
}

/// The block layer counts in these, whatever the disk does.
const SECTOR_BYTES: u64 = 512;

impl Inventory {
    /// `root` has `proc` and `sys`.
    fn read(root: &Path) -> Self {
        let cpuinfo = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let sysfs = root.join("sys");
        Self {
            machine: machine(&sysfs),
            processors: values(&cpuinfo, "processor").count(),
            processor: values(&cpuinfo, "model name").next().map(str::to_owned),
            memory_bytes: meminfo::bytes(&meminfo, "MemTotal").unwrap_or_default(),
            cards: entries(&sysfs.join("class/net")).iter().filter_map(|path| card(path)).collect(),
            disks: entries(&sysfs.join("block")).iter().filter_map(|path| disk(path)).collect(),
        }
    }
}

fn machine(sysfs: &Path) -> Vec<String> {
    let dmi = sysfs.join("class/dmi/id");
    let names = ["sys_vendor", "product_name", "product_serial"];
    names.iter().filter_map(|name| line(&dmi.join(name))).collect()
}

/// The values of all lines `key : value`.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(move |(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

/// Interfaces that are made of other ones have no device.
fn card(path: &Path) -> Option<Card> {
    let device = path.join("device");
    if !device.exists() {
        return None;
    }
    let bus = pci_device(&device);
    let id = |name| Some(line(&bus.as_ref()?.join(name))?.trim_start_matches("0x").to_owned());
    Some(Card {
        interface: name(path)?,
        mac: line(&path.join("address")),
        driver: fs::read_link(device.join("driver")).ok().and_then(|driver| name(&driver)),
        pci: id("vendor").zip(id("device")).map(|(vendor, device)| format!("{vendor}:{device}")),
        slot: bus.as_deref().and_then(name),
    })
}

/// The card on the bus, which virtio hides one level down.
fn pci_device(device: &Path) -> Option<PathBuf> {
    let device = device.canonicalize().ok()?;
    let is_pci = |path: &&Path| path.join("class").exists() && path.join("vendor").exists();
    device.ancestors().take(2).find(is_pci).map(Path::to_owned)
}

/// Disks in memory and files as disks have no device.
fn disk(path: &Path) -> Option<Disk> {
    let device = path.join("device");
    let sectors: u64 = line(&path.join("size"))?.parse().ok()?;
    device.exists().then_some(())?;
    Some(Disk {
        name: name(path)?,
        size_bytes: sectors.saturating_mul(SECTOR_BYTES),
        model: line(&device.join("model")),
    })
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}

fn line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.machine.is_empty() {
            writeln!(f, "machine    {}", self.machine.join(", "))?;
        }
        let processor = self.processor.as_deref().unwrap_or("of a kind that is not told");
        writeln!(f, "processors {}, {processor}", self.processors)?;
        writeln!(f, "memory     {}", Size(self.memory_bytes))?;
        for card in &self.cards {
            write!(f, "card       {}", card.interface)?;
            for value in [&card.mac, &card.driver, &card.pci].into_iter().flatten() {
                write!(f, ", {value}")?;
            }
            writeln!(
                f,
                "{}",
                card.slot.as_ref().map_or(String::new(), |slot| format!(" at {slot}"))
            )?;
        }
        for Disk { name, size_bytes, model } in &self.disks {
            let model = model.as_ref().map_or(String::new(), |model| format!(", {model}"));
            writeln!(f, "disk       {name}, {}{model}", Size(*size_bytes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A machine with one card behind virtio, a loopback, and a disk.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: QEMU\n\nprocessor\t: 1\nmodel name\t: QEMU\n",
        );
        write("proc/meminfo", "MemTotal:         262144 kB\nMemFree: 1 kB\n");
        write("sys/class/dmi/id/sys_vendor", "QEMU\n");
        write("sys/class/dmi/id/product_name", "Standard PC\n");
        write("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        write("sys/class/net/eth0/address", "52:54:00:73:74:32\n");
        write("sys/devices/0000:00:02.0/class", "0x020000\n");
        write("sys/devices/0000:00:02.0/vendor", "0x1af4\n");
        write("sys/devices/0000:00:02.0/device", "0x1000\n");
        write("sys/devices/0000:00:02.0/virtio0/vendor", "0x1af4\n");
        write("sys/drivers/virtio_net/x", "");
        write("sys/block/sda/size", "2048\n");
        write("sys/block/sda/device/model", "DISK  \n");
        write("sys/block/ram0/size", "8192\n");
        let link =
            |to: &str, at: &str| symlink(root.path().join(to), root.path().join(at)).unwrap();
        link("sys/devices/0000:00:02.0/virtio0", "sys/class/net/eth0/device");
        link("sys/drivers/virtio_net", "sys/devices/0000:00:02.0/virtio0/driver");
        root
    }

    #[test]
    fn the_machine_is_shown_as_far_as_it_is_known() {
        let expected = "\
machine    QEMU, Standard PC
processors 2, QEMU
memory     256.0 MiB
card       eth0, 52:54:00:73:74:32, virtio_net, 1af4:1000 at 0000:00:02.0
disk       sda, 1.0 MiB, DISK
";
        assert_eq!(Inventory::read(root().path()).to_string(), expected);
    }

    #[test]
    fn a_machine_that_tells_nothing_is_shown_too() {
        let nothing = Inventory::read(Path::new("/no/such/root"));
        let expected = "processors 0, of a kind that is not told\nmemory     0 B\n";
        assert_eq!(nothing.to_string(), expected);
    }
}
