//! The rescue role, as OpenSSH's own programs meet it on loopback.
//!
//! Needs root, `ssh`, `sftp`, `scp`, `ssh-keygen`, `python3`; `ssh-audit` is taken from PyPI if it is
//! not there.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod rescue_access;
mod rescue_files;
mod rescue_hostile;
mod rescue_sessions;
mod security_key;
mod server;
