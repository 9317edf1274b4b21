//! The ramdisk's one program. Its name or its first argument picks the role.

mod artifact;
mod attempt;
mod boot;
mod build_info;
mod bzimage;
mod chain;
mod client;
mod clock;
mod commands;
mod console;
mod depart;
mod dhcp;
mod disk_update;
mod document_keys;
mod downloads;
mod evidence;
mod fetch;
mod flash_reports;
mod flasher;
mod hold;
mod init;
mod interfaces;
mod kernel_log;
mod kexec;
mod keyring;
mod kmsg;
mod leave;
mod links;
mod meminfo;
mod memory;
mod mounts;
mod netlink;
mod network;
mod notice;
mod operator;
mod packed;
mod pid1;
mod policy;
mod progress;
mod reap;
mod report;
mod rescue;
mod resolv;
mod resolve;
mod retry;
mod rom_update;
mod screen;
mod send_backup;
mod settle;
mod shell;
mod signals;
mod size;
mod spawn;
mod ssh_keys;
mod state;
mod status;
mod supervise;
mod sys;
mod tls;
mod update;
mod uplink;
mod utc;
mod verify;
mod wallclock;
mod watch;
mod wishes;

use std::path::Path;
use std::process::ExitCode;

use crate::kmsg::Readers;
use crate::pid1::Pid1;

/// What this program can be.
struct Role {
    name: &'static str,
    about: &'static str,
    caller: Caller,
    run: fn(&[String]) -> ExitCode,
}

/// Who becomes a role.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Whoever likes; `--help` tells how.
    Anybody,
    /// The kernel.
    Kernel,
    /// PID 1 of our own ramdisk: what the role does to a machine is meant for that.
    Init,
    /// A program of our own.
    Flasher,
}

use Caller::{Anybody, Flasher, Init, Kernel};

impl Role {
    const fn new(
        name: &'static str,
        caller: Caller,
        run: fn(&[String]) -> ExitCode,
        about: &'static str,
    ) -> Self {
        Self { name, about, caller, run }
    }
}

const ROLES: &[Role] = &[
    Role::new("init", Kernel, init::run, "PID 1: starts the others and leaves the kernel"),
    Role::new("boot", Init, boot::run, "network, boot document, files, commands"),
    Role::new("rescue", Anybody, rescue::run, "an ssh server for operators"),
    Role::new("shell", Init, shell::run, "a shell on the console"),
    Role::new("depart", Init, depart::run, "leaves this kernel"),
    Role::new("settle", Init, settle::run, "writes disks back"),
    Role::new("stage2", Anybody, operator::run, "what an operator sees and can do"),
    Role::new("epoxy_client", Anybody, client::run, "one boot document, on any Linux"),
    Role::new("kexec", Anybody, kexec::run, "loads the next kernel and enters it"),
    Role::new("send-backup", Flasher, send_backup::run, "posts a backup"),
];

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    match pick(std::process::id(), &words) {
        Some((role, arguments)) => become_role(role, arguments),
        None => help(words.get(1).is_some_and(|word| word == "--help" || word == "-h")),
    }
}

/// PID 1 is *init* whatever the kernel passes on: unknown words of its command line come as
/// arguments. Otherwise the name under which we were called decides, then the first argument.
fn pick(pid: u32, words: &[String]) -> Option<(&'static Role, &[String])> {
    let (called, arguments) = words.split_first()?;
    if pid == 1 {
        return Some((role_named("init")?, arguments));
    }
    let called = Path::new(called).file_name().and_then(|name| name.to_str());
    match called.filter(|name| *name != "init").and_then(role_named) {
        Some(role) => Some((role, arguments)),
        None => arguments.split_first().and_then(|(name, rest)| Some((role_named(name)?, rest))),
    }
}

fn role_named(name: &str) -> Option<&'static Role> {
    ROLES.iter().find(|role| role.name == name)
}

fn become_role(role: &Role, arguments: &[String]) -> ExitCode {
    if role.caller == Kernel {
        return (role.run)(arguments);
    }
    let pid1 = Pid1::find();
    if role.caller == Init && !was_started_by(&pid1) {
        eprintln!("{}: only stage2's PID 1 starts this role", role.name);
        return ExitCode::FAILURE;
    }
    begin(role, &pid1);
    (role.run)(arguments)
}

/// Where there is no `/proc`, nobody can tell whose PID 1 it is.
fn was_started_by(pid1: &Pid1) -> bool {
    let is_foreign = match pid1 {
        Pid1::Ours => false,
        Pid1::Systemd => true,
        Pid1::Other(name) => !name.is_empty(),
    };
    spawn::is_child_of_init() && !is_foreign
}

/// In our own ramdisk a role may be a child of PID 1, and the log is the machine's.
fn begin(role: &Role, pid1: &Pid1) {
    if *pid1 != Pid1::Ours {
        return kmsg::start(Readers::User);
    }
    let begun = spawn::begin(role.name);
    kmsg::start(Readers::Machine);
    if let Err(error) = begun {
        log::warn!("cannot begin a session: {error}");
    }
}

fn help(asked: bool) -> ExitCode {
    println!("usage: agent ROLE [ARGUMENT...], or a link to it that is named like the role\n");
    for Role { name, about, .. } in ROLES.iter().filter(|role| role.caller == Anybody) {
        println!("  {name:14}{about}");
    }
    println!("\n`agent ROLE --help` tells more. In the ramdisk others start these:\n");
    for Role { name, about, .. } in ROLES.iter().filter(|role| role.caller != Anybody) {
        println!("  {name:14}{about}");
    }
    if asked { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_picked_by_pid_then_name_then_first_argument() {
        for (pid, words, expected) in [
            (1, "/init", Some(("init", ""))),
            (1, "/init kexec -e", Some(("init", "kexec -e"))),
            (7, "/sbin/kexec -e", Some(("kexec", "-e"))),
            (7, "init shell", Some(("shell", ""))),
            (7, "/usr/bin/stage2 hold", Some(("stage2", "hold"))),
            (7, "output/agent kexec --help", Some(("kexec", "--help"))),
            (7, "output/agent", None),
            (7, "output/agent --help", None),
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let picked = pick(pid, &words);
            let picked = picked.map(|(role, arguments)| (role.name, arguments.join(" ")));
            let expected = expected.map(|(name, arguments)| (name, arguments.to_owned()));
            assert_eq!(picked, expected, "{words:?}");
        }
    }
}
