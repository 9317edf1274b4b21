//! A real flash driver: QEMU's parallel flash below the firmware, the kernel's MTD partitions, and
//! libflashrom's `linux_mtd`, with the library's closure packed as for a real ramdisk.
//!
//! Run with `--ignored` and a kernel that has `kernel-config/flash.config`, named by the variable
//! `FLASHER_TEST_KERNEL`. Killing QEMU is a loss of power: what was written to the flash stays.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const CHIP_BYTES: usize = 1 << 20;
/// Where the partition `oprom` is, and what is beside it.
const PARTS: &str = "mtdparts=physmap-flash.0:256k(config)ro,256k(oprom),384k(odd),-(rest)";
const OPROM: usize = 256 * 1024;
const ROM: &str = "/usr/lib/ipxe/qemu/efi-e1000e.rom";
const FIRMWARE: &str = "/usr/share/seabios/bios-256k.bin";
const BOOT_LIMIT: Duration = Duration::from_secs(180);

const INIT: &str = "\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
sh /commands 2>&1
echo ALL DONE
poweroff -f
";

struct Machine {
    directory: TempDir,
    old: Vec<u8>,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let old: Vec<u8> = (0..CHIP_BYTES).map(|at| (at / 5 % 241) as u8).collect();
        fs::write(directory.path().join("flash.bin"), &old).unwrap();
        fs::copy(FIRMWARE, directory.path().join("bios.bin")).unwrap();
        Self { directory, old }
    }

    fn flash(&self) -> Vec<u8> {
        fs::read(self.directory.path().join("flash.bin")).unwrap()
    }

    fn programmed(&self) -> Vec<u8> {
        let rom = fs::read(ROM).unwrap();
        let mut content = self.old.clone();
        content[OPROM..OPROM + rom.len()].copy_from_slice(&rom);
        // The ROM ends with an erase block: nothing is padded.
        assert_eq!(rom.len() % 4096, 0);
        content
    }

    /// Boots, runs `commands`, and returns what the console said, up to `until`: then the machine
    /// loses power.
    fn boot(&self, commands: &str, until: &str) -> String {
        let initramfs = self.directory.path().join("initramfs");
        pack(&initramfs, commands);
        let mut qemu = self.start(&initramfs);
        let (sender, receiver) = mpsc::channel();
        let output = BufReader::new(qemu.stdout.take().unwrap());
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        let deadline = Instant::now() + BOOT_LIMIT;
        let mut console = String::new();
        while let Ok(line) = receiver.recv_timeout(deadline - Instant::now()) {
            console.push_str(&line);
            console.push('\n');
            if line.contains(until) {
                break;
            }
        }
        qemu.kill().unwrap();
        qemu.wait().unwrap();
        assert!(console.contains(until), "{console}");
        console
    }

    fn start(&self, initramfs: &Path) -> Child {
        let drive = |unit: u8, more: &str, name: &str| {
            let path = self.directory.path().join(name);
            format!("if=pflash,unit={unit},format=raw{more},file={}", path.display())
        };
        Command::new("qemu-system-x86_64")
            .args(["-M", "q35", "-accel", "tcg", "-m", "256", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio", "-net", "none"])
            .args(["-drive", &drive(0, ",readonly=on", "bios.bin")])
            .args(["-drive", &drive(1, "", "flash.bin")])
            .args(["-kernel", &kernel(), "-initrd", initramfs.to_str().unwrap()])
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 rdinit=/init {PARTS}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86 is installed")
    }
}

fn kernel() -> String {
    std::env::var("FLASHER_TEST_KERNEL").expect("FLASHER_TEST_KERNEL names a kernel")
}

/// Packs busybox, the flasher with every library that it needs, the ROM and the commands.
fn pack(initramfs: &Path, commands: &str) {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path.trim_start_matches('/'));
    for directory in ["bin", "sbin", "dev", "proc", "sys", "var/lib", "tmp"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    fs::copy("/bin/busybox", at("/bin/busybox")).unwrap();
    let flasher = env!("CARGO_BIN_EXE_flasher");
    fs::copy(flasher, at("/sbin/flasher")).unwrap();
    for library in libraries(flasher) {
        fs::create_dir_all(at(library.parent().unwrap().to_str().unwrap())).unwrap();
        fs::copy(&library, at(library.to_str().unwrap())).unwrap();
    }
    fs::copy(ROM, at("/new.rom")).unwrap();
    fs::write(at("/commands"), commands).unwrap();
    fs::write(at("/init"), INIT).unwrap();
    let script = format!(
        "cd {} && chmod +x init && mknod dev/console c 5 1 && find . | cpio -o -H newc > {}",
        root.path().display(),
        initramfs.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn libraries(program: &str) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

const WRITE: &str =
    "/sbin/flasher write --json --card mtd:1 --rom /new.rom --pci-id 8086:10d3; echo CODE=$?\n";

#[test]
#[ignore = "needs a kernel, and QEMU"]
fn a_partition_of_the_kernel_is_written_and_nothing_beside_it() {
    let machine = Machine::new();
    let commands = format!(
        "/sbin/flasher list\n/sbin/flasher probe --card mtd:1\n{WRITE}{WRITE}\
         /sbin/flasher verify --card mtd:1 --rom /new.rom; echo VERIFY=$?\n"
    );
    let console = machine.boot(&commands, "ALL DONE");
    assert!(machine.flash() == machine.programmed(), "{console}");
    for said in [
        "\"outcome\":\"programmed\"",
        "\"outcome\":\"already-programmed\"",
        "CODE=0",
        "VERIFY=0",
        "mtd:0  \"config\"  card unknown  256 KiB  not writable: it is read-only",
        "mtd:2  \"odd\"  card unknown  384 KiB  not writable: its size is no power of two",
    ] {
        assert!(console.contains(said), "{said}: {console}");
    }
}

#[test]
#[ignore = "needs a kernel, and QEMU"]
fn a_machine_that_loses_power_while_writing_goes_on_at_its_next_boot() {
    for moment in [
        "\"phase\":\"invalidate-header\"",
        "\"phase\":\"write-body\"}",
        "\"phase\":\"write-body\",\"done\":40960,",
        "\"phase\":\"write-body\",\"done\":204800,",
        "\"phase\":\"commit-header\"}",
        "\"phase\":\"read-back\"}",
    ] {
        let machine = Machine::new();
        machine.boot(WRITE, moment);
        let torn = machine.flash();
        assert!(torn[..OPROM] == machine.old[..OPROM], "{moment}");
        let seen = agent_types::rom::OptionRom::parse_start(&torn[OPROM..]);
        assert!(torn[OPROM..OPROM + 2] != [0x55, 0xaa] || seen.is_ok(), "{moment}: {seen:?}");
        let console = machine.boot(WRITE, "ALL DONE");
        assert!(machine.flash() == machine.programmed(), "{moment}: {console}");
        println!("power lost at {moment}: written at the next boot");
    }
}
