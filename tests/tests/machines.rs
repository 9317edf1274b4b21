//! Machines in QEMU and what an operator sees of them, as one program: what waits for one machine leaves
//! its time to another.

mod card_lost;
mod command_line;
mod commands;
mod consoles;
mod dhcp;
mod disks;
mod efi;
mod evidence;
mod failures;
mod flash_boot;
mod flash_closure;
mod flash_devlink;
mod flash_disk;
mod flash_mtd;
mod flash_rom_boot;
mod flash_session;
mod flash_without_chip;
mod init_signals;
mod ipv6;
mod ipxe_chain;
mod kexec;
mod keys;
mod lab;
mod operator;
mod operator_ssh;
mod processors;
mod readme;
mod reproducible;
mod rescue;
mod reset;
mod screen;
mod server;
mod stage3;
mod tls;
