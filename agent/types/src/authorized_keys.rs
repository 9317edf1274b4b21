//! Lines of `authorized_keys`, as sshd(8) has them: what rescue honours.

/// The options, in small letters. A line with any other lets nobody in: it may be a restriction.
pub const OPTIONS: &[&str] = &[
    "cert-authority",
    "principals",
    "from",
    "command",
    "expiry-time",
    "permitopen",
    "restrict",
    "pty",
    "no-pty",
    "port-forwarding",
    "no-port-forwarding",
    "touch-required",
    "no-touch-required",
    "no-agent-forwarding",
    "no-x11-forwarding",
    "no-user-rc",
];
