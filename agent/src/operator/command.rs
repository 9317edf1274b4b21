//! What `stage2` can be told to do, and the help for it.

/// One subcommand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// What follows the name.
    pub(super) operands: &'static str,
    /// One line.
    pub(super) about: &'static str,
    /// What one needs to know before one uses it.
    pub(super) details: &'static str,
}

/// All subcommands, in the order in which an operator needs them.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "status",
        operands: "[--json] [--follow]",
        about: "what the machine is doing, and why it stopped",
        details: "\
Options:
  --json    one line of JSON, for scripts; times are seconds since kernel start
  --follow  again whenever something changes, until interrupted",
    },
    Command {
        name: "log",
        operands: "[-f] [--all]",
        about: "what stage2 said, and what the kernel warned of",
        details: "\
Options:
  -f, --follow  and what they will say, until interrupted
  --all         everything that the kernel said too

Session ids and tokens are left out.",
    },
    Command {
        name: "plan",
        operands: "",
        about: "the boot document as this machine understands it",
        details: "\
Shows kernel parameters, variables, files, environment and commands of the last
attempt as JSON, as far as they were evaluated. Secrets are left out.",
    },
    Command {
        name: "hold",
        operands: "",
        about: "keep the boot from handing over",
        details: "\
From now on no command of the boot document is started and no kernel is entered.
A command that runs already ends as it would. A machine that has given up does
not restart. Nothing is lost: `stage2 resume` goes on where it stopped.",
    },
    Command {
        name: "resume",
        operands: "",
        about: "let a held boot go on",
        details: "\
A boot that was held before a command goes on with it; one that was held between
two attempts begins the next one. If parameters were set meanwhile, the attempt
begins anew with them.",
    },
    Command {
        name: "retry",
        operands: "",
        about: "begin a new attempt now",
        details: "\
Ends a pause, a download or a wait for the network; never a command that runs.
Starts the boot role again if it has ended. A hold stays: the new attempt stops
before its first command.",
    },
    Command {
        name: "set",
        operands: "KEY=VALUE...",
        about: "change kernel parameters for this boot",
        details: "\
The next attempt sees the values in place of those of the kernel command line,
also for the network. Values have no white space and no quotes. Follow it with
`stage2 retry` or `stage2 resume`.
All that was set is forgotten with `rm /run/stage2/wishes/kargs`.

Examples:
  stage2 set epoxy.stage2=https://boot.example.net/v1/boot/host1/debug/stage2
  stage2 set epoxy.ip=dhcp epoxy.interface=eth1",
    },
    Command {
        name: "fetch",
        operands: "URL [OPTION...]",
        about: "download a file and verify it",
        details: "\
Options:
  --sha256 HEX       what the file must hash to; without it only https is taken
  -o, --output FILE  where it goes; else the URL's last part, in this directory

The file appears under its name when it is complete and verified, not before.",
    },
    Command {
        name: "kexec",
        operands: "ARGUMENT...",
        about: "load another kernel and enter it; as /sbin/kexec",
        details: "",
    },
    Command {
        name: "inventory",
        operands: "[--json]",
        about: "processors, memory, cards, disks",
        details: "Options:\n  --json  one line of JSON, for scripts",
    },
    Command {
        name: "net",
        operands: "",
        about: "interfaces, addresses, routes, name servers",
        details: "Shows what the kernel knows now, whoever has set it up.",
    },
    Command {
        name: "chroot",
        operands: "DEVICE [COMMAND...]",
        about: "enter an installed system, to mend it",
        details: "\
Mounts the root on the device, what its /etc/fstab names by device or UUID, and
dev, proc, sys and run; then runs the command in it, or a shell. Others do not
see the mounts, and they end with it. Needs an image of the flavour disk.

Examples:
  stage2 chroot /dev/sda2
  vgchange -ay; stage2 chroot /dev/vg/root update-grub",
    },
    Command { name: "reboot", operands: "", about: "restart the machine", details: LEAVING },
    Command { name: "poweroff", operands: "", about: "turn the machine off", details: LEAVING },
];

const LEAVING: &str = "\
PID 1 stops everything, turns the network cards off and writes disks back. It
refuses while a flasher runs: half of a ROM on a chip is no ROM.";

/// How `stage2` ends.
const EXIT: &str = "\
Exit status: 0 done; 1 not done, and the reason is said; 2 wrong usage.";

/// The subcommand with this name.
pub(super) fn named(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// What `stage2 --help` shows.
pub(super) fn help() -> String {
    let row = |command: &Command| {
        format!("  {:28} {}\n", format!("{} {}", command.name, command.operands), command.about)
    };
    let rows: String = COMMANDS.iter().map(row).collect();
    format!(
        "usage: stage2 [COMMAND]\n\nShows what this machine is doing, and changes it; without a \
         command: shortly.\n\n{rows}\n`stage2 COMMAND --help` tells more.\n{EXIT}\nWhen a \
         machine will not boot: stage2 hold, log, plan, set ..., resume\n"
    )
}

impl Command {
    /// What `stage2 COMMAND --help` shows.
    pub(super) fn help(&self) -> String {
        let Self { name, operands, about, details } = self;
        let usage = format!("usage: stage2 {name} {operands}");
        format!("{}\n\n{about}\n\n{details}\n\n{EXIT}\n", usage.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_help_fits_an_80_column_terminal() {
        let texts = COMMANDS.iter().map(Command::help).chain([help()]);
        for text in texts {
            assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        }
        // A prompt before it, and one behind it.
        assert!(help().lines().count() <= 22, "{}", help());
    }
}
