//! What is asked of whole disks.

use std::path::PathBuf;

use agent_types::digest::Sha256Digest;
use agent_types::disk::Fingerprint;

/// Something with a whole disk.
#[derive(Debug, PartialEq, Eq)]
pub enum DiskCommand {
    /// Show disks; with a target, the one that it means.
    List {
        /// What the disk is like.
        target: Option<Fingerprint>,
    },
    /// Write an image to a disk.
    Write(WriteDisk),
    /// Write a backup of a disk back.
    Restore {
        /// What the disk is like.
        target: Fingerprint,
        /// The backup.
        backup: PathBuf,
        /// Longest time in seconds for any single operation on the disk.
        time_limit: Option<u64>,
    },
}

/// What `disk write` needs.
#[derive(Debug, PartialEq, Eq)]
pub struct WriteDisk {
    /// What the disk is like.
    pub target: Fingerprint,
    /// What it shall hold.
    pub image: PathBuf,
    /// What that must be.
    pub sha256: Option<Sha256Digest>,
    /// Keep the backup here.
    pub backup: Option<PathBuf>,
    /// Longest time in seconds for any single operation on the disk.
    pub time_limit: Option<u64>,
    /// Show the plan and change nothing.
    pub dry_run: bool,
}
