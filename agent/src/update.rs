//! What is written in place of a boot, as a boot document that no server wrote.
//!
//! On return there is a document like any other: its files are fetched and verified, and its commands
//! run, by the code that does so for all documents. So the flasher gets verified files only.

use std::collections::BTreeMap;

use agent_types::digest::Sha256Digest;
use agent_types::nextboot::{self, Nextboot, V1};
use agent_types::params::Updates;
use serde_json::{Value, json};

use crate::fetch::Fetch;
use crate::flasher::FLASHER;
use crate::send_backup::{self, SEND_BACKUP};
use crate::{disk_update, rom_update};

/// Why it is unknown what is to be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Rom(#[from] rom_update::Error),
    #[error(transparent)]
    Disk(#[from] disk_update::Error),
    /// What we wrote is no boot document.
    #[error("cannot write a boot document for the update")]
    Document(#[from] nextboot::Error),
}

/// A file, and the flasher's work with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// What the file is, in a word.
    pub(crate) kind: &'static str,
    /// Where it is.
    pub(crate) url: String,
    /// What it must be.
    pub(crate) sha256: Option<Sha256Digest>,
    /// The flasher's arguments before the file.
    pub(crate) options: Vec<String>,
    /// The flasher's name for the file.
    pub(crate) file_option: &'static str,
    /// Where what is there now is posted below, before anything is erased.
    pub(crate) backup: Option<String>,
}

/// The document that does all that is to be done.
pub(crate) async fn document(
    fetch: &impl Fetch,
    updates: &Updates,
    hostname: &str,
) -> Result<V1, Error> {
    let mut changes = Vec::new();
    if let Some(update) = &updates.rom {
        changes.extend(rom_update::changes(fetch, update, hostname).await?);
    }
    if let Some(update) = &updates.disk {
        changes.push(disk_update::change(update).await?);
    }
    written(&changes)
}

fn written(changes: &[Change]) -> Result<V1, Error> {
    let (mut files, mut commands) = (serde_json::Map::new(), Vec::new());
    for (number, change) in changes.iter().enumerate() {
        let name = format!("{}{number}", change.kind);
        commands.push(change.command(&name));
        files.insert(name, change.file());
    }
    let backup = changes.iter().find_map(|change| change.backup.as_ref());
    let env: BTreeMap<_, _> = backup.map(|url| (send_backup::VARIABLE, url)).into_iter().collect();
    let document = json!({ "v1": { "files": files, "env": env, "commands": commands } });
    Ok(Nextboot::parse(document.to_string().as_bytes())?.v1)
}

impl Change {
    fn file(&self) -> Value {
        match self.sha256 {
            Some(sha256) => json!({ "url": self.url, "sha256": sha256.to_string() }),
            None => json!({ "url": self.url }),
        }
    }

    fn command(&self, file: &str) -> Vec<String> {
        let mut words = vec![FLASHER.to_owned()];
        words.extend(self.options.iter().cloned());
        if self.backup.is_some() {
            words.extend(["--after-backup", SEND_BACKUP].map(str::to_owned));
        }
        words.push(self.file_option.to_owned());
        words.push(format!("{{{{.files.{file}.name}}}}"));
        words
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use agent_types::cmdline::Kargs;

    /// The files, and the commands when the n-th of them is there as `filen`.
    pub(crate) fn shown(changes: &[Change]) -> (Vec<String>, Vec<String>) {
        let document = written(changes).unwrap();
        let requests = document.requests(&Kargs::parse("")).unwrap();
        let files = requests.files.iter().map(|file| match file.sha256 {
            Some(sha256) => format!("{} {sha256}", file.url),
            None => file.url.clone(),
        });
        let path = |name: &str| name.trim_start_matches(char::is_alphabetic).to_owned();
        let paths: BTreeMap<_, _> = requests
            .files
            .iter()
            .map(|file| (file.name.clone(), format!("file{}", path(&file.name))))
            .collect();
        let files = files.collect();
        let plan = requests.plan(&paths).unwrap();
        (files, plan.commands.iter().map(|words| words.join(" ")).collect())
    }

    fn change(kind: &'static str, url: &str, file_option: &'static str) -> Change {
        let (sha256, options, backup) = (None, vec![], None);
        Change { kind, url: url.to_owned(), sha256, options, file_option, backup }
    }

    #[test]
    fn a_card_and_a_disk_are_written_one_after_the_other() {
        let changes =
            [change("rom", "https://h/a", "--rom"), change("usbiso", "https://h/b", "--image")];
        let files = ["https://h/a", "https://h/b"].map(str::to_owned).to_vec();
        let commands = ["/sbin/flasher --rom file0", "/sbin/flasher --image file1"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(shown(&changes), (files, commands));
    }

    #[test]
    fn nothing_is_erased_before_its_backup_is_posted() {
        let backup = Some("https://b/mlab1".to_owned());
        let rom = Change { backup, ..change("rom", "https://h/a", "--rom") };
        let changes = [rom, change("usbiso", "https://h/b", "--image")];
        let (_, commands) = shown(&changes);
        assert_eq!(
            commands,
            [
                "/sbin/flasher --after-backup /sbin/send-backup --rom file0",
                "/sbin/flasher --image file1"
            ]
        );
        let requests = written(&changes).unwrap().requests(&Kargs::parse("")).unwrap();
        let files = ["rom0", "usbiso1"].map(|name| (name.to_owned(), name.to_owned()));
        let plan = requests.plan(&BTreeMap::from(files)).unwrap();
        assert_eq!(plan.env, [(send_backup::VARIABLE.to_owned(), "https://b/mlab1".to_owned())]);
    }
}
