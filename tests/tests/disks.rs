//! The flavour disk: an operator mends an installed system with Debian's tools and `stage2 chroot`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vmtest::certificate::Presented;
use vmtest::command;
use vmtest::image::Image;
use vmtest::machine::Machine;
use vmtest::scenario::{HOST, Scenario};
use vmtest::shell::answer;
use vmtest::vm::Vm;

const END: Duration = Duration::from_secs(120);
const MEMORY_MIB: u32 = 512;
/// mkfs.xfs of Debian 12 makes no smaller ones.
const SMALLEST_XFS_MIB: u64 = 320;
const BOOT_UUID: &str = "0d6a4f5e-5f0b-4d2c-9a1c-2f3e4d5c6b7a";

/// A root as small as one can be, and the file system that it wants on /boot.
fn installed_system(directory: &Path) -> anyhow::Result<[PathBuf; 2]> {
    let root = directory.join("root");
    for name in ["bin", "boot", "dev", "etc", "proc", "run", "sys"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in ["sh", "cat", "grep", "ls", "mount"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let fstab = format!(
        "/dev/vda / ext4 defaults 0 1\nUUID={BOOT_UUID} /boot ext4 defaults 0 2\n\
         UUID=00000000-0000-0000-0000-000000000000 /var ext4 defaults 0 2\n"
    );
    fs::write(root.join("etc/fstab"), fstab)?;
    fs::create_dir(directory.join("boot"))?;
    fs::write(directory.join("boot/grub.cfg"), "set timeout=5\n")?;
    let root = disk(directory, "root", &["-t", "ext4"])?;
    Ok([root, disk(directory, "boot", &["-t", "ext4", "-U", BOOT_UUID])?])
}

/// A disk of 16 MiB with the directory of that name on it.
fn disk(directory: &Path, name: &str, how: &[&str]) -> anyhow::Result<PathBuf> {
    let disk = empty_disk(directory, name)?;
    let mut mke2fs = Command::new("/sbin/mke2fs");
    mke2fs.args(["-q", "-E", "root_owner=0:0", "-d"]).arg(directory.join(name)).args(how);
    command::output(mke2fs.arg(&disk))?;
    Ok(disk)
}

fn empty_disk(directory: &Path, name: &str) -> anyhow::Result<PathBuf> {
    disk_of(directory, name, 16)
}

fn disk_of(directory: &Path, name: &str, mib: u64) -> anyhow::Result<PathBuf> {
    let disk = directory.join(name).with_extension("img");
    fs::File::create(&disk)?.set_len(mib << 20)?;
    Ok(disk)
}

/// The contents of a file on a disk that no machine uses.
fn file_on(disk: &Path, path: &str) -> anyhow::Result<String> {
    let cat = format!("cat {path}");
    command::output(Command::new("/sbin/debugfs").args(["-R", &cat]).arg(disk))
}

/// Models of disks that QEMU has.
const VIRTIO: &str = "virtio-blk-pci";
const NVME: &str = "nvme,serial=stage2";

fn with_disks(mut machine: Machine, disks: &[(PathBuf, &str)]) -> Machine {
    for (number, (disk, model)) in disks.iter().enumerate() {
        let drive = format!("if=none,id=hd{number},format=raw,file={}", disk.display());
        let device = format!("{model},drive=hd{number}");
        machine.extra.extend(["-drive".into(), drive.into(), "-device".into(), device.into()]);
    }
    machine
}

/// Boots a machine with nothing to do, so that PID 1 opens a shell.
fn boot(scenario: &Scenario, disks: &[(PathBuf, &str)]) -> anyhow::Result<Vm> {
    let ip = format!("192.168.0.2::192.168.0.1:255.255.255.0:{HOST}:eth0:off::");
    let machine = scenario.machine_with(&format!("net.ifnames=0 epoxy.ip={ip}"));
    let machine = with_disks(Machine { memory_mib: MEMORY_MIB, ..machine }, disks);
    let mut vm = scenario.start(&machine)?;
    vm.expect("nobody can log in: starting a shell on the console")?;
    vm.expect("`stage2 --help` tells what you can do")?;
    Ok(vm)
}

/// What a command answers that must succeed.
fn done(vm: &mut Vm, command: &str) -> anyhow::Result<String> {
    let (text, status) = answer(vm, command)?;
    anyhow::ensure!(status == 0, "{command} ended with {status}: {text}");
    Ok(text)
}

#[test]
fn an_installed_system_is_entered_and_mended() -> anyhow::Result<()> {
    let image = Image::with_flasher_and_disks()?;
    let scenario = Scenario::with_image(image, Presented::Good)?;
    let directory = tempfile::tempdir()?;
    let [root, boot_disk] = installed_system(directory.path())?;
    let spare = empty_disk(directory.path(), "spare")?;
    let mut vm =
        boot(&scenario, &[root.clone(), boot_disk.clone(), spare].map(|disk| (disk, VIRTIO)))?;

    let checked = done(&mut vm, "e2fsck -f -n /dev/vda")?;
    assert!(checked.contains("Pass 5: Checking group summary information"), "{checked}");

    let script = "echo mended > /written; echo set timeout=0 > /boot/grub.cfg; \
                  ls /dev/vda /proc/1/stat /sys/block/vda/size /run/stage2/state.json; \
                  cat /etc/fstab";
    let text = done(&mut vm, &format!("stage2 chroot /dev/vda sh -c '{script}'"))?;
    assert!(text.contains("left out /var: cannot find UUID=00000000"), "{text}");
    assert!(text.contains("/sys/block/vda/size\n") && text.contains("/dev/vda / ext4"), "{text}");
    assert!(!text.contains("No such file"), "{text}");
    let mounts = done(&mut vm, "cat /proc/mounts")?;
    assert!(!mounts.contains("/mnt") && !mounts.contains("/dev/vd"), "{mounts}");

    // Without a command it is a shell of that system.
    done(&mut vm, "echo 'echo shell > /by-shell' | stage2 chroot /dev/vda")?;
    for (command, expected) in [
        ("stage2 chroot /dev/sdz", "cannot find /dev/sdz: `stage2 inventory` lists the disks"),
        ("stage2 chroot /dev/vdc", "expected ext2, ext3, ext4, xfs or vfat on /dev/vdc, got none"),
        ("stage2 chroot /dev/vdb", "expected the root of a system on /dev/vdb, got a file system"),
        ("stage2 chroot /dev/vda sh -c 'exit 3'", "the command ended with exit status: 3"),
    ] {
        let (text, status) = answer(&mut vm, command)?;
        assert!(text.contains(expected) && status == 1, "{command}: {status}: {text}");
    }
    done(&mut vm, "e2fsck -f -n /dev/vda")?;
    let left = "stage2 chroot /dev/vda sh -c 'busybox sleep 1000 &'";
    let (text, status) = answer(&mut vm, left)?;
    assert!(text.contains("something that was started inside still runs") && status == 1, "{text}");

    vm.type_line("stage2 poweroff")?;
    assert!(vm.wait_exit(END)?.success());
    assert_eq!(file_on(&root, "/written")?, "mended\n");
    assert_eq!(file_on(&root, "/by-shell")?, "shell\n");
    assert_eq!(file_on(&boot_disk, "/grub.cfg")?, "set timeout=0\n");
    Ok(())
}

#[test]
fn a_root_on_lvm_is_made_and_entered_with_debians_tools() -> anyhow::Result<()> {
    let image = Image::with_flasher_and_disks()?;
    let scenario = Scenario::with_image(image, Presented::Good)?;
    let directory = tempfile::tempdir()?;
    let disks = ["a", "b", "c"].map(|name| (empty_disk(directory.path(), name).unwrap(), VIRTIO));
    let mut vm = boot(&scenario, &disks)?;
    for command in [
        // With these, lvm waits for udev.
        "test -e /proc/sysvipc/sem",
        "pvcreate -q /dev/vda && vgcreate -q vg /dev/vda && lvcreate -q -y -L 8M -n root vg",
        "mkfs.ext4 -q /dev/vg/root && e2fsck -f -p /dev/vg/root",
        "mkdir /tmp/r && mount -t ext4 /dev/vg/root /tmp/r && cd /tmp/r && mkdir bin dev proc run \
         sys && cp /bin/busybox bin/ && ln -s busybox bin/sh && cd / && umount /tmp/r",
        "vgchange -q -an vg && vgchange -q -ay vg",
        "stage2 chroot /dev/vg/root busybox echo inside",
        "mdadm --create /dev/md0 --run --level=1 --raid-devices=2 /dev/vdb /dev/vdc",
        "mdadm --detail /dev/md0 | grep raid1 && mdadm --stop /dev/md0",
        "parted -s /dev/vdb mklabel gpt mkpart one 1MiB 8MiB print",
        "mkfs.xfs -V && xfs_repair -V && nvme version",
    ] {
        let said = done(&mut vm, command)?;
        assert!(!said.contains("emaphore") && !said.contains("not implemented"), "{said}");
    }
    vm.type_line("stage2 poweroff")?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}

/// A FAT16 file system of 8 MiB with nothing on it and the volume id 2F3E-4D5C, as Microsoft's
/// *FAT32 File System Specification* has it: Debian's tools for it are in no flavour.
fn empty_fat() -> Vec<u8> {
    const SECTORS: u16 = 16384;
    const SECTORS_OF_A_TABLE: u16 = 33;
    let mut sector = b"\xeb\x3c\x90stage2  ".to_vec();
    // Bytes in a sector, sectors in a cluster, sectors before the tables, tables, entries of the root.
    sector.extend([&[0, 2], &[2][..], &[1, 0], &[2], &[0, 2]].concat());
    sector
        .extend([&SECTORS.to_le_bytes()[..], &[0xf8], &SECTORS_OF_A_TABLE.to_le_bytes()].concat());
    sector.extend(b"\x20\0\x02\0\0\0\0\0\0\0\0\0\x80\0\x29\x5c\x4d\x3e\x2fEFI        FAT16   ");
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let mut disk = vec![0; usize::from(SECTORS) * 512];
    disk[..512].copy_from_slice(&sector);
    for table in [1, 1 + usize::from(SECTORS_OF_A_TABLE)] {
        disk[table * 512..][..4].copy_from_slice(&[0xf8, 0xff, 0xff, 0xff]);
    }
    disk
}

/// Makes a root on the first SATA disk and an EFI partition on the NVMe disk, as an installer does.
const INSTALL: [&str; 4] = [
    "parted -s /dev/nvme0n1 mklabel gpt mkpart EFI fat32 1MiB 15MiB set 1 esp on",
    "dd if=/dev/sdb of=/dev/nvme0n1p1 bs=1M count=8 && \
     dd if=/dev/zero of=/dev/sdb bs=1M count=1 && mkfs.xfs -q /dev/sda",
    "mkdir /tmp/r && mount -t xfs /dev/sda /tmp/r && cd /tmp/r && \
     mkdir -p bin boot/efi dev etc proc run sys && \
     echo UUID=2F3E-4D5C /boot/efi vfat umask=0077 0 1 >etc/fstab",
    "cp /bin/busybox bin/ && ln -s busybox bin/sh && cd / && umount /tmp/r",
];

#[test]
fn an_xfs_root_on_sata_with_its_efi_partition_on_nvme_is_entered() -> anyhow::Result<()> {
    let image = Image::with_flasher_and_disks()?;
    let scenario = Scenario::with_image(image, Presented::Good)?;
    let directory = tempfile::tempdir()?;
    let sata = disk_of(directory.path(), "sata", SMALLEST_XFS_MIB)?;
    let nvme = empty_disk(directory.path(), "nvme")?;
    let fat = directory.path().join("fat.img");
    fs::write(&fat, empty_fat())?;
    // Each SATA disk has a port of its own.
    let sata = [(sata, "ide-hd,bus=ide.0"), (fat, "ide-hd,bus=ide.1")];
    let mut vm = boot(&scenario, &[&sata[..], &[(nvme, NVME)]].concat())?;
    for command in INSTALL {
        done(&mut vm, command)?;
    }
    let script = "echo mended >/written; echo loader >/boot/efi/loader.txt; \
                  busybox grep -c -e ' / xfs ' -e ' /boot/efi vfat ' /proc/mounts";
    let said = done(&mut vm, &format!("stage2 chroot /dev/sda sh -c \"{script}\""))?;
    assert!(said.lines().any(|line| line == "2"), "{said}");
    let mounts = done(&mut vm, "cat /proc/mounts")?;
    assert!(!mounts.contains("/dev/sda") && !mounts.contains("nvme"), "{mounts}");
    done(&mut vm, "xfs_repair -n /dev/sda")?;
    let written = "mkdir -p /tmp/e && mount -t xfs -o ro /dev/sda /tmp/r && \
                   mount -t vfat -o ro /dev/nvme0n1p1 /tmp/e && cat /tmp/r/written /tmp/e/loader.txt";
    assert!(done(&mut vm, written)?.contains("mended\nloader"));
    // The EFI partition is no system, and says so.
    let (said, status) = answer(&mut vm, "umount /tmp/e; stage2 chroot /dev/nvme0n1p1")?;
    assert!(said.contains("expected the root of a system on /dev/nvme0n1p1"), "{said}");
    assert_eq!(status, 1);
    let (inventory, _) = answer(&mut vm, "stage2 inventory")?;
    assert!(inventory.contains("sda") && inventory.contains("nvme0n1"), "{inventory}");
    vm.type_line("umount /tmp/r; stage2 poweroff")?;
    assert!(vm.wait_exit(END)?.success());
    Ok(())
}
