//! Says which cards get which ROM, as a boot document that no server wrote.
//!
//! ePoxy names a directory of ROMs, by model and host name; a fleet of several kinds of cards has a
//! manifest. On return there is a document like any other: its files are fetched and verified, and
//! its commands run, by the code that does so for all documents. So the flasher gets verified files
//! only. The directories are those of M-Lab's `updaterom.sh`:
//! <https://github.com/m-lab/epoxy-images/tree/main/configs>.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use agent_types::flash_report::{Listing, WritableCard};
use agent_types::nextboot::{self, Nextboot, V1};
use agent_types::params::{RomSource, RomUpdate};
use agent_types::rom::{ManifestError, PciId, RomEntry, RomManifest};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::fetch::{self, Document, Fetch, shown_text};
use crate::send_backup::{self, SEND_BACKUP};

const FLASHER: &str = "/sbin/flasher";
/// Files are fetched before the first command runs, backups are kept in the machine, and the network
/// is brought up again before the report: the session's own card may be written.
const ALL_IS_HERE: &str = "--allow-session-card";
/// It reads some files of sysfs.
const LIST_LIMIT: Duration = Duration::from_secs(60);

/// The directories of ROMs that are named otherwise than by the card's PCI id.
const MODELS: &[(PciId, &str)] = &[
    (PciId { vendor: 0x15b3, device: 0x1003 }, "ConnectX-3"),
    (PciId { vendor: 0x15b3, device: 0x1007 }, "ConnectX-3Pro"),
];

/// Why it is unknown which card gets which ROM.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An image without the flasher.
    #[error("cannot start {FLASHER}: is it in this image?")]
    Start(#[source] io::Error),
    /// The flasher cannot tell.
    #[error("cannot list this machine's cards: {FLASHER} said {said:?}")]
    List {
        /// What it said.
        said: String,
    },
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
    /// What we wrote is no boot document.
    #[error("cannot write a boot document for the update")]
    Document(#[from] nextboot::Error),
}

fn shown_cards(cards: &[WritableCard]) -> String {
    let shown: Vec<String> =
        cards.iter().map(|WritableCard { card, pci_id }| format!("{card} ({pci_id})")).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// The document that updates this machine's cards.
pub(crate) async fn document(
    fetch: &impl Fetch,
    update: &RomUpdate,
    hostname: &str,
) -> Result<V1, Error> {
    let backup = backup_place(update, hostname)?;
    let cards = writable_cards().await?;
    match &update.source {
        RomSource::Directory(base) => from_directory(base, hostname, cards, backup),
        RomSource::Manifest(url) => {
            let text = fetch.document(Document::Chain, url).await?;
            let manifest = RomManifest::parse(&String::from_utf8_lossy(&text.bytes));
            let error = |source| Error::Manifest { url: shown_text(url), source };
            from_manifest(&manifest.map_err(error)?, cards, backup)
        }
    }
}

async fn writable_cards() -> Result<Vec<WritableCard>, Error> {
    let mut command = Command::new(FLASHER);
    command.args(["list", "--json"]).stdin(Stdio::null()).kill_on_drop(true);
    let too_slow = |_| Error::List { said: "nothing".to_owned() };
    let output = timeout(LIST_LIMIT, command.output()).await.map_err(too_slow)?;
    let output = output.map_err(Error::Start)?;
    let said = || Error::List { said: String::from_utf8_lossy(&output.stdout).into_owned() };
    let listing: Listing = serde_json::from_slice(&output.stdout).map_err(|_| said())?;
    Ok(listing.writable)
}

fn from_directory(
    base: &str,
    hostname: &str,
    cards: Vec<WritableCard>,
    backup: Option<String>,
) -> Result<V1, Error> {
    check_hostname(hostname)?;
    let [card] = cards.as_slice() else { return Err(Error::NotOne { cards }) };
    let url = format!("{}/{}/{hostname}.mrom", base.trim_end_matches('/'), model(card.pci_id));
    written(&[Change { card, url: &url, entry: None }], backup)
}

/// A name that is part of an address.
fn check_hostname(hostname: &str) -> Result<(), Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if hostname.is_empty() || !hostname.chars().all(is_plain) {
        return Err(Error::Hostname(hostname.to_owned()));
    }
    Ok(())
}

/// The address that this machine's backups are posted below.
fn backup_place(update: &RomUpdate, hostname: &str) -> Result<Option<String>, Error> {
    let Some(url) = &update.backup else { return Ok(None) };
    check_hostname(hostname)?;
    Ok(Some(format!("{}/{hostname}", url.trim_end_matches('/'))))
}

fn from_manifest(
    manifest: &RomManifest,
    cards: Vec<WritableCard>,
    backup: Option<String>,
) -> Result<V1, Error> {
    let with_entry = cards.iter().filter_map(|card| Some((card, manifest.rom_for(card.pci_id)?)));
    let changes: Vec<Change<'_>> = with_entry
        .map(|(card, entry)| Change { card, url: &entry.url, entry: Some(entry) })
        .collect();
    if changes.is_empty() {
        return Err(Error::NotInManifest { cards });
    }
    written(&changes, backup)
}

/// The directory that holds the ROMs of a card: a name, or vendor and device as `8086-10d3`.
fn model(card: PciId) -> String {
    let named = MODELS.iter().find(|(id, _)| *id == card).map(|(_, name)| (*name).to_owned());
    named.unwrap_or_else(|| format!("{:04x}-{:04x}", card.vendor, card.device))
}

/// A card and what it gets.
struct Change<'a> {
    card: &'a WritableCard,
    url: &'a str,
    entry: Option<&'a RomEntry>,
}

