//! The ramdisk's one program. Its name or its first argument picks the role.

fn main() {}
