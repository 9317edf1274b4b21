//! What to send to DHCP servers, and what to make of their answers.
//!
//! A function of values: the state and an answer, or silence, give the next state. RFC 2131,
//! sections 3.1 and 4.4.1.

use std::fmt;
use std::time::Duration;

use super::message::{self, Answer};
use super::{Client, Lease};

/// RFC 2131, section 4.1: the first answer may take 4 s, each further one twice as long …
const FIRST_PAUSE: Duration = Duration::from_secs(4);

/// … but not 64 s: a switch port that is still learning swallows the first messages for 30 s, and
/// the machine should not sleep through the moment when it stops.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// RFC 2131, section 4.1: machines that were switched on together must not ask together.
const JITTER: Duration = Duration::from_secs(1);

/// A server that made an offer and does not answer the request for it three times is gone.
const REQUESTS: u32 = 3;

/// How far a negotiation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Any server may make an offer.
    Selecting {
        /// How many pauses went by without one.
        silent: u32,
    },
    /// One server's offer was taken, and it has to confirm.
    Requesting {
        /// The offer.
        offer: Lease,
        /// How many pauses went by without an answer.
        silent: u32,
    },
}

/// What an answer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It was not for us, or not for now.
    Ignore,
    /// Send this state's message now.
    Send(State),
    /// Go on in this state when the pause is over.
    Wait(State),
    /// The lease is granted.
    Bound(Lease),
}

impl State {
    /// Where a negotiation begins.
    pub(super) const FIRST: Self = Self::Selecting { silent: 0 };

    /// The message to send in this state.
    pub(super) fn message(&self, client: &Client, xid: u32, elapsed: Duration) -> Vec<u8> {
        match self {
            Self::Selecting { .. } => message::discover(client, xid, elapsed),
            Self::Requesting { offer, .. } => message::request(client, xid, elapsed, offer),
        }
    }

    /// How long to wait for an answer.
    pub(super) fn pause(&self, random: u32) -> Duration {
        let (Self::Selecting { silent } | Self::Requesting { silent, .. }) = self;
        let doubled = FIRST_PAUSE.saturating_mul(1 << silent.min(&8));
        let jitter = 2 * JITTER.mul_f64(f64::from(random) / f64::from(u32::MAX));
        doubled.min(LONGEST_PAUSE) - JITTER + jitter
    }

    /// The state after an answer.
    pub(super) fn hear(&self, answer: Answer) -> Reaction {
        match (self, answer) {
            (Self::Selecting { .. }, Answer::Offer(offer)) => {
                Reaction::Send(Self::Requesting { offer, silent: 0 })
            }
            (Self::Requesting { offer, .. }, Answer::Ack(lease))
                if lease.server == offer.server =>
            {
                Reaction::Bound(lease)
            }
            (Self::Requesting { offer, silent }, Answer::Nak { server, reason })
                if server == offer.server =>
            {
                log::warn!("dhcp: {server} takes its offer of {} back: {reason}", offer.address);
                // At once would be a loop as fast as the network.
                Reaction::Wait(Self::Selecting { silent: *silent })
            }
            _ => Reaction::Ignore,
        }
    }

    /// The state after a pause without an answer.
    pub(super) fn after_silence(self) -> Self {
        match self {
            Self::Selecting { silent } => Self::Selecting { silent: silent.saturating_add(1) },
            Self::Requesting { silent, .. } if silent + 1 >= REQUESTS => Self::FIRST,
            Self::Requesting { offer, silent } => Self::Requesting { offer, silent: silent + 1 },
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selecting { .. } => write!(f, "asking for an offer"),
            Self::Requesting { offer, .. } => write!(f, "asking for {}", offer.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn lease(server: u8, address: u8) -> Lease {
        let [address, server] = [address, server].map(|last| Ipv4Addr::new(10, 0, 0, last));
        Lease::bare(address, server)
    }

    fn nak(server: u8) -> Answer {
        Answer::Nak { server: Ipv4Addr::new(10, 0, 0, server), reason: "no".to_owned() }
    }

    #[test]
    fn only_the_chosen_server_has_a_say() {
        let selecting = State::FIRST;
        let requesting = State::Requesting { offer: lease(1, 7), silent: 0 };
        for (state, answer, expected) in [
            (&selecting, Answer::Offer(lease(1, 7)), Reaction::Send(requesting.clone())),
            (&selecting, Answer::Ack(lease(1, 7)), Reaction::Ignore),
            (&selecting, nak(1), Reaction::Ignore),
            (&requesting, Answer::Offer(lease(2, 9)), Reaction::Ignore),
            (&requesting, Answer::Ack(lease(1, 7)), Reaction::Bound(lease(1, 7))),
            (&requesting, Answer::Ack(lease(2, 7)), Reaction::Ignore),
            (&requesting, nak(2), Reaction::Ignore),
            (&requesting, nak(1), Reaction::Wait(State::FIRST)),
        ] {
            assert_eq!(state.hear(answer.clone()), expected, "{state} hears {answer:?}");
        }
    }

    #[test]
    fn a_server_that_does_not_confirm_is_given_up_after_three_requests() {
        let mut state = State::Requesting { offer: lease(1, 7), silent: 0 };
        let mut sent = vec![];
        for _ in 0..4 {
            sent.push(state.to_string());
            state = state.after_silence();
        }
        let request = "asking for 10.0.0.7";
        assert_eq!(sent, [request, request, request, "asking for an offer"]);
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_differ_between_machines() {
        for (silent, shortest, longest) in [(0, 3, 5), (1, 7, 9), (2, 15, 17), (9, 15, 17)] {
            let state = State::Selecting { silent };
            assert_eq!(state.pause(0), Duration::from_secs(shortest), "{silent}");
            assert_eq!(state.pause(u32::MAX), Duration::from_secs(longest), "{silent}");
        }
    }
}
