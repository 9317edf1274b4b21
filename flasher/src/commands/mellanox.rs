//! `write` and `restore` for a card whose ROM `mstflint` writes.

use std::path::Path;
use std::time::Duration;

use agent_types::flash_report::FlashEvent;
use agent_types::rom::Card;
use serde_json::json;

use super::report::finish;
use super::work::{Job, Restore, uninterrupted};
use super::{Error, SYSFS, SharedOutput};
use crate::cli;
use crate::decide::Image;
use crate::mstflint::procedure::{Intent, preview, rewrite};
use crate::mstflint::{Mstflint, NAME};
use crate::pci::PciAddress;
use crate::store::Store;
use crate::target;

pub(super) fn write(
    output: &SharedOutput,
    arguments: &cli::Write,
    rom: &[u8],
    state_dir: &Path,
    (address, card): (PciAddress, Card),
) -> Result<u8, Error> {
    let name = format!("mst:{address}");
    let store = Store::open(state_dir, &name)?;
    let section = section(address, state_dir, &arguments.target);
    let job = Job::of_rom(arguments, rom, &card, &store);
    if arguments.dry_run {
        show(output, &job, &name, section)
    } else {
        Ok(carry_out(output, &job, &name, section))
    }
}

pub(super) fn restore(
    output: &SharedOutput,
    arguments: &cli::Target,
    address: PciAddress,
    wanted: &Restore<'_>,
    state_dir: &Path,
) -> Result<u8, Error> {
    let card = target::mstflint_card(Path::new(SYSFS), &arguments.card, address, arguments.pci_id)?;
    let name = format!("mst:{address}");
    let store = Store::open(state_dir, &name)?;
    let content = wanted.content(&store, &name)?;
    let image = Image::Backup { content: &content, header: 0 };
    let job = Job::of_backup(wanted, image, &card, &store);
    Ok(carry_out(output, &job, &name, section(address, state_dir, arguments)))
}

fn section(address: PciAddress, state_dir: &Path, arguments: &cli::Target) -> Mstflint {
    Mstflint::new(address, state_dir).limit(arguments.time_limit.map(Duration::from_secs))
}

fn carry_out(output: &SharedOutput, job: &Job<'_>, name: &str, mut section: Mstflint) -> u8 {
    uninterrupted(output, |events| {
        let report = job.with_run((name, NAME), None, events, |run| rewrite(&mut section, run));
        finish(output, report)
    })
}

/// `mstflint` tells no plan, but what it would be asked for is known.
fn show(
    output: &SharedOutput,
    job: &Job<'_>,
    name: &str,
    mut section: Mstflint,
) -> Result<u8, Error> {
    let mut events = |event: FlashEvent| output.borrow_mut().event(&event);
    let intent = job.with_run((name, NAME), None, &mut events, |run| preview(&mut section, run))?;
    let (value, text) = match intent {
        Intent::UpToDate => {
            (json!({"decision": "up-to-date"}), "up to date: nothing would be written".to_owned())
        }
        Intent::RecentEnough(present) => (
            json!({"decision": "recent-enough", "present": present}),
            format!("recent enough: version {present}"),
        ),
        Intent::Burn => {
            let steps = section.steps();
            let text = format!("the ROM would be written, after a backup:\n{}", steps.join("\n"));
            (json!({"decision": "program", "steps": steps}), text)
        }
    };
    output.borrow_mut().result(&value, || text);
    Ok(0)
}
