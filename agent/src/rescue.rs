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
pub(crate) mod host_key;
mod identity;
mod listener;
mod options;
mod pattern;
mod program;
mod scp;
mod sftp;
mod terminal;
mod throttle;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::chain::Chain;
use crate::sys::obey_terminal_signals;
use identity::Identity;
pub(crate) use identity::introduction;
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
    let (root, names) = (server.root.clone(), server.names.clone());
    let identity = Identity::choose(&root)?;
    let keys = identity.subscribe();
    tokio::join!(
        listener::serve(listeners, server, keys.clone()),
        identity::introduce(keys, names),
        identity.keep_up(&root),
    );
    Ok(())
}
