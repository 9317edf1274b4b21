//! The rescue role, as OpenSSH's own programs meet it on loopback.
//!
//! Needs root, and what `.debian-packages` names. Everything that is waited for has a bound: a
//! client that hangs is ended and fails its test.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod fuzz;
mod rescue_access;
mod rescue_files;
mod rescue_hostile;
mod rescue_limits;
mod rescue_names;
mod rescue_odd;
mod rescue_sessions;
mod security_key;
mod server;
