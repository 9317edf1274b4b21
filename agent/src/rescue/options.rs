//! What the rescue role is asked to do, from its arguments.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Shown by `rescue --help`.
pub(crate) const HELP: &str = "\
Usage: rescue [OPTION]...

The ssh server of the ramdisk: root only, public keys and certificates only.

  --listen ADDRESS:PORT  listen here; may be repeated (default [::]:22, else 0.0.0.0:22)
  --root DIR             read and write our files below DIR (default /)
  --name HOST            a name of this machine for the known_hosts line; may be repeated
                         (default: every address that it has, as they appear)
  --login-grace SECONDS  close a connection that has not logged in by then (default 30)
  --patience SECONDS     close a connection whose client is silent for so long (default 300)
  --idle SECONDS         close a connection in which nothing runs for so long (default 600)
  --help                 show this

Files, below DIR:
  root/.ssh/authorized_keys         keys and certificate authorities of the image
  run/stage2/authorized_keys        those that a command of a boot document brings
  run/stage2/parameter/authorized_keys        those that epoxy.ssh_keys names
  run/stage2/document/authorized_keys         those of a verified boot document
  run/stage2/document/ssh_host_ed25519_key    its host key, which goes before all others
  root/.ssh/revoked_keys            keys and authorities that are refused, one a line
  etc/stage2/ssh_host_ed25519_key   the host key of the image, unencrypted; without one a new
                                    key is made and kept in run/stage2/ until the machine restarts
  etc/stage2/ssh_host_ed25519_key-cert.pub   its certificate, if it has one
  run/stage2/motd                   shown at login

Started by the server itself:
  --connection           serve the connection on standard input
  --sftp                 speak SFTP on standard input and output
  --scp ARGUMENT...      the far end of `scp -O`
  --terminal PROGRAM...  run PROGRAM in a session whose terminal is standard input
";

/// An operator may have to touch a security key or type a passphrase.
const LOGIN_GRACE: Duration = Duration::from_secs(30);

/// A connection in which nothing runs is closed after this.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// A switch on the way may restart meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

/// What this process is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Help,
    Listen(Server),
    Connection(Server),
    Sftp,
    Scp(Vec<OsString>),
    Terminal(Vec<OsString>),
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Empty means port 22 on every address.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where `/` is, for our own files.
    pub(crate) root: PathBuf,
    /// What operators call this machine; empty means by its addresses.
    pub(crate) names: Vec<String>,
    /// How long a connection may take to log in.
    pub(crate) login_grace: Duration,
    /// How long a client may say nothing, nor take what it is sent.
    pub(crate) patience: Duration,
    /// How long a connection may have nothing running in it.
    pub(crate) idle: Duration,
    /// What is said of those that have not logged in.
    pub(crate) strangers: Strangers,
}

/// What is said of those that have not logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strangers {
    /// Who they are, and why they are refused.
    Named,
    /// Nothing: there are too many.
    Unnamed,
}

/// Why the arguments are not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("expected an option, got \"{0}\"")]
    Unknown(String),
    #[error("expected a value after {0}")]
    Missing(&'static str),
    #[error("expected {wanted} after {option}, got \"{value}\"")]
    Value { option: &'static str, wanted: &'static str, value: String },
}

impl Task {
    /// Understands the arguments after the role's name.
    pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Self, Error> {
        let mut words = arguments.into_iter().peekable();
        match words.peek().and_then(|word| word.to_str()) {
            Some("--help" | "-h") => Ok(Self::Help),
            Some("--sftp") => Ok(Self::Sftp),
            Some("--scp") => Ok(Self::Scp(words.skip(1).collect())),
            Some("--terminal") => Ok(Self::Terminal(words.skip(1).collect())),
            Some("--connection") => Server::parse(words.skip(1)).map(Self::Connection),
            _ => Server::parse(words).map(Self::Listen),
        }
    }
}

