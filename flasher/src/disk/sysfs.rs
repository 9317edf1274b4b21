//! Whole disks, as sysfs shows them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use agent_types::disk::{Bus, Disk};

use super::{marker, usage, volumes};

/// sysfs counts in these, whatever the disk does.
const SIZE_UNIT_BYTES: u64 = 512;
/// What a disk of makers that do not say is taken to have.
const DEFAULT_SECTOR_BYTES: u64 = 512;

/// Where the kernel shows disks, and the disks themselves.
#[derive(Debug, Clone, Copy)]
pub struct Roots<'a> {
    /// `/sys`
    pub sysfs: &'a Path,
    /// `/proc`
    pub procfs: &'a Path,
    /// `/dev`
    pub dev: &'a Path,
}

/// All whole disks with a medium, by name. Arrays and volumes that are made of disks are none.
#[must_use]
pub fn disks(roots: Roots<'_>) -> Vec<Disk> {
    let entries = fs::read_dir(roots.sysfs.join("block")).into_iter().flatten();
    let mut blocks: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    blocks.sort();
    blocks.iter().filter_map(|block| disk(roots, block)).collect()
}

/// How much the disk reads and writes at once.
#[must_use]
pub fn sector_bytes(roots: Roots<'_>, name: &str) -> u64 {
    let file = roots.sysfs.join("block").join(name).join("queue/logical_block_size");
    line(&file).and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_SECTOR_BYTES)
}

fn disk(roots: Roots<'_>, block: &Path) -> Option<Disk> {
    let name = block.file_name()?.to_str()?.to_owned();
    let sectors: u64 = line(&block.join("size"))?.parse().ok()?;
    let is_disk = block.join("device").exists() || name.starts_with("loop");
    if sectors == 0 || !is_disk {
        return None;
    }
    let path = fs::canonicalize(block).unwrap_or_else(|_| block.to_owned());
    let bus = bus(&path, &name);
    let is_readonly = line(&block.join("ro")).as_deref() == Some("1");
    let mut disk = Disk {
        bus,
        size_bytes: sectors.saturating_mul(SIZE_UNIT_BYTES),
        vendor: line(&block.join("device/vendor")),
        model: line(&block.join("device/model")),
        serial: serial(block, &path, bus),
        volumes: Vec::new(),
        unfinished: None,
        why_not: is_readonly.then(|| "it is read-only".to_owned()),
        name,
    };
    disk.why_not = usage::user_of(block, roots.procfs).or(disk.why_not);
    look_inside(roots, &mut disk);
    Some(disk)
}

/// What the disk itself tells. One that cannot be read tells nothing, and is not written.
fn look_inside(roots: Roots<'_>, disk: &mut Disk) {
    let file = match File::open(roots.dev.join(&disk.name)) {
        Ok(file) => file,
        Err(error) => {
            disk.why_not.get_or_insert(format!("it cannot be read: {error}"));
            return;
        }
    };
    let read = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).map(|()| bytes)
    };
    let first = match read(0, 512) {
        Ok(first) => first,
        Err(error) => {
            disk.why_not.get_or_insert(format!("it cannot be read: {error}"));
            return;
        }
    };
    disk.unfinished = marker::read(&first);
    disk.volumes = match &disk.unfinished {
        Some(unfinished) => unfinished.volumes.clone(),
        None => volumes::volumes(&read, sector_bytes(roots, &disk.name)),
    };
}

