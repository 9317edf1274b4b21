//! What happens in a session.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::server::{Bounded, Server, noise, text};

#[test]
fn output_errors_and_status_arrive_apart() {
    let server = Server::start("");
    let output = server.ssh().arg("echo out; echo err >&2; exit 7").run();
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(7), "out\n".to_owned(), "err\n".to_owned())
    );
}

#[test]
fn the_signal_that_ended_a_program_is_told() {
    let server = Server::start("");
    // The first log level that ssh is told counts.
    let mut ssh = Command::new("ssh");
    ssh.arg("-oLogLevel=DEBUG").args(server.ssh().get_args()).arg("kill -TERM $$");
    let output = ssh.run();
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("rtype exit-signal"), "{}", text(&output.stderr));
}

#[test]
fn the_environment_is_ours_and_not_the_clients() {
    let server = Server::start("");
    let mut ssh = server.ssh();
    ssh.args(["-oSetEnv=LD_PRELOAD=/x EVIL=1", "-oSendEnv=*", "env | cut -d= -f1 | sort"]);
    let names = text(&ssh.run().stdout);
    assert_eq!(names, "HOME\nLOGNAME\nPATH\nPWD\nSHELL\nSHLVL\nSSH_CONNECTION\nUSER\n");
}

#[test]
fn a_program_that_answers_while_it_reads_gets_and_gives_everything() {
    let server = Server::start("");
    let bytes = noise(24 << 20);
    server.write("sent", "");
    fs::write(server.path("sent"), &bytes).unwrap();
    let mut ssh = server.ssh();
    ssh.arg("cat").stdin(fs::File::open(server.path("sent")).unwrap());
    let output = ssh.run();
    assert_eq!(output.stdout.len(), bytes.len());
    assert!(output.stdout == bytes, "what came back differs");
}

#[test]
fn input_that_nobody_reads_does_not_fill_the_memory() {
    let server = Server::start("");
    let mut ssh = server.ssh();
    ssh.arg("sleep 4; grep VmHWM /proc/$PPID/status").stdin(fs::File::open("/dev/zero").unwrap());
    let mut child = ssh.stdout(Stdio::piped()).start();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    // A debug build with its 10 MiB of code, and a backlog of 1 MiB and a window of 2.
    assert!(kib < 40 * 1024, "{line}");
}

#[test]
fn several_sessions_run_in_one_connection() {
    let server = Server::start("");
    let control = format!("-oControlPath={}", server.path("control").display());
    let mut master = server.ssh();
    master.args(["-M", "-N", &control]);
    let mut master = master.start();
    let ready = || server.ssh().args([&control, "-O", "check"]).run().status.success();
    assert!((0..1000).any(|_| ready()));
    let session = |number| {
        let mut ssh = server.ssh();
        ssh.arg(&control).arg(format!("sleep 1; echo {number}"));
        ssh.stdout(Stdio::piped()).start()
    };
    let sessions: Vec<_> = (0..8).map(session).collect();
    for (number, session) in sessions.into_iter().enumerate() {
        assert_eq!(text(&session.wait_with_output().unwrap().stdout), format!("{number}\n"));
    }
    master.kill().unwrap();
    master.wait().unwrap();
}

/// Runs ssh on a terminal of 100 by 40, resizes it to 132 by 50, and presses ctrl-C.
const OPERATOR: &str = r#"
import fcntl, os, pty, select, struct, sys, termios, time
def size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
pid, fd = pty.fork()
if pid == 0:
    size(0, 40, 100)
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
def wait_for(what):
    global seen
    deadline = time.time() + 60
    while what not in seen:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.time()))
        if not ready: sys.exit("waited for %r, saw %r" % (what, seen))
        try: seen += os.read(fd, 4096)
        except OSError: sys.exit("waited for %r, saw %r" % (what, seen))
wait_for(b"40 100")
size(fd, 50, 132)
wait_for(b"resized")
wait_for(b"50 132")
os.write(fd, b"typed\n")
wait_for(b"got typed")
os.write(fd, b"\x03")
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"#;