impl Server {
    fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Self, Error> {
        let mut server = Self {
            listen: Vec::new(),
            root: PathBuf::from("/"),
            names: Vec::new(),
            login_grace: LOGIN_GRACE,
            patience: PATIENCE,
            idle: IDLE,
            strangers: Strangers::Named,
        };
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--listen") => {
                    server.listen.push(value("--listen", "ADDRESS:PORT", words.next())?)
                }
                Some("--root") => {
                    server.root = words.next().ok_or(Error::Missing("--root"))?.into()
                }
                Some("--name") => server.names.push(value("--name", "a name", words.next())?),
                Some("--login-grace") => {
                    server.login_grace = seconds("--login-grace", words.next())?
                }
                Some("--patience") => server.patience = seconds("--patience", words.next())?,
                Some("--discreet") => server.strangers = Strangers::Unnamed,
                Some("--idle") => server.idle = seconds("--idle", words.next())?,
                _ => return Err(Error::Unknown(word.display().to_string())),
            }
        }
        Ok(server)
    }

    /// The arguments that make a child serve as this server does.
    pub(crate) fn for_connection(&self, strangers: Strangers) -> Vec<OsString> {
        let seconds = |time: Duration| OsString::from(time.as_secs().to_string());
        let mut words: Vec<OsString> = vec![
            "rescue".into(),
            "--connection".into(),
            "--root".into(),
            self.root.clone().into(),
            "--login-grace".into(),
            seconds(self.login_grace),
            "--patience".into(),
            seconds(self.patience),
            "--idle".into(),
            seconds(self.idle),
        ];
        if strangers == Strangers::Unnamed {
            words.push("--discreet".into());
        }
        words
    }
}

fn seconds(option: &'static str, word: Option<OsString>) -> Result<Duration, Error> {
    value(option, "seconds", word).map(Duration::from_secs)
}

fn value<T: std::str::FromStr>(
    option: &'static str,
    wanted: &'static str,
    word: Option<OsString>,
) -> Result<T, Error> {
    let word = word.ok_or(Error::Missing(option))?;
    let text = word.to_string_lossy();
    text.parse().map_err(|_| Error::Value { option, wanted, value: text.into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Task, Error> {
        Task::parse(words.iter().map(Into::into).collect())
    }

    fn server() -> Server {
        Server {
            listen: vec![],
            root: "/".into(),
            names: vec![],
            login_grace: Duration::from_secs(30),
            patience: Duration::from_secs(300),
            idle: Duration::from_secs(600),
            strangers: Strangers::Named,
        }
    }

    #[test]
    fn without_arguments_it_serves_port_22() {
        assert_eq!(parse(&[]), Ok(Task::Listen(server())));
    }

    #[test]
    fn every_option_is_understood() {
        let table: &[(&[&str], Result<Task, Error>)] = &[
            (&["--help"], Ok(Task::Help)),
            (&["--sftp"], Ok(Task::Sftp)),
            (&["--scp", "-t", "x"], Ok(Task::Scp(vec!["-t".into(), "x".into()]))),
            (&["--terminal", "sh"], Ok(Task::Terminal(vec!["sh".into()]))),
            (
                &[
                    "--listen",
                    "127.0.0.1:0",
                    "--root",
                    "/r",
                    "--name",
                    "a",
                    "--login-grace",
                    "2",
                    "--patience",
                    "3",
                    "--idle",
                    "4",
                ],
                Ok(Task::Listen(Server {
                    listen: vec![([127, 0, 0, 1], 0).into()],
                    root: "/r".into(),
                    names: vec!["a".into()],
                    login_grace: Duration::from_secs(2),
                    patience: Duration::from_secs(3),
                    idle: Duration::from_secs(4),
                    strangers: Strangers::Named,
                })),
            ),
            (&["--port"], Err(Error::Unknown("--port".into()))),
            (&["--root"], Err(Error::Missing("--root"))),
            (
                &["--listen", "22"],
                Err(Error::Value {
                    option: "--listen",
                    wanted: "ADDRESS:PORT",
                    value: "22".into(),
                }),
            ),
        ];
        for (words, expected) in table {
            assert_eq!(&parse(words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_connection_is_served_as_its_server_was_told() {
        let [login_grace, patience, idle] = [7, 8, 9].map(Duration::from_secs);
        for strangers in [Strangers::Named, Strangers::Unnamed] {
            let root = "/r".into();
            let server = Server { root, login_grace, patience, idle, strangers, ..server() };
            let arguments = server.for_connection(strangers).split_off(1);
            assert_eq!(Task::parse(arguments), Ok(Task::Connection(server)));
        }
    }
}
