//! Bindings to libflashrom, made from its header at build time.
//!
//! `flasher::flashrom` is the safe side; nothing else calls these. Which functions exist depends
//! on the library: [`HAS_PROBE_V2`] and its like say so.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unused_imports,
    clippy::all,
    reason = "generated from C"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

/// Can the library tell a chip's name (1.6 and later)? Otherwise its log does.
pub const HAS_PROBE_V2: bool = cfg!(has_probe_v2);
/// Does the log callback take user data (1.6 and later)?
pub const HAS_LOG_CALLBACK_V2: bool = cfg!(has_log_callback_v2);
/// Does the library report progress by itself (1.6 and later)? Otherwise its log does.
pub const HAS_PROGRESS_CALLBACK_V2: bool = cfg!(has_progress_callback_v2);
