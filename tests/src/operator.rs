//! An operator: a key that images let in, what the machine's console says about its host key, and
//! OpenSSH's own clients.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

use crate::command;
use crate::machine::{Card, USER_NETWORK_GUEST, UserNetwork, Wire};
use crate::vm::Vm;

/// A client that takes longer than so many seconds hangs.
const PATIENCE_SECONDS: &str = "120";

/// How the console introduces the machine's key.
const INTRODUCTION: &str = "ssh: known_hosts: ";

/// Somebody with a key.
pub struct Operator {
    directory: tempfile::TempDir,
}

impl Operator {
    /// Makes a key of their own.
    pub fn new() -> anyhow::Result<Self> {
        let operator = Self { directory: tempfile::tempdir()? };
        make_key(&operator.private_key())?;
        Ok(operator)
    }

    /// What an image needs to let them in.
    #[must_use]
    pub fn public_key(&self) -> PathBuf {
        self.directory.path().join("key.pub")
    }

    fn private_key(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    /// Takes the machine's key from its console.
    pub fn reach(&self, vm: &mut Vm) -> anyhow::Result<Access> {
        let found = vm.expect(&format!("{INTRODUCTION}{USER_NETWORK_GUEST} "))?;
        // The line is whole when the next one begins.
        vm.console.next_line(crate::console::PATIENCE).context("the console has ended")?;
        let lines = vm.console.lines();
        let line = lines.iter().find(|line| line.contains(&found.line)).unwrap_or(&found.line);
        let (_, known_hosts) =
            line.split_once(INTRODUCTION).context("expected a line for known_hosts")?;
        self.reach_known(vm, known_hosts)
    }

    /// Knows the machine's key already, as this line of `known_hosts` says.
    pub fn reach_known(&self, vm: &Vm, known_hosts: &str) -> anyhow::Result<Access> {
        let address = (Ipv4Addr::LOCALHOST, vm.control()?.ssh_port()?).into();
        let access = self.access(address, "yes")?;
        fs::write(access.known_hosts.path(), format!("{known_hosts}\n"))?;
        Ok(access)
    }

    /// Takes whatever key the machine at this address has.
    pub fn trust(&self, address: SocketAddr) -> anyhow::Result<Access> {
        self.access(address, "accept-new")
    }

    fn access(&self, address: SocketAddr, strictness: &'static str) -> anyhow::Result<Access> {
        let known_hosts = tempfile::NamedTempFile::new()?;
        Ok(Access { address, key: self.private_key(), known_hosts, strictness })
    }
}

/// Makes an ed25519 key without a passphrase.
pub fn make_key(path: &Path) -> anyhow::Result<()> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path);
    command::output(&mut keygen).map(drop)
}

/// A card that the operator's clients can reach.
#[must_use]
pub fn card() -> Card {
    let user = UserNetwork { ssh: true, ..UserNetwork::default() };
    Card::new("virtio-net-pci").on(Wire::User(user))
}

/// A machine that an operator can reach.
pub struct Access {
    /// What leads to it: a port of this host, or its own.
    pub address: SocketAddr,
    key: PathBuf,
    /// One each: machines have different keys.
    known_hosts: tempfile::NamedTempFile,
    strictness: &'static str,
}

impl Access {
    /// `ssh` or `scp`, which end by themselves in the end.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut client = Command::new("timeout");
        client.args(["--kill-after=5", PATIENCE_SECONDS, program, "-F", "none"]);
        client.arg(format!("-oPort={}", self.address.port())).arg("-i").arg(&self.key);
        client.arg(format!("-oUserKnownHostsFile={}", self.known_hosts.path().display()));
        client.arg(format!("-oHostKeyAlias={USER_NETWORK_GUEST}"));
        client.arg(format!("-oStrictHostKeyChecking={}", self.strictness));
        client.args(["-oBatchMode=yes", "-oIdentitiesOnly=yes", "-oIdentityAgent=none"]);
        client.arg("-oLogLevel=ERROR");
        client.stdin(Stdio::null());
        client
    }

    /// `ssh` with this command for the machine.
    #[must_use]
    pub fn ssh(&self, script: &str) -> Command {
        let mut ssh = self.client("ssh");
        ssh.arg(format!("root@{}", self.address.ip())).arg(script);
        ssh
    }

    /// Runs a command on the machine, whatever its end.
    pub fn run(&self, script: &str) -> anyhow::Result<Output> {
        self.ssh(script).output().context("cannot run ssh by timeout")
    }

    /// What a command on the machine says, if it succeeds.
    pub fn ask(&self, script: &str) -> anyhow::Result<String> {
        command::output(&mut self.ssh(script))
    }

    /// Copies a file into the machine, or out of it: `root@127.0.0.1:FILE` is there.
    pub fn copy(&self, flags: &[&str], from: &str, to: &str) -> anyhow::Result<()> {
        command::output(self.client("scp").args(flags).args([from, to])).map(drop)
    }

    /// Tries until a login works again; the machine may be busy getting it back.
    pub fn ask_until_it_works(&self, script: &str) -> anyhow::Result<String> {
        const TRIES: usize = 60;
        for _ in 0..TRIES {
            if let Ok(said) = self.ask(script) {
                return Ok(said);
            }
            std::thread::park_timeout(std::time::Duration::from_secs(1));
        }
        bail!("{TRIES} logins have failed, the last with {:?}", self.run(script)?)
    }
}
