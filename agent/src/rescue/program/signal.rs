//! Signals, as ssh and as the kernel name them.

use russh::Sig;
use rustix::process::Signal;

/// The signals of RFC 4254 section 6.10.
const SIGNALS: &[(Sig, Signal)] = &[
    (Sig::ABRT, Signal::ABORT),
    (Sig::ALRM, Signal::ALARM),
    (Sig::FPE, Signal::FPE),
    (Sig::HUP, Signal::HUP),
    (Sig::ILL, Signal::ILL),
    (Sig::INT, Signal::INT),
    (Sig::KILL, Signal::KILL),
    (Sig::PIPE, Signal::PIPE),
    (Sig::QUIT, Signal::QUIT),
    (Sig::SEGV, Signal::SEGV),
    (Sig::TERM, Signal::TERM),
    (Sig::USR1, Signal::USR1),
];

/// None if there is no such signal here.
pub(super) fn signal_of(sig: &Sig) -> Option<Signal> {
    let same = |known: &Sig| std::mem::discriminant(known) == std::mem::discriminant(sig);
    match sig {
        Sig::Custom(name) if name == "USR2" => Some(Signal::USR2),
        Sig::Custom(_) => None,
        _ => SIGNALS.iter().find(|(known, _)| same(known)).map(|(_, signal)| *signal),
    }
}

/// Those without a name of the standard get one of ours.
pub(super) fn name_of(number: i32) -> Sig {
    let known = SIGNALS.iter().find(|(_, signal)| signal.as_raw() == number);
    match known {
        Some((sig, _)) => sig.clone(),
        None if number == Signal::USR2.as_raw() => Sig::Custom("USR2".to_owned()),
        None => Sig::Custom(format!("{number}@stage2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_signals_go_there_and_back() {
        for (sig, signal) in SIGNALS {
            assert_eq!(signal_of(sig), Some(*signal));
            assert_eq!(signal_of(&name_of(signal.as_raw())), Some(*signal));
        }
        assert_eq!(signal_of(&Sig::Custom("NONSENSE".into())), None);
    }
}
