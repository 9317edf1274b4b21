//! What an unlucky or a hostile hand may have written, named or sent.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use russh::client::{self, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};

use crate::server::{Bounded, Server, noise, succeeds, text};

const MIB: usize = 1 << 20;

#[test]
fn a_file_of_keys_may_come_from_anywhere() {
    let server = Server::start("");
    let key = server.read("key.pub");
    let key = key.trim_end();
    let long = format!("{} {key}\n", "x".repeat(MIB / 2));
    let bytes = |text: &str| text.as_bytes().to_vec();
    for (name, file, is_in) in [
        ("CRLF", bytes(&format!("# keys\r\n{key}\r\n")), true),
        ("a byte order mark", bytes(&format!("\u{feff}{key}\n")), true),
        ("NUL in a line before", bytes(&format!("\0\0{key}\n{key}\n")), true),
        ("NUL in an option", bytes(&format!("command=\"echo\0\" {key}\n")), false),
        ("a name in Latin-1", [key.as_bytes(), b" Andr\xe9\n"].concat(), true),
        ("Latin-1 in an option", [b"command=\"\xe9\" ", key.as_bytes()].concat(), false),
        ("a line of half a MiB before", bytes(&format!("{long}{key}\n")), true),
        ("half a MiB behind the key", bytes(&format!("{key} {}\n", "x".repeat(MIB / 2))), true),
        ("more than a MiB", bytes(&format!("{key}\n{}\n", "#".repeat(MIB))), false),
        ("no line end", bytes(key), true),
        ("UTF-16", key.encode_utf16().flat_map(u16::to_le_bytes).collect(), false),
    ] {
        fs::write(server.path("root/.ssh/authorized_keys"), file).unwrap();
        let output = server.ssh().arg("true").run();
        assert_eq!(output.status.success(), is_in, "{name}: {output:?}");
    }
    fs::remove_file(server.path("root/.ssh/authorized_keys")).unwrap();
    fs::create_dir(server.path("root/.ssh/authorized_keys")).unwrap();
    server.write("run/stage2/authorized_keys", key);
    succeeds(&server.ssh().arg("true").run());
}

#[test]
fn a_list_of_revoked_keys_that_cannot_be_read_refuses_all() {
    let server = Server::start("");
    let path = server.path("root/.ssh/revoked_keys");
    fs::write(&path, b"# Andr\xe9\n").unwrap();
    succeeds(&server.ssh().arg("true").run());
    fs::write(&path, "#".repeat(MIB + 1)).unwrap();
    assert_eq!(server.ssh().arg("true").code(), Some(255));
    server.logged("all keys are refused");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(server.ssh().arg("true").code(), Some(255));
}

#[test]
fn sources_may_be_lists_of_both_families() {
    let server = Server::start_with("", &["--listen", "[::1]:0"]);
    let port = server.logged("listening on [::1]:");
    let known = server.read("known_hosts");
    server.write("known_hosts", &known);
    let key = server.read("key.pub");
    for (from, v4, v6) in [
        ("::1", false, true),
        ("127.0.0.0/8,2001:db8::/32", true, false),
        ("192.0.2.0/24,::/64", false, true),
        ("*,!::1", true, false),
        ("127.0.0.?,::1/128", true, true),
        ("::ffff:127.0.0.1", true, false),
    ] {
        server.authorize(&format!("from=\"{from}\" {key}"));
        assert_eq!(server.ssh().arg("true").code() == Some(0), v4, "{from}, 127.0.0.1");
        // The first port that ssh is told counts.
        let mut ssh = Command::new("ssh");
        ssh.args(["-p", &port, "-o", "HostName=::1"]).args(server.ssh().get_args()).arg("true");
        assert_eq!(ssh.code() == Some(0), v6, "{from}, ::1");
    }
}

#[test]
fn a_gib_goes_in_and_out_while_keys_are_exchanged_all_the_time() {
    let server = Server::start("");
    let piece = noise(64 * MIB);
    let mut file = fs::File::create(server.path("here")).unwrap();
    (0..16_u8).for_each(|_| std::io::Write::write_all(&mut file, &piece).unwrap());
    let root = server.root.path().display();
    server.write("batch", &format!("put {root}/here {root}/there\nget {root}/there {root}/back\n"));
    let mut sftp = server.client("sftp");
    sftp.args(["-o", "RekeyLimit=4M", "-i"]).arg(server.path("key"));
    succeeds(&sftp.arg("-b").arg(server.path("batch")).arg("root@127.0.0.1").run());
    let digest = |name| {
        let output = Command::new("sha256sum").arg(server.path(name)).run();
        text(&output.stdout).split(' ').next().unwrap().to_owned()
    };
    assert_eq!([digest("there"), digest("back")], [digest("here"), digest("here")]);
}