#[test]
fn a_terminal_has_its_size_follows_it_and_takes_ctrl_c() {
    let server = Server::start("");
    // A shell that starts a program may miss a signal: dash ignores those that come while it forks.
    let remote = "trap 'echo resized; stty size' WINCH; trap 'exit 130' INT; stty size; \
                  until [ \"$word\" ]; do read word; done; echo got $word; read word";
    let ssh = server.ssh();
    let mut python = Command::new("python3");
    python.arg("-c").arg(OPERATOR).arg("ssh").args(ssh.get_args()).args(["-tt", remote]);
    let output = python.run();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

#[test]
fn a_shell_says_how_the_machine_is() {
    let server = Server::start("");
    server.write("run/stage2/motd", "phase: fetching\nlast error: none\n");
    let mut ssh = server.ssh();
    ssh.arg("-tt").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = ssh.start();
    child.stdin.take().unwrap().write_all(b"echo $((6 * 7)); tty; exit 3\n").unwrap();
    let mut shown = String::new();
    child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    assert!(shown.contains("phase: fetching\r\nlast error: none\r\n"), "{shown}");
    assert!(shown.contains("42\r\n/dev/pts/"), "{shown}");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

/// Writes a file when it is hung up on.
const LISTENER: &str = r#"
import os, signal, sys, time
def hung_up(*_):
    os.rename(sys.argv[1] + "/key.pub", sys.argv[1] + "/mark")
    os._exit(0)
signal.signal(signal.SIGHUP, hung_up)
print("ready", flush=True)
time.sleep(100)
"#;

#[test]
fn a_program_is_hung_up_on_when_its_client_goes() {
    let server = Server::start("");
    server.write("listener.py", LISTENER);
    let root = server.root.path().display();
    let mut ssh = server.ssh();
    ssh.arg(format!("python3 {root}/listener.py {root}")).stdout(Stdio::piped());
    let mut child = ssh.start();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child.kill().unwrap();
    child.wait().unwrap();
    server.logged("logged out");
    let look = format!("for i in $(seq 100); do [ -e {root}/mark ] && exit 7; sleep 0.1; done");
    assert_eq!(server.ssh().arg(look).code(), Some(7));
}

#[test]
fn a_key_does_no_more_than_its_line_allows() {
    let server = Server::start("restrict,command=\"echo only $SSH_ORIGINAL_COMMAND\"");
    let output = server.ssh().arg("id").run();
    assert_eq!(text(&output.stdout), "only id\n");
    let errors = server.ssh().args(["-tt", "tty"]).run().stderr;
    assert!(text(&errors).contains("PTY allocation request failed"), "{}", text(&errors));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    assert!(server.ssh().args(["-W", &place]).code() != Some(0));
    server.logged("refused: forwarding to \"127.0.0.1\"");
}

#[test]
fn a_port_is_forwarded_where_the_line_allows_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let server = Server::start(&format!("permitopen=\"localhost:{}\"", place.port()));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            client.write_all(&got).unwrap();
        }
    });
    let bytes = noise(4 << 20);
    fs::write(server.path("sent"), &bytes).unwrap();
    let mut ssh = server.ssh();
    ssh.args(["-W", &format!("localhost:{}", place.port())]);
    let output = ssh.stdin(fs::File::open(server.path("sent")).unwrap()).run();
    assert!(output.stdout == bytes, "{} of {} bytes came back", output.stdout.len(), bytes.len());
    assert!(server.ssh().args(["-W", &place.to_string()]).code() != Some(0));
}

#[test]
fn a_session_outlives_the_listener() {
    let mut server = Server::start("");
    let mut ssh = server.ssh();
    ssh.arg("echo in; read word; echo $word").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = ssh.start();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    child.stdin.take().unwrap().write_all(b"alive\n").unwrap();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "in\nalive\n");
    assert!(child.wait().unwrap().success());
}
