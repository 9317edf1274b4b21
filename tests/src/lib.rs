//! Boots the image in QEMU, against a real boot server, and checks what an operator would see.
//!
//! A test starts a [`server::BootServer`], describes a [`machine::Machine`], starts it as a
//! [`vm::Vm`] and waits for what its console says. Nothing here is imitated but faults.

pub mod bench;
pub mod cache;
pub mod certificate;
pub mod chain;
pub mod command;
pub mod console;
pub mod document;
pub mod flash;
pub mod image;
pub mod lab;
pub mod machine;
pub mod operator;
pub mod qmp;
pub mod scenario;
pub mod server;
pub mod shell;
pub mod stage3;
pub mod stick;
pub mod terminal;
pub mod timeline;
pub mod tmux;
pub mod vm;
