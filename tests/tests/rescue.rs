//! An operator gets into the machine, with OpenSSH's own clients, whatever has happened to it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde_json::{Value, json};
use vmtest::certificate::Presented;
use vmtest::command;
use vmtest::document::{self, InitrdForm};
use vmtest::image::{Image, SPECIFICATION};
use vmtest::machine::{Machine, USER_NETWORK_GUEST};
use vmtest::operator::{self, Access, Operator};
use vmtest::scenario::Scenario;
use vmtest::stage3::minimal;
use vmtest::vm::Vm;

/// Enough for the agent, and little enough to be used up soon.
const MEMORY_MIB: u32 = 256;

/// An operator and an image that lets them in.
pub(crate) struct Rescue {
    pub(crate) operator: Operator,
    pub(crate) image: Arc<Image>,
    _directory: tempfile::TempDir,
}

impl Rescue {
    /// One for all tests of this program.
    pub(crate) fn shared() -> anyhow::Result<Arc<Self>> {
        static SHARED: Mutex<Option<Arc<Rescue>>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rescue) = &*shared {
            return Ok(Arc::clone(rescue));
        }
        let rescue = Arc::new(Self::new()?);
        *shared = Some(Arc::clone(&rescue));
        Ok(rescue)
    }

    fn new() -> anyhow::Result<Self> {
        let (operator, directory) = (Operator::new()?, tempfile::tempdir()?);
        let image = Image::for_operator(directory.path(), SPECIFICATION.as_ref(), &operator)?;
        Ok(Self { operator, image: Arc::new(image), _directory: directory })
    }

    pub(crate) fn machine(&self, cmdline: &str) -> Machine {
        machine(&self.image, cmdline)
    }

    /// A machine with this command line, and the operator's access to it.
    pub(crate) fn boot(&self, cmdline: &str) -> anyhow::Result<(Vm, Access)> {
        let mut vm = Vm::start(&self.machine(cmdline))?;
        let access = self.operator.reach(&mut vm)?;
        Ok((vm, access))
    }
}

pub(crate) fn machine(image: &Image, cmdline: &str) -> Machine {
    let machine = Machine::new(MEMORY_MIB).with_kernel(&image.vmlinuz, None, cmdline);
    machine.with_card(operator::card())
}

/// A machine whose boot document fails, and the operator's access to it.
pub(crate) fn failing() -> anyhow::Result<(Scenario, Vm, Access)> {
    let rescue = Rescue::shared()?;
    let scenario = Scenario::with_image(Arc::clone(&rescue.image), Presented::Good)?;
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", "exit 7"]]));
    let mut vm = scenario.start(&rescue.machine(&scenario.cmdline()))?;
    let access = rescue.operator.reach(&mut vm)?;
    vm.expect("next try in 10s")?;
    Ok((scenario, vm, access))
}

#[test]
fn an_operator_gets_in_without_any_parameter_and_runs_commands() -> anyhow::Result<()> {
    let (mut vm, access) = Rescue::shared()?.boot("")?;
    let output = access.run("echo out; echo err >&2; cat /proc/1/comm; exit 7")?;
    assert_eq!(
        (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()),
        (Some(7), &b"out\ninit\n"[..], &b"err\n"[..])
    );
    vm.expect("logged in: ssh-ed25519 SHA256:")?;
    let tty = access.client("ssh").args(["-tt", "root@127.0.0.1", "tty; exit 3"]).output()?;
    assert_eq!((tty.status.code(), tty.stdout.as_slice()), (Some(3), &b"/dev/pts/0\r\n"[..]));
    Ok(())
}

