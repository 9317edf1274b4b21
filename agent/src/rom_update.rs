//! Says which cards get which ROM.
//!
//! ePoxy names a directory of ROMs, by model and host name; a fleet of several kinds of cards has a
//! manifest. The directories are those of M-Lab's `updaterom.sh`:
//! <https://github.com/m-lab/epoxy-images/tree/main/configs>.

use agent_types::flash_report::{Listing, WritableCard};
use agent_types::params::{RomSource, RomUpdate};
use agent_types::rom::{ManifestError, PciId, RomEntry, RomManifest};

use crate::fetch::{self, Document, Fetch, shown_text};
use crate::flasher;
use crate::update::Change;

/// Files are fetched before the first command runs, backups are kept in the machine, and the network
/// is brought up again before the report: the session's own card may be written.
const ALL_IS_HERE: &str = "--allow-session-card";

/// The directories of ROMs that are named otherwise than by the card's PCI id.
const MODELS: &[(PciId, &str)] = &[
    (PciId { vendor: 0x15b3, device: 0x1003 }, "ConnectX-3"),
    (PciId { vendor: 0x15b3, device: 0x1007 }, "ConnectX-3Pro"),
];

/// Why it is unknown which card gets which ROM.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The cards are not known.
    #[error("cannot list this machine's cards")]
    List(#[from] flasher::Error),
    /// None, or too many to choose from.
    #[error("expected one card that can be written, got {}", shown_cards(cards))]
    NotOne {
        /// Which.
        cards: Vec<WritableCard>,
    },
    /// The machine has no name, or one that is no part of an address.
    #[error("cannot ask for the ROM of a machine named {0:?}")]
    Hostname(String),
    /// The manifest does not come.
    #[error("cannot fetch the ROM manifest")]
    Fetch(#[from] fetch::Error),
    /// The manifest is none.
    #[error("{url}")]
    Manifest {
        /// Where it is.
        url: String,
        /// What is wrong.
        source: ManifestError,
    },
    /// The manifest is for other machines.
    #[error("the ROM manifest names no card of this machine, which has {}", shown_cards(cards))]
    NotInManifest {
        /// What this machine has.
        cards: Vec<WritableCard>,
    },
}

fn shown_cards(cards: &[WritableCard]) -> String {
    let shown: Vec<String> =
        cards.iter().map(|WritableCard { card, pci_id }| format!("{card} ({pci_id})")).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// The ROMs for this machine's cards.
pub(crate) async fn changes(
    fetch: &impl Fetch,
    update: &RomUpdate,
    hostname: &str,
) -> Result<Vec<Change>, Error> {
    let backup = backup_place(update, hostname)?;
    let Listing { writable: cards } = flasher::ask(&["list"]).await?;
    let changes = match &update.source {
        RomSource::Directory(base) => vec![from_directory(base, hostname, cards)?],
        RomSource::Manifest(url) => {
            let text = fetch.document(Document::Chain, url).await?;
            let manifest = RomManifest::parse(&String::from_utf8_lossy(&text.bytes));
            let error = |source| Error::Manifest { url: shown_text(url), source };
            from_manifest(&manifest.map_err(error)?, cards)?
        }
    };
    let with_backup = |change| Change { backup: backup.clone(), ..change };
    Ok(changes.into_iter().map(with_backup).collect())
}

/// The address that this machine's backups are posted below.
fn backup_place(update: &RomUpdate, hostname: &str) -> Result<Option<String>, Error> {
    let Some(url) = &update.backup else { return Ok(None) };
    check_hostname(hostname)?;
    Ok(Some(format!("{}/{hostname}", url.trim_end_matches('/'))))
}

/// A name that is part of an address.
fn check_hostname(hostname: &str) -> Result<(), Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if hostname.is_empty() || !hostname.chars().all(is_plain) {
        return Err(Error::Hostname(hostname.to_owned()));
    }
    Ok(())
}

fn from_directory(base: &str, hostname: &str, cards: Vec<WritableCard>) -> Result<Change, Error> {
    check_hostname(hostname)?;
    let [card] = cards.as_slice() else { return Err(Error::NotOne { cards }) };
    let url = format!("{}/{}/{hostname}.mrom", base.trim_end_matches('/'), model(card.pci_id));
    Ok(change(card, url, None))
}

fn from_manifest(manifest: &RomManifest, cards: Vec<WritableCard>) -> Result<Vec<Change>, Error> {
    let with_entry = cards.iter().filter_map(|card| Some((card, manifest.rom_for(card.pci_id)?)));
    let changes: Vec<Change> =
        with_entry.map(|(card, entry)| change(card, entry.url.clone(), Some(entry))).collect();
    if changes.is_empty() {
        return Err(Error::NotInManifest { cards });
    }
    Ok(changes)
}

/// The directory that holds the ROMs of a card: a name, or vendor and device as `8086-10d3`.
fn model(card: PciId) -> String {
    let named = MODELS.iter().find(|(id, _)| *id == card).map(|(_, name)| (*name).to_owned());
    named.unwrap_or_else(|| format!("{:04x}-{:04x}", card.vendor, card.device))
}

/// A card and what it gets.
fn change(card: &WritableCard, url: String, entry: Option<&RomEntry>) -> Change {
    let WritableCard { card, pci_id } = card;
    let mut options = ["write", "--card", card, "--pci-id", &pci_id.to_string(), ALL_IS_HERE]
        .map(str::to_owned)
        .to_vec();
    if let Some(entry) = entry {
        options.extend(["--sha256".to_owned(), entry.sha256.to_string()]);
        options.extend(["--rom-version".to_owned(), entry.version.to_string()]);
        let minimum = entry.minimum_version.as_ref();
        let option = |version| ["--minimum-version".to_owned(), format!("{version}")];
        options.extend(minimum.into_iter().flat_map(option));
        options.extend(entry.allow_downgrade.then(|| "--allow-downgrade".to_owned()));
    }
    let sha256 = entry.map(|entry| entry.sha256);
    Change { kind: "rom", url, sha256, options, file_option: "--rom", backup: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use crate::update::tests::shown;

    fn card(card: &str, pci_id: &str) -> WritableCard {
        WritableCard { card: card.to_owned(), pci_id: pci_id.parse().unwrap() }
    }

    /// What is fetched, and what is run when it is there.
    fn outcome(changes: Result<Vec<Change>, Error>) -> Result<(Vec<String>, Vec<String>), String> {
        changes.map(|changes| shown(&changes)).map_err(|error| Chain(&error).to_string())
    }

    #[test]
    fn a_directory_has_the_models_and_in_them_the_hosts() {
        for (pci_id, url) in [
            ("15b3:1003", "https://h/v1/ConnectX-3/mlab1.mrom"),
            ("15b3:1007", "https://h/v1/ConnectX-3Pro/mlab1.mrom"),
            ("8086:10d3", "https://h/v1/8086-10d3/mlab1.mrom"),
        ] {
            let command = format!(
                "/sbin/flasher write --card mtd:1 --pci-id {pci_id} --allow-session-card \
                 --rom file0"
            );
            for base in ["https://h/v1", "https://h/v1/"] {
                let document = from_directory(base, "mlab1", vec![card("mtd:1", pci_id)]);
                let expected = Ok((vec![url.to_owned()], vec![command.clone()]));
                assert_eq!(outcome(document.map(|change| vec![change])), expected);
            }
        }
    }

    #[test]
    fn without_one_card_and_a_name_there_is_no_update() {
        let cards = |count: usize| {
            [card("mtd:1", "8086:10d3"), card("mtd:2", "8086:10d3")][..count].to_vec()
        };
        for (hostname, count, expected) in [
            ("mlab1", 0, "expected one card that can be written, got none"),
            (
                "mlab1",
                2,
                "expected one card that can be written, got mtd:1 (8086:10d3), mtd:2 (8086:10d3)",
            ),
            ("", 1, "cannot ask for the ROM of a machine named \"\""),
            ("../x", 1, "cannot ask for the ROM of a machine named \"../x\""),
            ("{{kargs", 1, "cannot ask for the ROM of a machine named \"{{kargs\""),
        ] {
            let document = from_directory("https://h", hostname, cards(count));
            assert_eq!(outcome(document.map(|change| vec![change])), Err(expected.to_owned()));
        }
    }

    #[test]
    fn every_card_in_the_manifest_gets_its_rom() {
        let digest = "ab".repeat(32);
        let manifest = RomManifest::parse(&format!(
            r#"{{"roms": [
                {{"cards": ["15b3:1003"], "url": "https://h/a", "sha256": "{digest}",
                  "version": "3.10.0", "minimum_version": "3.9.0", "allow_downgrade": true}},
                {{"cards": ["8086:10d3"], "url": "https://h/b", "sha256": "{digest}",
                  "version": "1.0"}}]}}"#
        ))
        .unwrap();
        let cards = vec![
            card("mtd:1", "8086:10d3"),
            card("mtd:2", "1af4:1041"),
            card("mtd:3", "15b3:1003"),
        ];
        let command = |card: &str, id: &str, more: &str| {
            format!(
                "/sbin/flasher write --card {card} --pci-id {id} --allow-session-card \
                 --sha256 {digest} --rom-version {more}"
            )
        };
        let commands = vec![
            command("mtd:1", "8086:10d3", "1.0 --rom file0"),
            command(
                "mtd:3",
                "15b3:1003",
                "3.10.0 --minimum-version 3.9.0 --allow-downgrade --rom file1",
            ),
        ];
        let files = vec![format!("https://h/b {digest}"), format!("https://h/a {digest}")];
        assert_eq!(outcome(from_manifest(&manifest, cards)), Ok((files, commands)));
        let other = from_manifest(&manifest, vec![card("mtd:2", "1af4:1041")]);
        let expected =
            "the ROM manifest names no card of this machine, which has mtd:2 (1af4:1041)";
        assert_eq!(outcome(other), Err(expected.to_owned()));
    }

    #[test]
    fn backups_are_posted_below_the_machines_name() {
        let update = |backup: Option<&str>| RomUpdate {
            source: RomSource::Directory("https://h".to_owned()),
            backup: backup.map(str::to_owned),
        };
        let place = |backup, hostname| {
            backup_place(&update(backup), hostname).map_err(|error| error.to_string())
        };
        assert_eq!(place(None, ""), Ok(None));
        let at = "https://b/roms/mlab1".to_owned();
        assert_eq!(place(Some("https://b/roms/"), "mlab1"), Ok(Some(at)));
        assert!(place(Some("https://b"), "../x").is_err());
    }
}