/// Names that a shell, a terminal or a protocol of lines might trip over.
const ODD_NAMES: &[&[u8]] = &[
    b"two words",
    b"quote's",
    b"double\"quote",
    b"$HOME",
    b"`id`",
    b"semi;colon",
    b"-rf",
    b"#comment",
    b"back\\slash",
    "sch\u{f6}n".as_bytes(),
    b"latin\xe9",
    b"*",
];

#[test]
fn odd_names_go_there_and_back_with_the_new_and_the_old_protocol() {
    for protocol in [&[][..], &["-O"]] {
        let server = Server::start("");
        fs::create_dir(server.path("here")).unwrap();
        for name in ODD_NAMES {
            let path = server.path("here").join(std::ffi::OsStr::from_bytes(name));
            fs::write(path, name).unwrap();
        }
        let root = server.root.path().display();
        let remote = |name: &str| format!("root@127.0.0.1:{root}/{name}");
        for (from, to) in
            [(format!("{root}/here"), remote("there")), (remote("there"), format!("{root}/back"))]
        {
            let mut scp = server.client("scp");
            scp.arg("-i").arg(server.path("key")).args(protocol).arg("-r").args([&from, &to]);
            succeeds(&scp.run());
        }
        for place in ["there", "back"] {
            for name in ODD_NAMES {
                let path = server.path(place).join(std::ffi::OsStr::from_bytes(name));
                let got =
                    fs::read(&path).map_err(|error| format!("{protocol:?} {path:?}: {error}"));
                assert_eq!(got.as_deref(), Ok(*name));
            }
        }
    }
}

#[test]
fn links_are_followed_shown_and_never_walked_in_circles() {
    let server = Server::start("");
    server.write("d/f", "text");
    let link = |to: &str, name: &str| symlink(to, server.path("d").join(name)).unwrap();
    link("f", "good");
    link("nowhere", "dangling");
    link(".", "circle");
    let root = server.root.path().display();
    let output = server.sftp(&format!(
        "get {root}/d/good {root}/got\nput {root}/got {root}/d/good\nls -l {root}/d\n\
         -get {root}/d/dangling {root}/x\nrename {root}/d/good {root}/d/moved\nrm {root}/d/circle\n"
    ));
    succeeds(&output);
    assert_eq!(server.read("got"), "text");
    assert!(server.path("d/moved").is_symlink() && !server.path("d/circle").exists());
    assert_eq!(server.read("d/f"), "text", "the links went, not what they point to");
    assert!(text(&output.stderr).contains("No such file"), "{output:?}");
    let get = server.sftp(&format!("get -r {root}/d {root}/copy\n"));
    assert!(server.path("copy/f").exists(), "{get:?}");
}

#[test]
fn what_is_no_sftp_ends_the_session_and_nothing_else() {
    let server = Server::start("");
    for bytes in [
        noise(MIB),
        b"\xff\xff\xff\xff".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"\0\0\0\x05\x01\0\0\0\x03\0\0\0\x01\x04".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        fs::write(server.path("garbage"), bytes).unwrap();
        let mut ssh = server.client("ssh");
        ssh.arg("-s").arg("-i").arg(server.path("key")).args(["root@127.0.0.1", "sftp"]);
        // Whatever it ends with, it ends.
        let _code = ssh.stdin(fs::File::open(server.path("garbage")).unwrap()).run();
        succeeds(&server.ssh().arg("true").run());
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

struct AnyServer;

impl client::Handler for AnyServer {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

async fn log_in(server: &Server, key: &Path) -> Handle<AnyServer> {
    let address = ("127.0.0.1", server.port);
    let mut client = client::connect(Default::default(), address, AnyServer).await.unwrap();
    let key = Arc::new(PrivateKey::from_openssh(fs::read_to_string(key).unwrap()).unwrap());
    let key = PrivateKeyWithHashAlg::new(key, None);
    assert!(client.authenticate_publickey("root", key).await.unwrap().success());
    client
}

#[tokio::test]
async fn a_connection_has_so_many_channels_and_no_more() {
    let server = Server::start("");
    let client = log_in(&server, &server.path("key")).await;
    let mut channels = Vec::new();
    while let Ok(channel) = client.channel_open_session().await {
        channels.push(channel);
        assert!(channels.len() <= 100);
    }
    assert_eq!(channels.len(), 100);
    channels.pop().unwrap().close().await.unwrap();
    let mut channel = client.channel_open_session().await.unwrap();
    channel.exec(true, "echo in").await.unwrap();
    let is_in = |message: &russh::ChannelMsg| matches!(message, russh::ChannelMsg::Data { data } if data.as_ref() == b"in\n");
    while !is_in(&channel.wait().await.unwrap()) {}
}
