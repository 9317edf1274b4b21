//! The ramdisk's one program. Its name or its first argument picks the role.
#![expect(dead_code, unused_imports)]

mod artifact;
mod build_info;
mod chain;
mod clock;
mod fetch;
mod memory;
mod policy;
mod progress;
mod retry;
mod size;
mod tls;
mod utc;
mod verify;
mod wallclock;

fn main() {}
