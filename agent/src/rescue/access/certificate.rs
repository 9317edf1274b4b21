//! What a certificate itself says about its use.
//!
//! <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.certkeys>

use std::net::IpAddr;
use std::time::SystemTime;

use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::CertType;

use super::{Permissions, Refusal, USER, Visit};
use crate::rescue::authorized_keys::Switch;
use crate::rescue::pattern::SourceList;

/// A certificate that names nobody is refused: it would be good for every account of the fleet.
pub(super) fn names_one_of(
    certificate: &Certificate,
    principals: &[String],
) -> Result<(), Refusal> {
    let wanted = |name: &String| match principals {
        [] => name == USER,
        principals => principals.contains(name),
    };
    if certificate.valid_principals().iter().any(wanted) { Ok(()) } else { Err(Refusal::Principal) }
}

/// What a certificate itself says about its use.
pub(super) struct Demands {
    command: Option<String>,
    pty: Switch,
    forwarding: Switch,
    touch: Switch,
}

impl Demands {
    pub(super) fn read(certificate: &Certificate, visit: Visit) -> Result<Self, Refusal> {
        if certificate.cert_type() != CertType::User {
            return Err(Refusal::NotForUsers);
        }
        certificate.verify_signature().map_err(|_| Refusal::Signature)?;
        in_its_time(certificate, visit.now)?;
        let extension = |name| match certificate.extensions().contains_key(name) {
            true => Switch::On,
            false => Switch::Off,
        };
        let mut demands = Self {
            command: None,
            pty: extension("permit-pty"),
            forwarding: extension("permit-port-forwarding"),
            touch: match extension("no-touch-required") {
                Switch::On => Switch::Off,
                Switch::Off => Switch::On,
            },
        };
        for (name, value) in certificate.critical_options().iter() {
            match name.as_str() {
                "force-command" => demands.command = Some(value.clone()),
                "source-address" => from_one_of(value, visit.source)?,
                _ => return Err(Refusal::CriticalOption(name.clone())),
            }
        }
        Ok(demands)
    }

    /// Whether a security key must have been touched.
    pub(super) fn touch(&self) -> Switch {
        self.touch
    }

    /// What both the certificate and the line of its authority allow.
    pub(super) fn narrow(self, line: Permissions) -> Result<Permissions, Refusal> {
        let command = match (line.command, self.command) {
            (Some(ours), Some(theirs)) if ours != theirs => return Err(Refusal::TwoCommands),
            (ours, theirs) => ours.or(theirs),
        };
        Ok(Permissions {
            pty: both(line.pty, self.pty),
            forwarding: both(line.forwarding, self.forwarding),
            permit_open: line.permit_open,
            command,
        })
    }
}

fn in_its_time(certificate: &Certificate, now: SystemTime) -> Result<(), Refusal> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds < certificate.valid_after() {
        return Err(Refusal::NotYetValid);
    }
    if seconds >= certificate.valid_before() {
        return Err(Refusal::Expired);
    }
    Ok(())
}

fn from_one_of(networks: &str, source: IpAddr) -> Result<(), Refusal> {
    let networks: SourceList =
        networks.parse().map_err(|_| Refusal::CriticalOption("source-address".to_owned()))?;
    if networks.contains(source) { Ok(()) } else { Err(Refusal::Source) }
}

fn both(one: Switch, other: Switch) -> Switch {
    if one == Switch::On && other == Switch::On { Switch::On } else { Switch::Off }
}
