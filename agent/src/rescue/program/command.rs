//! The program that a session runs: its words and its environment.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::Path;

use tokio::process::{Child, Command};

use super::{HOME, Purpose, Session};
use crate::rescue::listener::OURSELVES;

const PATH: &str = "/usr/bin:/usr/sbin:/bin:/sbin";

/// The shell of the ramdisk; on other machines `/bin/sh` will do.
const BUSYBOX: &str = "/bin/busybox";
const SHELL: &str = "/bin/sh";

/// A transfer moves a MiB with one call each on both sides.
const PIPE_BYTES: usize = 1024 * 1024;

/// The words of the program, its own name first.
pub(super) fn words(purpose: &Purpose) -> Vec<OsString> {
    match purpose {
        Purpose::Shell => shell(&["-l".into()]),
        Purpose::Sftp => vec![OURSELVES.into(), "rescue".into(), "--sftp".into()],
        Purpose::Command(command) => match scp_arguments(command) {
            // The shell expands what the client's `scp` left for it to expand.
            Some(arguments) => {
                let mut text = OsString::from("exec \"$0\" rescue --scp ");
                text.push(arguments);
                let ourselves = format!("/proc/{}/exe", std::process::id());
                shell(&["-c".into(), text, ourselves.into()])
            }
            None => shell(&["-c".into(), command.clone()]),
        },
    }
}

/// The ramdisk has no `scp` of its own.
fn scp_arguments(command: &OsStr) -> Option<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    let rest = command.as_bytes().strip_prefix(b"scp ")?;
    Some(OsStr::from_bytes(rest))
}

fn shell(arguments: &[OsString]) -> Vec<OsString> {
    let mut words: Vec<OsString> = match Path::new(BUSYBOX).exists() {
        true => vec![BUSYBOX.into(), "sh".into()],
        false => vec![SHELL.into()],
    };
    words.extend_from_slice(arguments);
    words
}

/// The program with its environment, in the home of root if there is one.
pub(super) fn command(words: &[OsString], session: &Session) -> Command {
    let (name, arguments) = words
        .split_first()
        .map_or((OsStr::new(SHELL), &[][..]), |(name, rest)| (name.as_os_str(), rest));
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(environment(session));
    if Path::new(HOME).is_dir() {
        command.current_dir(HOME);
    }
    command
}

fn environment(session: &Session) -> Vec<(&'static str, OsString)> {
    let (client, server) = (session.client, session.server);
    let ends = format!("{} {} {} {}", client.ip(), client.port(), server.ip(), server.port());
    let mut variables = vec![
        ("HOME", HOME.into()),
        ("LOGNAME", "root".into()),
        ("PATH", PATH.into()),
        ("SHELL", SHELL.into()),
        ("SSH_CONNECTION", ends.into()),
        ("USER", "root".into()),
    ];
    if let Some(original) = &session.original {
        variables.push(("SSH_ORIGINAL_COMMAND", original.clone()));
    }
    if let Some(terminal) = &session.terminal {
        variables.push(("TERM", terminal.term.clone().into()));
    }
    variables
}

/// The kernel may refuse; then it is slower.
pub(super) fn enlarge_pipes(child: &Child) {
    let pipes = [child.stdin.as_ref().map(AsFd::as_fd), child.stdout.as_ref().map(AsFd::as_fd)];
    for pipe in pipes.into_iter().flatten() {
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES) {
            log::debug!("ssh: cannot enlarge a pipe: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scp_is_ours_and_nothing_else_is() {
        let arguments = |text: &str| scp_arguments(text.as_ref()).map(OsStr::to_owned);
        assert_eq!(arguments("scp -t /tmp"), Some("-t /tmp".into()));
        assert_eq!(arguments("scpx -t /tmp"), None);
        assert_eq!(arguments("cat scp "), None);
    }
}
