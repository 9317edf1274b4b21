//! `write` to a card whose ROM `mstflint` writes.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use agent_types::flash_report::FlashEvent;
use agent_types::rom::Card;

use super::report::finish;
use super::work::run_hook;
use super::{Error, SharedOutput};
use crate::cli;
use crate::flash::chain;
use crate::mstflint::Mstflint;
use crate::mstflint::procedure::{Run, Wish, rewrite};
use crate::pci::PciAddress;
use crate::signal::Uninterrupted;
use crate::store::Store;

pub(super) fn write(
    output: &SharedOutput,
    arguments: &cli::Write,
    rom: &[u8],
    state_dir: &Path,
    (address, card): (PciAddress, Card),
) -> Result<u8, Error> {
    if arguments.dry_run {
        return Err(Error::NoDryRun);
    }
    let name = format!("mst:{address}");
    let store = Store::open(state_dir, &name)?;
    let limit = arguments.target.time_limit.map(Duration::from_secs);
    let mut section = Mstflint::new(address, state_dir).limit(limit);
    let permissions = &arguments.permissions;
    let mut keep = |content: &[u8]| {
        let backup = store.keep(content, arguments.backup.as_deref());
        let backup = backup.map_err(|error| chain(&error))?;
        run_hook(permissions.after_backup.as_deref(), &backup)?;
        Ok(backup)
    };
    let uninterrupted = RefCell::new(Uninterrupted::default());
    let mut events = |event: FlashEvent| {
        if matches!(event, FlashEvent::BackupStored(_)) {
            uninterrupted.borrow_mut().begin();
        }
        output.borrow_mut().event(&event);
    };
    let wish = Wish {
        rom,
        card: &card,
        allow_downgrade: permissions.allow_downgrade,
        minimum_version: arguments.minimum_version.as_ref(),
        sha256: arguments.sha256,
    };
    let run = Run { wish, card: name, keep: &mut keep, events: &mut events };
    Ok(finish(output, rewrite(&mut section, run)))
}
