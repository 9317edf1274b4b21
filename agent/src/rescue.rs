//! The rescue role: the ssh server of the ramdisk, from the first second, whatever the boot role does.
//!
//! On entry nothing is needed but `/proc`: no network, no name service, no other role. It listens
//! on every address that there is or will be. It ends only when it cannot listen at all; PID 1
//! starts it again. Nobody gets in without a key or a certificate that the image, or a verified
//! document, names.
//!
//! Protocol: RFC 4251 to 4254, and
//! <https://github.com/openssh/openssh-portable/blob/master/PROTOCOL>.

mod access;
mod addresses;
mod admission;
pub(crate) mod authorized_keys;
mod connection;
mod flow;
mod forward;
mod host_key;
mod listener;
mod options;
mod pattern;
mod program;
mod scp;
mod sftp;
mod terminal;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::chain::Chain;
use crate::pid1::Pid1;
use crate::status::{Address, Status};
use crate::sys::obey_terminal_signals;
use addresses::Addresses;
use host_key::HostKey;
use options::{Server, Task};

/// Runs the role with the arguments after its name.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let end = Task::parse(exact(arguments)).map_err(Box::from).and_then(perform);
    end.unwrap_or_else(|error| {
        log::error!("rescue: {}", Chain(&*error));
        ExitCode::FAILURE
    })
}

/// The same arguments as they were given: commands and file names may be any bytes.
fn exact(arguments: &[String]) -> Vec<OsString> {
    let given = std::env::args_os();
    let before = given.len().saturating_sub(arguments.len());
    given.skip(before).collect()
}

fn perform(task: Task) -> Result<ExitCode, Box<dyn Error>> {
    if !matches!(task, Task::Listen(_)) {
        obey_terminal_signals()?;
    }
    match task {
        Task::Help => std::io::stdout().write_all(options::HELP.as_bytes())?,
        Task::Listen(server) => run_async(listen(server))?,
        Task::Connection(server) => run_async(connection::serve(server))?,
        Task::Sftp => sftp::serve(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?,
        Task::Scp(arguments) => return Ok(scp::run(&arguments)),
        Task::Terminal(program) => return Err(terminal::become_leader(&program).into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_async<E: Into<Box<dyn Error>>>(
    task: impl Future<Output = Result<(), E>>,
) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, task).map_err(Into::into)
}

/// Clients may connect before the host key is there; their first answer waits for it.
async fn listen(server: Server) -> Result<(), Box<dyn Error>> {
    let listeners = listener::bind(&server.listen).await?;
    for listener in &listeners {
        log::info!("ssh: listening on {}", listener.local_addr()?);
    }
    let host_key = host_key(&server)?;
    log::info!("ssh: host key {}", host_key.fingerprint());
    let for_children = host_key.hand_over()?;
    let names = server.names.clone();
    tokio::join!(listener::serve(listeners, server, for_children), introduce(&host_key, names));
    Ok(())
}

/// Tells operators what to put into their `known_hosts`, again whenever there is a new address.
async fn introduce(host_key: &HostKey, names: Vec<String>) {
    let told = match names.is_empty() {
        true => introduce_by_address(host_key).await,
        false => tell(host_key, &names),
    };
    if let Err(error) = told {
        log::warn!("ssh: no line for known_hosts: {}", Chain(&*error));
    }
}

async fn introduce_by_address(host_key: &HostKey) -> Result<(), Box<dyn Error>> {
    let mut addresses = Addresses::watch()?;
    loop {
        let names: Vec<_> = addresses.next().await?.iter().map(ToString::to_string).collect();
        tell(host_key, &names)?;
    }
}

fn tell(host_key: &HostKey, names: &[String]) -> Result<(), Box<dyn Error>> {
    log::info!("ssh: known_hosts: {}", host_key.known_hosts(names)?);
    listener::let_go_of_start();
    Ok(())
}

/// What a report tells operators of our host key, if this machine is ours and has one: fields with
/// the key's fingerprint and with a line for `known_hosts`.
pub(crate) fn introduction() -> Vec<(&'static str, String)> {
    if Pid1::find() != Pid1::Ours {
        return vec![];
    }
    let addresses = Status::now().addresses;
    let name = |address: &Address| Some(address.address.split_once('/')?.0.to_owned());
    let names: Vec<_> = addresses.iter().filter_map(name).collect();
    introduced(Path::new("/"), &names)
}

fn introduced(root: &Path, names: &[String]) -> Vec<(&'static str, String)> {
    let Ok(Some(host_key)) = HostKey::load(root) else { return vec![] };
    let line = host_key.known_hosts(names).ok().filter(|_| !names.is_empty());
    let line = line.map(|line| ("debug.ssh_known_hosts", line));
    std::iter::once(("debug.ssh_host_key", host_key.fingerprint())).chain(line).collect()
}

/// An image's key that cannot be used must not lock operators out.
fn host_key(server: &Server) -> Result<HostKey, host_key::Error> {
    match HostKey::load(&server.root) {
        Ok(Some(key)) => return Ok(key),
        Ok(None) => {}
        Err(error) => log::warn!("ssh: making a new host key: {}", Chain(&error)),
    }
    let made = HostKey::make()?;
    if let Err(error) = made.keep(&server.root) {
        log::warn!("ssh: the host key will change if rescue restarts: {}", Chain(&error));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_introduces_the_key_that_operators_will_meet() {
        let root = tempfile::tempdir().unwrap();
        let names = ["192.168.0.2".to_owned(), "2001:db8::2".to_owned()];
        assert_eq!(introduced(root.path(), &names), [], "there is no key yet");
        let key = HostKey::make().unwrap();
        key.keep(root.path()).unwrap();
        let fingerprint = ("debug.ssh_host_key", key.fingerprint());
        assert_eq!(introduced(root.path(), &[]), std::slice::from_ref(&fingerprint));
        let line = ("debug.ssh_known_hosts", key.known_hosts(&names).unwrap());
        assert_eq!(introduced(root.path(), &names), [fingerprint, line]);
    }
}
