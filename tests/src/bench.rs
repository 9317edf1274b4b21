//! Measures the image against ramdisks of the same function, and the agent against the programs
//! that people use in its place.
//!
//! The peers are made of Debian's packages as they are: *baseline* does what the image does, with a
//! shell script, curl, dropbear and kexec-tools; *unchecked* is the same without the digest that
//! kexec-tools make of a kernel; *floor* does the least that can be done, without ssh, TLS or
//! retries. Whatever is compared gets the same kernel, the same payload, the same server
//! and the same machine, one run after the other in an order that changes.

pub mod boot;
pub mod debian;
pub mod download;
pub mod figure;
pub mod flash;
pub mod memory;
pub mod nginx;
pub mod payload;
pub mod ramdisk;
pub mod repack;
pub mod resident;
pub mod rotation;
pub mod sftp;
pub mod ssh;
