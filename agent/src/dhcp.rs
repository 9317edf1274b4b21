//! Gets an IPv4 address from a DHCP server, and keeps it.
//!
//! On entry the link has a carrier. [`acquire`] asks until a server grants a lease, and its caller
//! bounds it; [`renew`] asks once more for the same address. Neither touches the interface: the
//! caller installs what the [`Lease`] says. What to send when is a function of values
//! ([`exchange`]), the wire format is dhcproto's.
//!
//! Addresses are not probed by ARP before use; a server that hands out a taken one is not noticed.
//!
//! <https://www.rfc-editor.org/rfc/rfc2131>

mod exchange;
mod frame;
mod message;
mod socket;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use agent_types::net::DhcpClientId;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use self::exchange::{Reaction, State};
use self::message::Answer;
use self::socket::{BoundSocket, RawSocket};
use crate::netlink::{IfIndex, MacAddr, Route};

/// RFC 2131, section 4.4.5: wait no shorter for the answer to a renewal.
const SHORTEST_RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// The interface.
    pub index: IfIndex,
    /// Its name.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The name to register, if the machine has one already.
    pub hostname: Option<String>,
    /// What servers know the machine by instead of its Ethernet address.
    pub id: Option<DhcpClientId>,
}

/// What a server granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix in bits.
    pub prefix_len: u8,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// Routes: the classless ones (RFC 3442) if there are any, else those to the routers.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Time servers.
    pub ntp: Vec<IpAddr>,
    /// The network's domain.
    pub domain: Option<String>,
    /// The machine's name, in the server's opinion.
    pub hostname: Option<String>,
    /// The longest packet in bytes.
    pub mtu: Option<u16>,
    /// When it was granted, on the clock of [`since_boot`].
    pub obtained: Duration,
    /// T1: when to ask the same server again, counted from `obtained`.
    pub renew_after: Duration,
    /// T2: when to ask any server.
    pub rebind_after: Duration,
    /// When the address must not be used any more.
    pub expires_after: Duration,
}

/// What a lease needs at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing for so long.
    In(Duration),
    /// Ask the server that granted it, and wait so long for its answer.
    Renew(Duration),
    /// Ask any server, and wait so long for an answer.
    Rebind(Duration),
    /// The address must not be used any more.
    Expired,
}

