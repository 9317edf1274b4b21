//! How much memory our processes take in the ramdisk.

use std::time::Duration;

use anyhow::Context as _;

use super::boot::{self, PLENTY_MIB};
use super::payload::Payload;
use super::ramdisk::{Contender, Ramdisks};
use crate::vm::Vm;

const LIMIT: Duration = Duration::from_secs(300);

/// The parent of the command is the boot role.
const COMMAND: &str = "cd /proc; grep VmRSS 1/status; grep VmHWM $PPID/status; echo bench: done";

/// In KiB, after the payload was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// What PID 1 has in memory.
    pub init_kib: u32,
    /// The most that the boot role has had in memory.
    pub boot_kib: u32,
}

impl Resident {
    /// Boots our ramdisk with a document that tells instead of entering the payload.
    pub fn measure(ramdisks: &Ramdisks, payload: &Payload) -> anyhow::Result<Self> {
        let server = payload.serve()?;
        server.serve("/document", payload.document_for(&server, COMMAND));
        let machine =
            boot::machine(Contender::Ours, ramdisks, &server, "virtio-net-pci", PLENTY_MIB);
        let mut vm = Vm::start(&machine)?.asking(&server);
        // The command itself is shown before it runs.
        vm.expect_within(LIMIT, "Command:")?;
        let mut kib = |name: &str| -> anyhow::Result<u32> {
            let line = vm.expect_within(LIMIT, &format!("{name}:\t"))?.line;
            in_kib(&line).with_context(|| format!("expected kibibytes, got {line:?}"))
        };
        let (init_kib, boot_kib) = (kib("VmRSS")?, kib("VmHWM")?);
        Ok(Self { init_kib, boot_kib })
    }
}

/// The number in `VmRSS:  1234 kB`, see proc_pid_status(5).
pub fn in_kib(line: &str) -> Option<u32> {
    line.split_once(':')?.1.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_proc_shows_them() {
        for (line, expected) in [
            ("VmRSS:\t    1234 kB", Some(1234)),
            ("VmHWM:\t1 kB\n", Some(1)),
            ("VmRSS:\t", None),
            ("1234 kB", None),
        ] {
            assert_eq!(in_kib(line), expected, "{line:?}");
        }
    }
}
