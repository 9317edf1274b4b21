//! Turns the network interfaces off, so that no card writes into the next kernel's memory.

use std::fs;
use std::path::Path;

use crate::sys::System;

/// Where the kernel lists its interfaces.
pub(crate) const INTERFACES: &str = "/sys/class/net";
/// Reaches no hardware.
pub(crate) const LOOPBACK: &str = "lo";

/// Turns off every interface but the loopback; what does not go down is said and left.
pub(crate) fn all_down(system: &mut impl System, interfaces: &Path) {
    for name in names(interfaces).iter().filter(|name| *name != LOOPBACK) {
        if let Err(error) = system.turn_off_link(name) {
            log::warn!("cannot turn off the interface {name}: {error}");
        }
    }
}

fn names(interfaces: &Path) -> Vec<String> {
    let entries = fs::read_dir(interfaces).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Call, FakeSystem};

    #[test]
    fn every_card_goes_down_even_after_one_that_does_not() {
        let interfaces = tempfile::tempdir().unwrap();
        for name in ["eth0", "eth1", "lo"] {
            fs::create_dir(interfaces.path().join(name)).unwrap();
        }
        let down = |name: &str| Call::TurnOffLink(name.to_owned());
        let mut system = FakeSystem { refusals: vec![(down("eth0"), 5)], ..FakeSystem::default() };
        all_down(&mut system, interfaces.path());
        assert_eq!(system.calls, [down("eth0"), down("eth1")]);
    }
}
