//! Rewrites a whole disk, usually a USB stick, and keeps a way back.
//!
//! `rewrite` is the procedure, over the seam in `device`; `plan` is pure. `session` is the seam's real
//! side: a process that has the disk open, which is `operation`. `sysfs`, `usage` and `volumes` tell
//! what a disk is, and `choose` which one is meant.

pub mod backup;
pub mod choose;
pub mod device;
#[cfg(test)]
mod fake;
mod fat;
pub mod image;
pub mod marker;
pub mod operation;
pub mod plan;
pub mod rewrite;
pub mod room;
pub mod session;
mod survey;
pub mod sysfs;
mod usage;
pub mod volumes;
