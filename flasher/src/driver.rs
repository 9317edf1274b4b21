//! Keeps a card's driver away while its memory is mapped by us, and knows whether the machine
//! would miss it.
//!
//! flashrom's card programmers write the card's registers: so does its driver. The kernel refuses
//! the mapping while a driver holds it (`IO_STRICT_DEVMEM`), or lets both in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::pci::{PciAddress, PciDevice};

/// The driver did not let go of the card.
#[derive(Debug, thiserror::Error)]
#[error("cannot unbind driver {driver} from {address}")]
pub struct UnbindError {
    driver: String,
    address: PciAddress,
    source: io::Error,
}

/// A card without its driver; the driver gets it back on drop.
#[derive(Debug)]
pub struct Unbound {
    driver: PathBuf,
    address: PciAddress,
}

impl Unbound {
    /// Takes `card` from its driver, if it has one.
    ///
    /// # Errors
    /// The driver does not let go.
    pub fn take(sysfs: &Path, card: &PciDevice) -> Result<Option<Self>, UnbindError> {
        let Some(driver) = &card.driver else { return Ok(None) };
        let unbound =
            Self { driver: sysfs.join("bus/pci/drivers").join(driver), address: card.address };
        unbound.unbind()?;
        Ok(Some(unbound))
    }

    /// Does `work` while the driver has its card back.
    ///
    /// # Errors
    /// The driver does not let go again.
    pub fn while_bound<T>(&self, work: impl FnOnce() -> T) -> Result<T, UnbindError> {
        self.bind();
        let done = work();
        self.unbind()?;
        Ok(done)
    }

    fn unbind(&self) -> Result<(), UnbindError> {
        let driver = || self.driver.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::write(self.driver.join("unbind"), self.address.to_string())
            .map_err(|source| UnbindError { driver: driver(), address: self.address, source })
    }

    /// A driver that does not take its card back is seen by whoever misses the interface; the chip
    /// is what it is.
    fn bind(&self) {
        let _bound = fs::write(self.driver.join("bind"), self.address.to_string());
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        self.bind();
    }
}

/// Does any route lead through one of the card's interfaces? Then taking its driver away ends
/// sessions, and the interface comes back without its addresses.
#[must_use]
pub fn carries_traffic(procfs: &Path, interfaces: &[String]) -> bool {
    let read = |name: &str| fs::read_to_string(procfs.join(name)).unwrap_or_default();
    let ipv4 = read("net/route");
    let ipv6 = read("net/ipv6_route");
    let first = ipv4.lines().filter_map(|line| line.split_whitespace().next());
    let last = ipv6.lines().filter(|line| !is_link_local(line));
    let last = last.filter_map(|line| line.split_whitespace().last());
    first.chain(last).any(|name| interfaces.iter().any(|interface| interface == name))
}

/// Every interface that is up has link-local and multicast routes, with nobody behind them.
fn is_link_local(route: &str) -> bool {
    route.starts_with("fe80") || route.starts_with("ff")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci;

    /// A card that its driver has let go of, and the files of that driver.
    fn unbound() -> (Unbound, tempfile::TempDir, impl Fn(&str) -> PathBuf) {
        let id = "8086:10d3".parse().unwrap();
        let sysfs = pci::tests::sysfs_with("0000:03:00.0", id, Some("e1000e"));
        let driver = sysfs.path().join("bus/pci/drivers/e1000e");
        let card = pci::network_cards(sysfs.path()).unwrap().remove(0);
        let unbound = Unbound::take(sysfs.path(), &card).unwrap().unwrap();
        (unbound, sysfs, move |name: &str| driver.join(name))
    }

    fn said(file: &Path) -> String {
        fs::read_to_string(file).unwrap()
    }

    #[test]
    fn the_driver_lets_go_and_gets_its_card_back() {
        let (unbound, _sysfs, file) = unbound();
        assert_eq!(
            (said(&file("unbind")).as_str(), said(&file("bind")).as_str()),
            ("0000:03:00.0", "")
        );
        drop(unbound);
        assert_eq!(said(&file("bind")), "0000:03:00.0");
    }

    #[test]
    fn the_driver_has_its_card_back_as_long_as_it_is_needed() {
        let (unbound, _sysfs, file) = unbound();
        fs::write(file("unbind"), "").unwrap();
        let meanwhile = unbound.while_bound(|| (said(&file("bind")), said(&file("unbind"))));
        assert_eq!(meanwhile.unwrap(), ("0000:03:00.0".to_owned(), String::new()));
        assert_eq!(said(&file("unbind")), "0000:03:00.0");
    }

    #[test]
    fn a_card_with_a_route_carries_traffic_and_a_link_local_address_is_no_route() {
        let procfs = tempfile::tempdir().unwrap();
        fs::create_dir(procfs.path().join("net")).unwrap();
        let names = |name: &str| vec![name.to_owned()];
        fs::write(
            procfs.path().join("net/route"),
            "Iface\tDestination\nens3\t00000000\t0102A8C0\t0003\n",
        )
        .unwrap();
        fs::write(
            procfs.path().join("net/ipv6_route"),
            "fe800000000000000000000000000000 40 0 00 0 00000100 00000001 0 00000001     eth1\n\
             20010db8000000000000000000000000 40 0 00 0 00000100 00000001 0 00000001     eth2\n",
        )
        .unwrap();
        let carries = |name: &str| carries_traffic(procfs.path(), &names(name));
        assert_eq!(["ens3", "eth1", "eth2", "eth3"].map(carries), [true, false, true, false]);
    }
}
