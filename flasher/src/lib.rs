//! Reflashes a network card's option ROM, and keeps a way back.
//!
//! `flash` is the procedure, over the seam in `chip`; `decide` and `plan` are pure; `helper` runs
//! each chip operation in a process of its own, which is `operation`, over `flashrom`.

pub mod address;
pub mod chip;
pub mod cli;
pub mod commands;
pub mod decide;
pub mod devlink;
pub mod disk;
pub mod driver;
#[cfg(test)]
mod fake;
pub mod flash;
pub mod flashrom;
pub mod helper;
pub mod kept;
pub mod mstflint;
pub mod mtd;
pub mod observer;
pub mod operation;
pub mod output;
pub mod pci;
pub mod plan;
pub mod programmer;
pub mod signal;
pub mod store;
pub mod support;
pub mod target;
