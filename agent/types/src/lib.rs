//! What the boot server, the image builder, the flasher and the agent agree on.
//!
//! Everything here is a function of values: no I/O, no async, no `unsafe`.
#![forbid(unsafe_code)]

pub mod authorized_keys;
pub mod cmdline;
pub mod digest;
pub mod disk;
pub mod exit;
pub mod flash_report;
pub mod net;
pub mod nextboot;
pub mod params;
pub mod redact;
pub mod rom;
pub mod template;
pub mod words;
