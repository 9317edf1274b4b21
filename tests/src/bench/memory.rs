//! The smallest memory with which a ramdisk still boots the payload.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::boot;
use super::payload::{GREETING, Payload};
use super::ramdisk::{Contender, Ramdisks};
use crate::vm::Vm;

/// How finely it is looked for.
const STEP_MIB: u32 = 16;
/// With less, not even two copies of the payload fit.
const LEAST_MIB: u32 = 128;
const MOST_MIB: u32 = 1024;

/// From power on to stage3 or to a failure; emulation on a busy machine is slow.
const LIMIT: Duration = Duration::from_secs(180);
const GLANCE: Duration = Duration::from_secs(1);

/// What is said before a boot comes to nothing.
const FAILURES: &[&str] = &[
    "Kernel panic",
    "Out of memory",
    "Initramfs unpacking failed",
    "not enough memory",
    "Result: error",
    "bench: failed",
];

/// How a boot with little memory went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stage3 was there.
    Boots,
    /// It was not.
    Fails,
}

/// Looks for a contender's smallest memory in MiB, telling `say` how it goes.
pub fn smallest_mib(
    contender: Contender,
    ramdisks: &Ramdisks,
    payload: &Payload,
    say: &dyn Fn(&str),
) -> anyhow::Result<u32> {
    search(|memory_mib| {
        let (outcome, why) = boot_with(contender, ramdisks, payload, memory_mib)?;
        say(&format!("  {contender} with {memory_mib} MiB: {outcome:?}{why}"));
        Ok(outcome)
    })
}

/// Halves the range until its ends are one step apart.
fn search(mut boots: impl FnMut(u32) -> anyhow::Result<Outcome>) -> anyhow::Result<u32> {
    let (mut fails, mut works) = (LEAST_MIB / STEP_MIB, MOST_MIB / STEP_MIB);
    while works - fails > 1 {
        // Whoever needs much more than the payload is the exception.
        let middle = fails + (works - fails).min(24) / 2;
        match boots(middle * STEP_MIB)? {
            Outcome::Boots => works = middle,
            Outcome::Fails => fails = middle,
        }
    }
    match works * STEP_MIB {
        MOST_MIB => bail!("expected a boot with less than {MOST_MIB} MiB"),
        mib => Ok(mib),
    }
}

fn boot_with(
    contender: Contender,
    ramdisks: &Ramdisks,
    payload: &Payload,
    memory_mib: u32,
) -> anyhow::Result<(Outcome, String)> {
    let server = payload.serve()?;
    let machine = boot::machine(contender, ramdisks, &server, "virtio-net-pci", memory_mib);
    let mut vm = Vm::start(&machine)?;
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        match vm.console.next_line(GLANCE) {
            Some(found) if found.line.contains(GREETING) => {
                return Ok((Outcome::Boots, String::new()));
            }
            Some(found) if FAILURES.iter().any(|text| found.line.contains(text)) => {
                return Ok((Outcome::Fails, format!(" ({})", found.line.trim())));
            }
            None if vm.console.is_closed() => {
                return Ok((Outcome::Fails, " (the machine has ended)".to_owned()));
            }
            Some(_) | None => {}
        }
    }
    Ok((Outcome::Fails, format!(" (nothing for {} s)", LIMIT.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_memory_is_found_to_one_step() {
        for smallest in [144, 160, 176, 288, 304, 320, 608, 1008] {
            let mut asked = 0;
            let found = search(|mib| {
                asked += 1;
                Ok(if mib >= smallest { Outcome::Boots } else { Outcome::Fails })
            });
            assert_eq!(found.unwrap(), smallest);
            assert!(asked <= 8, "{asked} boots for {smallest}");
        }
        search(|_| Ok(Outcome::Fails)).unwrap_err();
    }
}
