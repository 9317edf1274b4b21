//! `write` to a card that its own driver flashes, with a package of the card's maker.

use std::time::{Duration, Instant};

use agent_types::flash_report::{
    ComponentVersion, FlashEvent, FlashOutcome, FlashPhase, FlashReport, PhaseTime,
};
use agent_types::rom;
use serde_json::json;

use super::report::finish;
use super::{Error, SharedOutput};
use crate::cli;
use crate::devlink::{self, Device, Status, Versions};
use crate::flash::chain;
use crate::signal::Uninterrupted;

/// The slowest cards known take some minutes.
const LIMIT: Duration = Duration::from_secs(30 * 60);

pub(super) fn write(
    output: &SharedOutput,
    arguments: &cli::Write,
    package: &[u8],
    device: &Device,
) -> Result<u8, Error> {
    if let Some(expected) = arguments.sha256 {
        rom::check_digest(package, expected).map_err(crate::decide::Refusal::from)?;
    }
    let before = devlink::versions(device)?;
    if arguments.dry_run {
        let value = json!({"card": format!("devlink:{device}"), "stored": before});
        output.borrow_mut().result(&value, || format!("{device} has {before:?}"));
        return Ok(0);
    }
    output.borrow_mut().event(&FlashEvent::Phase { phase: FlashPhase::Driver });
    let (started, mut uninterrupted) = (Instant::now(), Uninterrupted::default());
    uninterrupted.begin();
    let mut begun = false;
    let mut on_status = |status: Status| {
        begun |= status.done.0 > 0;
        output.borrow_mut().event(&event(status));
    };
    let limit = arguments.target.time_limit.map_or(LIMIT, Duration::from_secs);
    let component = arguments.component.as_deref();
    let flashed = devlink::flash(device, component, package, limit, &mut on_status);
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(finish(
        output,
        FlashReport {
            outcome: outcome(flashed, begun),
            card: format!("devlink:{device}"),
            pci_id: arguments.target.pci_id,
            programmer: "devlink".to_owned(),
            chip: None,
            rom: None,
            previous: None,
            backup: None,
            blocks_changed: 0,
            phases: vec![PhaseTime { phase: FlashPhase::Driver, millis }],
            components: components(&before, &devlink::versions(device).unwrap_or_default()),
        },
    ))
}

fn event(status: Status) -> FlashEvent {
    match status.done {
        (_, 0) => FlashEvent::Note { message: status.message },
        (done, total) => FlashEvent::Progress { phase: FlashPhase::Driver, done, total },
    }
}

/// A driver that had begun may have left anything.
fn outcome(flashed: Result<(), devlink::Error>, begun: bool) -> FlashOutcome {
    match flashed {
        Ok(()) => FlashOutcome::HandedOver,
        Err(error @ devlink::Error::TimedOut { .. }) => {
            FlashOutcome::Degraded { why: chain(&error), restore_from: None }
        }
        Err(error) if begun => FlashOutcome::Degraded { why: chain(&error), restore_from: None },
        Err(error) => FlashOutcome::Refused { why: chain(&error) },
    }
}

fn components(before: &Versions, after: &Versions) -> Vec<ComponentVersion> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let component = |name: &String| ComponentVersion {
        name: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    names.into_iter().map(component).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_told_before_and_after() {
        let versions = |pairs: &[(&str, &str)]| -> Versions {
            pairs
                .iter()
                .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()))
                .collect()
        };
        let told = |name: &str, before: Option<&str>, after: Option<&str>| ComponentVersion {
            name: name.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        assert_eq!(
            components(
                &versions(&[("fw", "1"), ("old", "7")]),
                &versions(&[("fw", "2"), ("new", "1")])
            ),
            [
                told("fw", Some("1"), Some("2")),
                told("new", None, Some("1")),
                told("old", Some("7"), None)
            ]
        );
    }
}