#[test]
fn files_are_copied_in_and_out_with_the_new_and_the_old_protocol() -> anyhow::Result<()> {
    let (_vm, access) = Rescue::shared()?.boot("")?;
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name).display().to_string();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number >> 3) as u8).collect();
    fs::write(place("here"), &bytes)?;
    for protocol in [&[][..], &["-O"]] {
        access.copy(protocol, &place("here"), "root@127.0.0.1:/tmp/there")?;
        access.copy(protocol, "root@127.0.0.1:/tmp/there", &place("back"))?;
        assert!(fs::read(place("back"))? == bytes, "{protocol:?}: what came back differs");
        access.ask("rm /tmp/there")?;
        fs::remove_file(place("back"))?;
    }
    Ok(())
}

#[test]
fn a_network_parameter_that_makes_no_sense_leaves_the_default_network() -> anyhow::Result<()> {
    let (vm, access) = Rescue::shared()?.boot("epoxy.ip=mlab1.lga0t.example")?;
    assert_eq!(access.ask("hostname")?, "default-net\n");
    vm.console.from_start().expect("no parameter gives a usable address")?;
    Ok(())
}

#[test]
fn an_operator_gets_in_while_the_boot_role_tries_again_and_again() -> anyhow::Result<()> {
    let cmdline = "epoxy.stage2=https://192.168.0.1:9/document";
    let (mut vm, access) = Rescue::shared()?.boot(cmdline)?;
    vm.expect("next try in 10s")?;
    assert_eq!(access.ask("echo in")?, "in\n");
    Ok(())
}

#[test]
fn rescue_comes_back_when_everything_but_pid_1_is_killed() -> anyhow::Result<()> {
    let (mut vm, access) = Rescue::shared()?.boot("")?;
    let before = access.ask("pidof init")?;
    // The shell that says so is spared by kill(2); ssh loses its other end.
    let killed = access.run("kill -9 -1")?;
    assert_eq!(killed.status.code(), Some(255), "{killed:?}");
    vm.expect("rescue role ended with signal 9 (SIGKILL): starting it again in 1 s")?;
    assert_eq!(access.ask_until_it_works("echo back")?, "back\n", "before: {before}");
    vm.has_no("Kernel panic")
}