/// Whom to ask for a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The server that granted the lease.
    ItsServer,
    /// Whoever listens.
    Anybody,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No socket.
    #[error("cannot open a socket for DHCP on {interface}")]
    Open {
        /// The interface.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// Nothing goes in or out.
    #[error("cannot talk to a DHCP server on {interface}")]
    Talk {
        /// The interface.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// The server wants the address back.
    #[error("cannot keep {address}: the DHCP server {server} refuses it: {reason}")]
    Refused {
        /// The address.
        address: Ipv4Addr,
        /// Who refused.
        server: Ipv4Addr,
        /// In its own words.
        reason: String,
    },
}

#[cfg(test)]
impl Lease {
    /// An address for a minute, and nothing more.
    fn bare(address: Ipv4Addr, server: Ipv4Addr) -> Self {
        Self {
            address,
            prefix_len: 8,
            server,
            routes: vec![],
            dns: vec![],
            ntp: vec![],
            domain: None,
            hostname: None,
            mtu: None,
            obtained: Duration::ZERO,
            renew_after: Duration::from_secs(30),
            rebind_after: Duration::from_secs(52),
            expires_after: Duration::from_secs(60),
        }
    }
}

impl Lease {
    /// What is to be done at `now`, on the clock of [`since_boot`].
    pub(crate) fn due(&self, now: Duration) -> Due {
        let remaining = |after| self.obtained.saturating_add(after).saturating_sub(now);
        let [renew, rebind, expiry] =
            [self.renew_after, self.rebind_after, self.expires_after].map(remaining);
        match [renew, rebind, expiry].map(|left| left.is_zero()) {
            [_, _, true] => Due::Expired,
            [_, true, _] => Due::Rebind(renewal_pause(expiry)),
            [true, ..] => Due::Renew(renewal_pause(rebind)),
            _ => Due::In(renew),
        }
    }
}

/// Half of what is left, as RFC 2131, section 4.4.5 says.
fn renewal_pause(left: Duration) -> Duration {
    (left / 2).max(SHORTEST_RENEWAL_PAUSE).min(left)
}

/// The clock of leases: it runs through suspension, and all processes read the same.
pub(crate) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// Asks for an address until a server grants one.
pub(crate) async fn acquire(client: &Client) -> Result<Lease, Error> {
    let socket = RawSocket::open(client)
        .map_err(|source| Error::Open { interface: client.interface.clone(), source })?;
    let started = Instant::now();
    let xid = random();
    let mut state = State::FIRST;
    loop {
        let message = state.message(client, xid, started.elapsed());
        log::debug!("dhcp: {} on {}", state, client.interface);
        if let Err(error) = socket.broadcast(client.mac, &message).await {
            // A link that has just lost its carrier may get it back.
            log::debug!("dhcp: cannot send on {}: {error}", client.interface);
        }
        let heard = timeout(state.pause(random()), listen(&socket, client, xid, &mut state));
        match heard.await {
            Ok(Ok(Some(lease))) => return Ok(lease),
            Ok(Ok(None)) => {}
            Ok(Err(source)) => {
                return Err(Error::Talk { interface: client.interface.clone(), source });
            }
            Err(_) => state = state.after_silence(),
        }
    }
}

/// Hears answers until there is a lease, or something to send.
async fn listen(
    socket: &RawSocket,
    client: &Client,
    xid: u32,
    state: &mut State,
) -> io::Result<Option<Lease>> {
    loop {
        let payload = socket.receive().await?;
        let Some(answer) = Answer::parse(&payload, client.mac, xid, since_boot()) else { continue };
        match state.hear(answer) {
            Reaction::Ignore => {}
            Reaction::Wait(next) => *state = next,
            Reaction::Send(next) => {
                *state = next;
                return Ok(None);
            }
            Reaction::Bound(lease) => return Ok(Some(lease)),
        }
    }
}

/// Asks once for the same address and waits for the answer, however long it takes.
///
/// On entry the interface carries the address.
pub(crate) async fn renew(client: &Client, lease: &Lease, whom: Ask) -> Result<Lease, Error> {
    let socket = BoundSocket::open(client)
        .map_err(|source| Error::Open { interface: client.interface.clone(), source })?;
    let talk = |source| Error::Talk { interface: client.interface.clone(), source };
    let to = match whom {
        Ask::ItsServer => lease.server,
        Ask::Anybody => Ipv4Addr::BROADCAST,
    };
    let xid = random();
    log::debug!("dhcp: asking {to} for {} again", lease.address);
    socket.send(to, &message::renewal(client, xid, lease.address)).await.map_err(talk)?;
    loop {
        let payload = socket.receive().await.map_err(talk)?;
        match Answer::parse(&payload, client.mac, xid, since_boot()) {
            Some(Answer::Ack(renewed)) => return Ok(renewed),
            Some(Answer::Nak { server, reason }) => {
                return Err(Error::Refused { address: lease.address, server, reason });
            }
            Some(Answer::Offer(_)) | None => {}
        }
    }
}

/// The standard library's hasher is seeded by the kernel; guessing it gains nobody anything here.
#[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_then_rebound_then_given_up() {
        let secs = Duration::from_secs;
        let lease = Lease {
            obtained: secs(100),
            renew_after: secs(1800),
            rebind_after: secs(3150),
            expires_after: secs(3600),
            ..Lease::bare(Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(10, 0, 0, 1))
        };
        for (now, expected) in [
            (100, Due::In(secs(1800))),
            (1899, Due::In(secs(1))),
            (1900, Due::Renew(secs(675))),
            (3200, Due::Renew(secs(50))),
            (3150, Due::Renew(secs(60))),
            (3250, Due::Rebind(secs(225))),
            (3690, Due::Rebind(secs(10))),
            (3700, Due::Expired),
            (9999, Due::Expired),
        ] {
            assert_eq!(lease.due(secs(now)), expected, "at {now} s");
        }
        let forever = Lease { expires_after: Duration::MAX, renew_after: Duration::MAX, ..lease };
        let forever = Lease { rebind_after: Duration::MAX, ..forever };
        assert_eq!(forever.due(secs(100)), Due::In(Duration::MAX - secs(100)));
    }
}