/// A stick behind a card that is behind PCI has all of them on its path; the last one counts.
fn bus(path: &Path, name: &str) -> Bus {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let has = |prefix: &str| {
        parts.iter().any(|part| {
            let number = part.strip_prefix(prefix);
            number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    match () {
        () if name.starts_with("loop") => Bus::Loop,
        () if has("usb") => Bus::Usb,
        () if has("virtio") => Bus::Virtio,
        () if has("ata") => Bus::Ata,
        () if name.starts_with("nvme") => Bus::Nvme,
        () if name.starts_with("mmc") => Bus::Mmc,
        () if has("host") => Bus::Scsi,
        () => Bus::Other,
    }
}

/// Sticks have their number in USB's own words; disks in one of three places.
fn serial(block: &Path, path: &Path, bus: Bus) -> Option<String> {
    if bus == Bus::Usb {
        let device = path.ancestors().find(|device| device.join("idVendor").exists())?;
        return line(&device.join("serial"));
    }
    let page = || {
        // SPC-4, 7.8.15: four bytes before the number.
        let page = fs::read(block.join("device/vpd_pg80")).ok()?;
        let text = String::from_utf8_lossy(page.get(4..)?).trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    line(&block.join("serial")).or_else(|| line(&block.join("device/serial"))).or_else(page)
}

/// A file of one line; an empty one says nothing.
pub(super) fn line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?.trim_matches(['\0', ' ', '\n']).to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const STICK: &str =
        "devices/pci0000:00/0000:00:03.0/usb1/1-1/1-1:1.0/host2/target2:0:0/2:0:0:0";

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            machine.file("proc/self/mountinfo", "22 1 0:5 / /proc rw - proc proc rw\n");
            machine.file("proc/swaps", "Filename Type Size Used Priority\n");
            fs::create_dir_all(machine.0.path().join("sys/block")).unwrap();
            machine
        }

        fn file(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A disk of 1 MiB whose device is at `device` below sysfs.
        fn disk(&self, device: &str, name: &str, number: &str) {
            let block = format!("sys/{device}/block/{name}");
            self.file(&format!("{block}/size"), "2048\n");
            self.file(&format!("{block}/dev"), &format!("{number}\n"));
            self.file(&format!("{block}/ro"), "0\n");
            let root = self.0.path();
            symlink(root.join("sys").join(device), root.join(&block).join("device")).unwrap();
            symlink(root.join(&block), root.join("sys/block").join(name)).unwrap();
            self.file(&format!("dev/{name}"), "");
            fs::write(root.join("dev").join(name), vec![0; 1 << 20]).unwrap();
        }

        fn disks(&self) -> Vec<Disk> {
            let [sysfs, procfs, dev] = ["sys", "proc", "dev"].map(|name| self.0.path().join(name));
            disks(Roots { sysfs: &sysfs, procfs: &procfs, dev: &dev })
        }

        fn why_not(&self) -> Option<String> {
            self.disks().remove(0).why_not
        }
    }

    fn with_stick() -> Machine {
        let machine = Machine::new();
        machine.disk(STICK, "sda", "8:0");
        machine.file(&format!("sys/{STICK}/vendor"), "SanDisk \n");
        machine.file(&format!("sys/{STICK}/model"), "Ultra Fit       \n");
        let device = "sys/devices/pci0000:00/0000:00:03.0/usb1/1-1";
        machine.file(&format!("{device}/idVendor"), "0781\n");
        machine.file(&format!("{device}/serial"), "4C53\n");
        machine
    }

    #[test]
    fn a_stick_is_told_from_what_it_is_plugged_into() {
        let machine = with_stick();
        let expected = Disk {
            name: "sda".to_owned(),
            bus: Bus::Usb,
            size_bytes: 1 << 20,
            vendor: Some("SanDisk".to_owned()),
            model: Some("Ultra Fit".to_owned()),
            serial: Some("4C53".to_owned()),
            volumes: Vec::new(),
            unfinished: None,
            why_not: None,
        };
        assert_eq!(machine.disks(), [expected]);
    }

    #[test]
    fn every_bus_is_known() {
        let machine = Machine::new();
        for (device, name) in [
            ("devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0", "sda"),
            ("devices/pci0000:00/0000:00:04.0/host1/target1:0:0/1:0:0:0", "sdb"),
            ("devices/pci0000:00/0000:00:05.0/nvme/nvme0", "nvme0n1"),
            ("devices/pci0000:00/0000:00:06.0/virtio1", "vda"),
            ("devices/platform/mmc0/mmc0:0001", "mmcblk0"),
            ("devices/virtual", "loop0"),
            ("devices/usbish/thing", "xda"),
        ] {
            machine.disk(device, name, "1:1");
        }
        let buses: Vec<(String, Bus)> =
            machine.disks().into_iter().map(|disk| (disk.name, disk.bus)).collect();
        let expected = [
            ("loop0", Bus::Loop),
            ("mmcblk0", Bus::Mmc),
            ("nvme0n1", Bus::Nvme),
            ("sda", Bus::Ata),
            ("sdb", Bus::Scsi),
            ("vda", Bus::Virtio),
            ("xda", Bus::Other),
        ];
        assert_eq!(buses, expected.map(|(name, bus)| (name.to_owned(), bus)));
    }

    #[test]
    fn a_disk_that_is_used_says_by_whom() {
        let partition = format!("sys/{STICK}/block/sda/sda1");
        let mount = |number: &str, source: &str| {
            format!("36 35 {number} / /mnt rw shared:1 - vfat {source} rw\n")
        };
        let cases: [(&str, String, &str); 6] = [
            ("proc/self/mountinfo", mount("8:0", "/dev/x"), "sda is mounted on /mnt"),
            ("proc/self/mountinfo", mount("8:1", "/dev/x"), "sda1 is mounted on /mnt"),
            ("proc/self/mountinfo", mount("0:9", "/dev/sda1"), "sda1 is mounted on /mnt"),
            ("proc/swaps", "/dev/sda1 partition 1 0 -2\n".to_owned(), "sda1 holds swap"),
            (&format!("{partition}/holders/md0/x"), String::new(), "sda1 is part of md0"),
            (&format!("sys/{STICK}/block/sda/ro"), "1\n".to_owned(), "it is read-only"),
        ];
        for (file, text, expected) in cases {
            let machine = with_stick();
            machine.file(&format!("{partition}/partition"), "1\n");
            machine.file(&format!("{partition}/dev"), "8:1\n");
            assert_eq!(machine.why_not(), None);
            machine.file(file, &text);
            assert_eq!(machine.why_not().as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_reader_without_a_card_is_no_disk() {
        let machine = with_stick();
        machine.file(&format!("sys/{STICK}/block/sda/size"), "0\n");
        assert_eq!(machine.disks(), []);
    }
}
