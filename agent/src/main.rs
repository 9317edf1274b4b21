//! The ramdisk's one program. Its name or its first argument picks the role.

#![allow(dead_code, unused_imports)]

mod chain;
mod dhcp;
mod links;
mod netlink;
mod network;
mod resolv;

fn main() {}