fn written(changes: &[Change<'_>], backup: Option<String>) -> Result<V1, Error> {
    let (mut files, mut commands) = (serde_json::Map::new(), Vec::new());
    let hook: &[&str] = if backup.is_some() { &["--after-backup", SEND_BACKUP] } else { &[] };
    for (number, change) in changes.iter().enumerate() {
        let name = format!("rom{number}");
        let hook = hook.iter().map(|word| (*word).to_owned());
        commands.push(change.command(&name).into_iter().chain(hook).collect::<Vec<_>>());
        files.insert(name, change.file());
    }
    let env: serde_json::Map<_, _> =
        backup.map(|url| (send_backup::VARIABLE.to_owned(), url.into())).into_iter().collect();
    let document = json!({ "v1": { "files": files, "env": env, "commands": commands } });
    Ok(Nextboot::parse(document.to_string().as_bytes())?.v1)
}

impl Change<'_> {
    fn file(&self) -> Value {
        match self.entry {
            Some(entry) => json!({ "url": self.url, "sha256": entry.sha256.to_string() }),
            None => json!({ "url": self.url }),
        }
    }

    fn command(&self, file: &str) -> Vec<String> {
        let WritableCard { card, pci_id } = self.card;
        let mut words: Vec<String> = [
            FLASHER,
            "write",
            "--card",
            card,
            "--pci-id",
            &pci_id.to_string(),
            ALL_IS_HERE,
            "--rom",
        ]
        .map(str::to_owned)
        .into();
        words.push(format!("{{{{.files.{file}.name}}}}"));
        if let Some(entry) = self.entry {
            words.extend(["--sha256".to_owned(), entry.sha256.to_string()]);
            words.extend(["--rom-version".to_owned(), entry.version.to_string()]);
            let minimum = entry.minimum_version.as_ref();
            let option = |version| ["--minimum-version".to_owned(), format!("{version}")];
            words.extend(minimum.into_iter().flat_map(option));
            words.extend(entry.allow_downgrade.then(|| "--allow-downgrade".to_owned()));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use agent_types::cmdline::Kargs;
    use std::collections::BTreeMap;

    fn card(card: &str, pci_id: &str) -> WritableCard {
        WritableCard { card: card.to_owned(), pci_id: pci_id.parse().unwrap() }
    }

    /// What is fetched, and what is run when it is there.
    fn outcome(document: Result<V1, Error>) -> Result<(Vec<String>, Vec<String>), String> {
        let document = document.map_err(|error| Chain(&error).to_string())?;
        let requests = document.requests(&Kargs::parse("")).unwrap();
        let files = requests.files.iter().map(|file| match file.sha256 {
            Some(sha256) => format!("{} {sha256}", file.url),
            None => file.url.clone(),
        });
        let paths: BTreeMap<_, _> =
            requests.files.iter().map(|file| (file.name.clone(), file.name.clone())).collect();
        let files = files.collect();
        let plan = requests.plan(&paths).unwrap();
        Ok((files, plan.commands.iter().map(|words| words.join(" ")).collect()))
    }

    #[test]
    fn a_directory_has_the_models_and_in_them_the_hosts() {
        for (pci_id, url) in [
            ("15b3:1003", "https://h/v1/ConnectX-3/mlab1.mrom"),
            ("15b3:1007", "https://h/v1/ConnectX-3Pro/mlab1.mrom"),
            ("8086:10d3", "https://h/v1/8086-10d3/mlab1.mrom"),
        ] {
            let command = format!(
                "/sbin/flasher write --card mtd:1 --pci-id {pci_id} --allow-session-card --rom rom0"
            );
            for base in ["https://h/v1", "https://h/v1/"] {
                let document = from_directory(base, "mlab1", vec![card("mtd:1", pci_id)], None);
                assert_eq!(outcome(document), Ok((vec![url.to_owned()], vec![command.clone()])));
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
            let document = from_directory("https://h", hostname, cards(count), None);
            assert_eq!(outcome(document), Err(expected.to_owned()));
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
        let command = |card: &str, id: &str, number: u8| {
            format!(
                "/sbin/flasher write --card {card} --pci-id {id} --allow-session-card \
                 --rom rom{number} --sha256 {digest} --rom-version "
            )
        };
        let commands = vec![
            command("mtd:1", "8086:10d3", 0) + "1.0",
            command("mtd:3", "15b3:1003", 1) + "3.10.0 --minimum-version 3.9.0 --allow-downgrade",
        ];
        let files = vec![format!("https://h/b {digest}"), format!("https://h/a {digest}")];
        assert_eq!(outcome(from_manifest(&manifest, cards, None)), Ok((files, commands)));
        let other = from_manifest(&manifest, vec![card("mtd:2", "1af4:1041")], None);
        let expected =
            "the ROM manifest names no card of this machine, which has mtd:2 (1af4:1041)";
        assert_eq!(outcome(other), Err(expected.to_owned()));
    }

    #[test]
    fn backups_are_posted_below_the_machines_name_and_every_card_waits_for_that() {
        let update = |backup: Option<&str>| RomUpdate {
            source: RomSource::Directory("https://h".to_owned()),
            backup: backup.map(str::to_owned),
        };
        let place = |backup, hostname| {
            backup_place(&update(backup), hostname).map_err(|error| error.to_string())
        };
        assert_eq!(place(None, ""), Ok(None));
        let at = "https://b/roms/mlab1".to_owned();
        assert_eq!(place(Some("https://b/roms/"), "mlab1"), Ok(Some(at.clone())));
        assert!(place(Some("https://b"), "../x").is_err());

        let cards = vec![card("mtd:1", "8086:10d3")];
        let document = from_directory("https://h", "mlab1", cards, Some(at.clone())).unwrap();
        let requests = document.requests(&Kargs::parse("")).unwrap();
        let files = [("rom0".to_owned(), "rom0".to_owned())];
        let plan = requests.plan(&files.into_iter().collect()).unwrap();
        assert_eq!(plan.env, [(send_backup::VARIABLE.to_owned(), at)]);
        assert!(plan.commands[0].ends_with(&["--after-backup".to_owned(), SEND_BACKUP.to_owned()]));
    }
}
