//! `stage2 hold`, `resume`, `retry` and `set`: writes the wish down, and says what follows from it.

use std::io::Write;
use std::path::Path;

use agent_types::exit::BootExit;

use super::Error;
use super::arguments::Request;
use crate::status::{BootRole, Status};
use crate::sys::{Linux, Signal, System as _, Target};
use crate::wishes::{WISHES, Wishes};

/// On return the wish is made; the boot role may have obeyed already.
pub(super) fn make(request: &Request, out: &mut impl Write) -> Result<(), Error> {
    let wishes = Wishes::at(Path::new(WISHES));
    let answer = answer(request, &Status::now());
    match request {
        Request::Hold => wishes.hold().map_err(Error::Wish)?,
        Request::Resume => wishes.resume().map_err(Error::Wish)?,
        Request::Set(kargs) => wishes.set(kargs).map_err(Error::Wish)?,
        _ => wishes.retry().map_err(Error::Wish)?,
    }
    // PID 1 starts a boot role that has ended, or stops its countdown to a restart; a boot role that
    // runs has seen the wish already.
    Linux.signal(Target::Process(1), Signal::HangUp).map_err(Error::Signal)?;
    ::log::info!("operator: {}", said(request));
    Ok(writeln!(out, "{answer}")?)
}

/// For the log, without the values, which may be secrets.
fn said(request: &Request) -> String {
    match request {
        Request::Hold => "hold".to_owned(),
        Request::Resume => "resume".to_owned(),
        Request::Set(kargs) => {
            let names: Vec<_> = kargs.keys().map(String::as_str).collect();
            format!("set {}", names.join(" "))
        }
        _ => "retry".to_owned(),
    }
}

fn answer(request: &Request, before: &Status) -> &'static str {
    match (request, before.held, before.boot_role) {
        (Request::Hold, true, _) => "the boot was held already",
        (Request::Hold, false, _) if before.state.over() == Some(BootExit::GaveUp) => {
            "held: the machine does not restart until `stage2 resume`, which begins anew"
        }
        (Request::Hold, false, _) if before.state.over() == Some(BootExit::Restart) => {
            "held: the machine does not restart until `stage2 resume`"
        }
        (Request::Hold, false, BootRole::Running) => {
            "held: nothing is started or entered until `stage2 resume`"
        }
        (Request::Hold, false, BootRole::Ended) => {
            "the boot role is not running; it is held when it starts, until `stage2 resume`"
        }
        (Request::Resume, false, _) => "the boot was not held: `stage2 retry` begins a new attempt",
        (Request::Resume, true, _) => "the boot goes on",
        (Request::Set(_), true, _) => "set: it counts from `stage2 resume` on",
        (Request::Set(_), false, _) => {
            "set: it counts from the next attempt on; `stage2 retry` begins one now"
        }
        (_, true, _) => "a new attempt begins; it is held before its first command",
        (_, false, _) => "a new attempt begins",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    fn status(boot_role: BootRole, phase: &str) -> Status {
        let state = State { phase: phase.to_owned(), ..State::default() };
        Status { boot_role, held: false, state, ..Status::now() }
    }

    #[test]
    fn a_hold_tells_what_it_holds() {
        for (boot_role, phase, expected) in [
            (BootRole::Running, "kexec", "held: nothing is started or entered until"),
            (BootRole::Ended, "kexec", "the boot role is not running; it is held when it starts"),
            (BootRole::Running, "gave up", "held: the machine does not restart until"),
            (BootRole::Ended, "restarting", "held: the machine does not restart until"),
        ] {
            let answer = answer(&Request::Hold, &status(boot_role, phase));
            assert!(answer.starts_with(expected), "{boot_role:?}, {phase}: {answer}");
        }
    }
}
