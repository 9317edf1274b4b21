//! When a boot came how far: milestones on the console and at the boot server, on one clock.

use std::fmt;
use std::time::Duration;

use crate::chain;
use crate::server::BootServer;
use crate::vm::Vm;

/// How a milestone is recognised.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// This text on the console, after that of the milestone before.
    Console(&'static str),
    /// The first request for a path that ends so.
    Request(&'static str),
}

const MILESTONES: &[(&str, Sign)] = &[
    ("stage1: iPXE has started", Sign::Console("iPXE initialising devices")),
    ("stage1: asked the boot server", Sign::Request("/stage1.ipxe")),
    ("stage1: fetches stage2", Sign::Request(chain::STAGE2)),
    ("stage2: the kernel speaks", Sign::Console("Linux version")),
    ("stage2: asked the boot server", Sign::Request("/stage2")),
    ("stage2: fetches the initramfs", Sign::Request(chain::STAGE3_INITRAMFS)),
    ("stage2: fetches the kernel", Sign::Request(chain::STAGE3_KERNEL)),
    ("stage2: all verified, enters stage3", Sign::Console("asking ")),
    ("stage3: the kernel speaks", Sign::Console("Linux version")),
    ("stage3: systemd starts", Sign::Console("Welcome to")),
    ("stage3: asked the boot server", Sign::Request("/stage3")),
    ("stage3: reported", Sign::Request("/report")),
    ("stage3: login prompt", Sign::Console("login:")),
];

/// The milestones of one boot, each with the time since power on if it was reached.
pub struct Timeline(Vec<(&'static str, Option<Duration>)>);

impl Timeline {
    /// Reads what has happened so far.
    #[must_use]
    pub fn of(vm: &Vm, server: &BootServer) -> Self {
        let mut console = vm.console.from_start();
        let offset = vm.started().saturating_duration_since(server.log().started());
        let requests = server.log().requests();
        let reached = |sign: Sign| match sign {
            Sign::Console(text) => {
                console.expect_within(Duration::ZERO, text).ok().map(|found| found.at)
            }
            Sign::Request(end) => {
                let request = requests.iter().find(|request| request.path.ends_with(end))?;
                Some(request.at.saturating_sub(offset))
            }
        };
        let times = MILESTONES.iter().map(|(_, sign)| *sign).map(reached);
        let mut timeline: Vec<_> = MILESTONES.iter().map(|(name, _)| *name).zip(times).collect();
        timeline.sort_by_key(|(_, at)| at.unwrap_or(Duration::MAX));
        Self(timeline)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = Duration::ZERO;
        for (name, at) in &self.0 {
            match at {
                None => writeln!(f, "  {name:38}      not reached")?,
                Some(at) => {
                    let step = at.saturating_sub(before).as_secs_f64();
                    writeln!(f, "  {name:38} {:7.1} s  {step:+7.1}", at.as_secs_f64())?;
                    before = *at;
                }
            }
        }
        Ok(())
    }
}
