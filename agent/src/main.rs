//! The ramdisk's one program. Its name or its first argument picks the role.

mod commands;

fn main() {}
