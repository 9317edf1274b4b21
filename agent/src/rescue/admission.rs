//! Who may go on trying when many connect at once: a pure table of the connections there are.
//!
//! A newcomer is always let in. When there are too many that have not logged in, one of them has to
//! go: of the newcomer's own source if that has had its share, else of all; and among those, a
//! random one of the older half. A client with a good key logs in within a fraction of a second,
//! while it is young; one that hangs or guesses grows old. So a flood cannot lock operators out,
//! not even one from an operator's own address.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Connections that have not logged in, in all. Each is a process of about 1 MiB.
pub(crate) const MOST_STRANGERS: usize = 32;

/// Connections that have not logged in, from one address.
pub(crate) const MOST_PER_SOURCE: usize = 16;

/// Connections that have logged in.
pub(crate) const MOST_LOGINS: usize = 10;

/// Names a connection; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(pub(crate) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stranger(IpAddr),
    /// Told to go; one that proves who it is at that moment may still stay.
    Going,
    LoggedIn,
}

/// All connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    next: u64,
    connections: BTreeMap<Number, State>,
}

/// What a connection that proved who it is may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Login {
    Welcome,
    /// There are [`MOST_LOGINS`] already.
    Full,
}

impl Admission {
    /// Takes in a newcomer; the second value is the one that has to go for it.
    #[must_use]
    pub(crate) fn admit(&mut self, source: IpAddr, random: u64) -> (Number, Option<Number>) {
        let victim = self.victim(source, random);
        if let Some(victim) = victim {
            self.connections.insert(victim, State::Going);
        }
        let number = Number(self.next);
        self.next += 1;
        self.connections.insert(number, State::Stranger(source));
        (number, victim)
    }

    /// A connection has logged in; from now on it is never the one that has to go.
    pub(crate) fn log_in(&mut self, number: Number) -> Login {
        let logins = self.connections.values().filter(|state| **state == State::LoggedIn).count();
        if logins >= MOST_LOGINS {
            return Login::Full;
        }
        self.connections.insert(number, State::LoggedIn);
        Login::Welcome
    }

    /// A connection has ended.
    pub(crate) fn forget(&mut self, number: Number) {
        self.connections.remove(&number);
    }

    fn victim(&self, source: IpAddr, random: u64) -> Option<Number> {
        let own = self.strangers(|other| other == source);
        if own.len() >= MOST_PER_SOURCE {
            return older_half(&own, random);
        }
        let all = self.strangers(|_| true);
        if all.len() >= MOST_STRANGERS { older_half(&all, random) } else { None }
    }

    /// Oldest first.
    fn strangers(&self, of: impl Fn(IpAddr) -> bool) -> Vec<Number> {
        let strangers = self.connections.iter().filter(|(_, state)| match state {
            State::Stranger(source) => of(*source),
            State::Going | State::LoggedIn => false,
        });
        strangers.map(|(number, _)| *number).collect()
    }
}

fn older_half(numbers: &[Number], random: u64) -> Option<Number> {
    let half = numbers.len().div_ceil(2).max(1) as u64;
    numbers.get(usize::try_from(random % half).unwrap_or(0)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_newcomer_comes_in_and_an_old_stranger_of_its_source_goes() {
        let mut admission = Admission::default();
        for _ in 0..MOST_PER_SOURCE {
            assert_eq!(admission.admit(source(1), 0).1, None);
        }
        assert_eq!(admission.admit(source(2), 0).1, None, "another source has its own share");
        assert_eq!(admission.admit(source(1), 3).1, Some(Number(3)));
        assert_eq!(admission.admit(source(1), 7).1, Some(Number(8)));
    }

    #[test]
    fn when_all_places_are_taken_the_older_half_loses_one_whatever_its_source() {
        let mut admission = Admission::default();
        for number in 0..MOST_STRANGERS {
            assert_eq!(admission.admit(source(number as u8), 0).1, None);
        }
        for random in 0..1000 {
            let (number, victim) = admission.admit(source((random % 200) as u8), random);
            let victim = victim.unwrap();
            assert!(number.0 - victim.0 > MOST_STRANGERS as u64 / 2, "{victim:?} was too young");
            assert!(admission.strangers(|_| true).len() <= MOST_STRANGERS);
        }
    }

    #[test]
    fn one_that_logged_in_stays() {
        let mut admission = Admission::default();
        let (operator, _) = admission.admit(source(1), 0);
        assert_eq!(admission.log_in(operator), Login::Welcome);
        for random in 0..200 {
            assert_ne!(admission.admit(source(1), random).1, Some(operator));
        }
    }

    #[test]
    fn the_eleventh_login_waits_until_another_ends() {
        let mut admission = Admission::default();
        let numbers: Vec<_> = (0..11).map(|last| admission.admit(source(last), 0).0).collect();
        for number in &numbers[..10] {
            assert_eq!(admission.log_in(*number), Login::Welcome);
        }
        assert_eq!(admission.log_in(numbers[10]), Login::Full);
        admission.forget(numbers[0]);
        assert_eq!(admission.log_in(numbers[10]), Login::Welcome);
    }
}