#[test]
fn sessions_outlive_the_rescue_role_and_its_key_stays_the_same() -> anyhow::Result<()> {
    let (mut vm, access) = Rescue::shared()?.boot("")?;
    let mut ssh = access.ssh("echo $PPID; read word; echo $word");
    let mut session = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(session.stdout.take().context("no output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let connection = line.trim().to_owned();
    access.ask(&format!(
        "kill -9 $(awk '$1 == \"PPid:\" {{ print $2 }}' /proc/{connection}/status)"
    ))?;
    vm.expect("rescue role ended with signal 9 (SIGKILL)")?;
    session.stdin.take().context("no input")?.write_all(b"alive\n")?;
    output.read_line(&mut line)?;
    assert_eq!(line, format!("{connection}\nalive\n"));
    assert!(session.wait()?.success());
    // ssh would not log in where the key is another one.
    access.ask_until_it_works("true")?;
    Ok(())
}

#[test]
fn a_boot_role_that_dies_of_memory_takes_nobody_along() -> anyhow::Result<()> {
    let rescue = Rescue::shared()?;
    let scenario = Scenario::with_image(Arc::clone(&rescue.image), Presented::Good)?;
    // The kernel picks the boot role first, and what eats the memory after it.
    let eat = "echo 1000 > /proc/$PPID/oom_score_adj; echo 0 > /proc/$$/oom_score_adj; \
               exec tail /dev/zero";
    scenario.document(document::commands(&[], &[&["/bin/sh", "-c", eat]]));
    let mut vm = scenario.start(&rescue.machine(&scenario.cmdline()))?;
    let access = rescue.operator.reach(&mut vm)?;
    vm.expect("boot role ended with signal 9 (SIGKILL): starting it again in 1 s")?;
    assert_eq!(access.ask_until_it_works("echo in")?, "in\n");
    vm.has_no("rescue role ended")?;
    vm.has_no("Kernel panic")
}

#[test]
fn a_full_root_file_system_keeps_nobody_out() -> anyhow::Result<()> {
    let (_vm, access) = Rescue::shared()?.boot("")?;
    let full = access.run("cat /dev/zero > /fill")?;
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left"), "{full:?}");
    assert!(!access.run("echo more > /more && cat /more")?.status.success(), "it is full");
    let tty = access.client("ssh").args(["-tt", "root@127.0.0.1", "echo in"]).output()?;
    assert_eq!(tty.stdout, b"in\r\n");
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("passwd");
    access.copy(&[], "root@127.0.0.1:/etc/passwd", &copy.display().to_string())?;
    assert!(fs::read_to_string(copy)?.starts_with("root:"));
    Ok(())
}

#[test]
fn a_login_shows_what_the_machine_is_doing_and_why_it_stopped() -> anyhow::Result<()> {
    let (scenario, vm, access) = failing()?;
    let screen = interactive(&access)?;
    for line in [
        "stage2 0.1.0 on mlab1.stage2.test, up ",
        "\r\n  phase   ",
        " ago: [\"/bin/sh\" \"-c\" \"exit 7\"] : exit status 7\r\n",
        "\r\n  address eth0 192.168.0.2/24\r\n",
        "\r\n`stage2 --help` tells what you can do: ",
    ] {
        assert_eq!(screen.matches(line).count(), 1, "{line:?} in {screen:?}");
    }
    let status: Value = serde_json::from_str(&access.ask("stage2 status --json")?)?;
    assert_eq!(status["last_error"]["message"], "[\"/bin/sh\" \"-c\" \"exit 7\"] : exit status 7");
    assert_eq!(status["boot_role"], "running", "{status}");
    let report = scenario.server.reports().into_iter().next().context("no report")?;
    let (host_key, known_hosts) = (report.ssh_host_key, report.ssh_known_hosts);
    for (introduction, told) in [("host key", host_key), ("known_hosts:", known_hosts)] {
        let said = format!("ssh: {introduction} {}", told.context("not told")?);
        vm.console.from_start().expect(&said)?;
    }
    Ok(())
}

/// What an operator sees who logs in and out again.
fn interactive(access: &Access) -> anyhow::Result<String> {
    let mut ssh = access.client("ssh");
    ssh.args(["-tt", "root@127.0.0.1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut session = ssh.spawn()?;
    session.stdin.take().context("no input")?.write_all(b"exit\n")?;
    let output = session.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn an_operator_holds_the_boot_mends_it_and_lets_it_go_on() -> anyhow::Result<()> {
    let rescue = Rescue::shared()?;
    let scenario = Scenario::with_image(Arc::clone(&rescue.image), Presented::Good)?;
    // The first attempt waits for the operator, who has not been faster then.
    let wait = "[ -e /tmp/go ] || { mkfifo /tmp/go; echo rea''dy; read word </tmp/go; }";
    let document = scenario.minimal_stage3("console=ttyS0", InitrdForm::OneWord)?;
    let mut document: Value = serde_json::from_str(&document)?;
    let commands = document["v1"]["commands"].as_array_mut().context("no commands")?;
    commands.insert(0, json!(["/bin/sh", "-c", wait]));
    scenario.document(document.to_string());
    let mut vm = scenario.start(&rescue.machine(&scenario.cmdline()))?;
    let access = rescue.operator.reach(&mut vm)?;
    vm.expect("ready")?;
    access.ask("stage2 hold; echo >/tmp/go")?;
    vm.expect("held by the operator before /sbin/kexec: `stage2 resume` lets the boot go on")?;
    let status: Value = serde_json::from_str(&access.ask("stage2 status --json")?)?;
    assert_eq!((&status["phase"], &status["held"]), (&json!("hold"), &json!(true)), "{status}");
    let said = access.ask("stage2 set epoxy.project=mended")?;
    assert!(said.contains("set: it counts from `stage2 resume` on"), "{said}");
    vm.has_no("entering the loaded kernel")?;
    access.ask("stage2 resume")?;
    vm.expect("beginning anew, as the operator wishes")?;
    vm.expect("entering the loaded kernel")?;
    vm.expect_in_order(&[minimal::GREETING, " epoxy.project=mended "])?;
    assert_eq!(scenario.server.reports(), [], "nothing has failed");
    Ok(())
}

/// A specification that is the default one and this.
fn specification(directory: &Path, more: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join("image.toml");
    fs::write(&path, format!("{}\n{more}\n", fs::read_to_string(SPECIFICATION)?))?;
    Ok(path)
}

#[test]
fn a_host_key_of_the_image_is_known_before_the_machine_starts() -> anyhow::Result<()> {
    let (operator, directory) = (Operator::new()?, tempfile::tempdir()?);
    let path = |name: &str| directory.path().join(name);
    operator::make_key(&path("host"))?;
    let specification = specification(directory.path(), "[ssh]\nhost_key = \"host\"")?;
    let image = Image::for_operator(directory.path(), &specification, &operator)?;
    let public = fs::read_to_string(path("host.pub"))?;
    let mut vm = Vm::start(&machine(&image, ""))?;
    let line = format!("{USER_NETWORK_GUEST} {public}");
    let access = operator.reach_known(&vm, line.trim_end())?;
    vm.expect(&format!("ssh: known_hosts: {}", line.trim_end_matches(" test\n")))?;
    assert_eq!(access.ask("echo in")?, "in\n");
    assert_eq!(access.ask("stat -c %a /etc/stage2/ssh_host_ed25519_key")?, "600\n");
    Ok(())
}

#[test]
fn a_host_key_with_a_certificate_is_known_by_its_authority() -> anyhow::Result<()> {
    let (operator, directory) = (Operator::new()?, tempfile::tempdir()?);
    let path = |name: &str| directory.path().join(name);
    operator::make_key(&path("host"))?;
    operator::make_key(&path("ca"))?;
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-h", "-I", "fleet", "-n", "192.168.0.2", "-s"]).arg(path("ca"));
    command::output(sign.arg(path("host.pub")))?;
    let ssh = "[ssh]\nhost_key = \"host\"\nhost_certificate = \"host-cert.pub\"";
    let specification = specification(directory.path(), ssh)?;
    let image = Image::for_operator(directory.path(), &specification, &operator)?;
    let mut vm = Vm::start(&machine(&image, ""))?;
    vm.expect("ssh: known_hosts: 192.168.0.2 ")?;
    let authority = fs::read_to_string(path("ca.pub"))?;
    let line = format!("@cert-authority 192.168.0.2 {}", authority.trim_end());
    assert_eq!(operator.reach_known(&vm, &line)?.ask("echo in")?, "in\n");
    Ok(())
}

#[test]
fn two_hundred_hostile_connections_keep_no_operator_out() -> anyhow::Result<()> {
    let (mut vm, access) = Rescue::shared()?.boot("")?;
    let roles = "ps -o pid,args | grep -E ' init$| init (boot|rescue)$'";
    let before = access.ask(roles)?;
    let hostile: Vec<_> =
        (0..200).map(|number| attack(access.address, number)).collect::<Result<_, _>>()?;
    assert_eq!(access.ask("echo in")?, "in\n");
    drop(hostile);
    assert_eq!(access.ask(roles)?, before, "the roles are the same processes");
    vm.expect("refused: too many connections that have not logged in")?;
    vm.has_no("role ended")
}

/// Clients that never log in, of four kinds.
fn attack(address: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    // The machine may have closed the connection before we said everything; it is welcome to.
    let _said = match number % 4 {
        0 => Ok(()),
        1 => stream.write_all(b"SSH-2.0-attacker\r\n"),
        2 => stream.write_all(&[0x5a; 4096]),
        _ => stream.write_all(b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff"),
    };
    Ok(stream)
}
