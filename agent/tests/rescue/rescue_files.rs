//! Files go in and out whole.

use std::fs;
use std::process::Command;

use crate::server::{Bounded, Server, noise, succeeds, text};

const LARGE: usize = 64 << 20;

#[test]
fn sftp_takes_and_gives_a_large_file() {
    let server = Server::start("");
    let bytes = noise(LARGE + 12_345);
    fs::write(server.path("here"), &bytes).unwrap();
    let root = server.root.path().display();
    succeeds(
        &server.sftp(&format!("put {root}/here {root}/there\nget {root}/there {root}/back\n")),
    );
    assert!(fs::read(server.path("there")).unwrap() == bytes, "what arrived differs");
    assert!(fs::read(server.path("back")).unwrap() == bytes, "what came back differs");
}

#[test]
fn sftp_resumes_what_was_cut_off() {
    let server = Server::start("");
    let bytes = noise(LARGE / 4);
    let part = &bytes[..bytes.len() / 3];
    fs::write(server.path("here"), &bytes).unwrap();
    fs::write(server.path("there"), part).unwrap();
    fs::write(server.path("back"), part).unwrap();
    let root = server.root.path().display();
    succeeds(
        &server.sftp(&format!("reput {root}/here {root}/there\nreget {root}/there {root}/back\n")),
    );
    assert!(fs::read(server.path("there")).unwrap() == bytes, "what arrived differs");
    assert!(fs::read(server.path("back")).unwrap() == bytes, "what came back differs");
}

#[test]
fn sftp_does_what_operators_do_with_files() {
    let server = Server::start("");
    let root = server.root.path().display();
    server.write("d/f", "text");
    let output = server.sftp(&format!(
        "cd {root}/d\npwd\nls -l\nchmod 600 f\nrename f g\nln -s g soft\nln g hard\nmkdir sub\n\
         rmdir sub\ndf -h .\nls -l g\n"
    ));
    succeeds(&output);
    let shown = text(&output.stdout);
    assert!(shown.contains(&format!("Remote working directory: {root}/d")), "{shown}");
    assert!(shown.contains("-rw-r--r--    1 0        0               4 "), "{shown}");
    assert!(shown.contains("-rw-------    ? 0        0               4 "), "{shown}");
    assert!(shown.contains("%Capacity"), "{shown}");
    assert_eq!(fs::read_link(server.path("d/soft")).unwrap().to_str(), Some("g"));
    assert_eq!(fs::read_to_string(server.path("d/hard")).unwrap(), "text");
    let missing = server.sftp(&format!("get {root}/missing {root}/x\n"));
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("not found"), "{missing:?}");
}

#[test]
fn sftp_lists_a_directory_of_a_thousand_files() {
    let server = Server::start("");
    for number in 0..1000 {
        server.write(&format!("d/{number:04}"), "");
    }
    let output = server.sftp(&format!("ls -1 {}/d\n", server.root.path().display()));
    let shown = text(&output.stdout);
    assert_eq!(shown.lines().filter(|line| !line.starts_with("sftp>")).count(), 1000);
}

fn scp(server: &Server, arguments: &[&str], from: &str, to: &str) {
    let mut scp: Command = server.client("scp");
    scp.arg("-i").arg(server.path("key")).args(arguments).arg("-rp").arg(from).arg(to);
    succeeds(&scp.run());
}

#[test]
fn scp_copies_trees_in_and_out_with_the_new_and_the_old_protocol() {
    for protocol in [&[][..], &["-O"]] {
        let server = Server::start("");
        let root = server.root.path().display();
        let bytes = noise(LARGE / 8);
        server.write("here/sub/empty", "");
        fs::write(server.path("here/sub/a b"), &bytes).unwrap();
        scp(&server, protocol, &format!("{root}/here"), &format!("root@127.0.0.1:{root}/there"));
        scp(&server, protocol, &format!("root@127.0.0.1:{root}/there"), &format!("{root}/back"));
        for place in ["there", "back"] {
            let file = server.path(place).join("sub/a b");
            assert!(fs::read(&file).unwrap() == bytes, "{protocol:?}: {place} differs");
            let times = |path| fs::metadata(path).unwrap().modified().unwrap();
            let since = |path| times(path).duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            assert_eq!(since(file), since(server.path("here/sub/a b")), "{protocol:?}");
            assert!(server.path(place).join("sub/empty").exists());
        }
    }
}

#[test]
fn old_scp_says_what_is_missing() {
    let server = Server::start("");
    let mut scp = server.client("scp");
    scp.arg("-O")
        .arg("-i")
        .arg(server.path("key"))
        .arg("root@127.0.0.1:/no/such/file")
        .arg("/dev/null");
    let output = scp.run();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/no/such/file: No such file"), "{output:?}");
}
