//! The flags of `epoxy_client`, read as Go's `flag` package reads them, since scripts and unit
//! files were written for that: one dash or two, `-flag=value` or `-flag value`, a boolean flag
//! alone is true and takes a value only behind `=`, and reading stops at the first non-flag or `--`.

use std::path::PathBuf;

/// What `epoxy_client` was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flags {
    /// File that holds the kernel command line.
    pub(crate) cmdline: PathBuf,
    /// Kernel parameter that holds the URL of the boot document.
    pub(crate) action: String,
    /// Take kernel parameters from the first boot document as well.
    pub(crate) add_kargs: bool,
    /// Kernel parameter that holds the URL for reports.
    pub(crate) report: String,
    /// Fetch boot documents, but neither files nor commands.
    pub(crate) dry_run: bool,
    /// Try again after a failure.
    pub(crate) retry: bool,
}

/// What the command line of `epoxy_client` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Run the boot document.
    Run(Flags),
    /// Show the usage.
    Help,
    /// Show the version.
    Version,
}

/// Why a command line of `epoxy_client` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("unknown flag -{0}; see epoxy_client -help")]
    Unknown(String),
    #[error("expected a value behind -{0}, got nothing")]
    MissingValue(String),
    #[error("expected true or false for -{flag}, got {value:?}")]
    NotBoolean { flag: String, value: String },
    #[error("cannot read flag {0:?}; see epoxy_client -help")]
    Malformed(String),
    #[error("expected flags only, got {0:?}; see epoxy_client -help")]
    Operand(String),
}

/// What `epoxy_client -help` shows.
pub(crate) const USAGE: &str = "\
Usage: epoxy_client [flags]

Asks an ePoxy boot server for a boot document and runs it: fetches and verifies
the files that it names, then runs its commands, and reports the result.

  -action PARAMETER  kernel parameter with the document's URL (default epoxy.stage2)
  -add-kargs         also take kernel parameters from the first document; those
                     that exist are never replaced. Only useful for stage1
  -cmdline FILE      read kernel parameters from FILE (default /proc/cmdline)
  -dryrun            fetch documents and show the commands, but fetch no files,
                     run nothing and report nothing. May change state in the server
  -report PARAMETER  kernel parameter with the URL for reports (default epoxy.report)
  -retry             try again every minute for six hours (default true; -retry=false)
  -version           show the version

URLs may be https://, file:// and, where the image's policy allows it, http://.
TLS certificates are verified against /etc/stage2/roots.pem, else $SSL_CERT_FILE,
else /etc/ssl/certs/ca-certificates.crt.

Exit status: 0 the document ran to its end; 1 it did not; 2 wrong usage.
Under stage2's own init a failure restarts the machine; elsewhere it never does.

Examples:
  epoxy_client -action epoxy.stage3
  epoxy_client -cmdline ./cmdline -dryrun -retry=false
";

impl Default for Flags {
    fn default() -> Self {
        Self {
            cmdline: PathBuf::from("/proc/cmdline"),
            action: agent_types::params::STAGE2.to_owned(),
            add_kargs: false,
            report: agent_types::params::REPORT.to_owned(),
            dry_run: false,
            retry: true,
        }
    }
}

impl Request {
    /// Reads what stands behind the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut flags = Flags::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                return arguments.next().map_or(Ok(Self::Run(flags)), |it| Err(Error::Operand(it)));
            }
            let (name, value) = split(&argument)?;
            match name {
                "h" | "help" => return Ok(Self::Help),
                "version" => return Ok(Self::Version),
                "add-kargs" => flags.add_kargs = boolean(name, value)?,
                "dryrun" => flags.dry_run = boolean(name, value)?,
                "retry" => flags.retry = boolean(name, value)?,
                "cmdline" => flags.cmdline = text(name, value, &mut arguments)?.into(),
                "action" => flags.action = text(name, value, &mut arguments)?,
                "report" => flags.report = text(name, value, &mut arguments)?,
                _ => return Err(Error::Unknown(name.to_owned())),
            }
        }
        Ok(Self::Run(flags))
    }
}

/// `-name`, `--name`, `-name=value`.
fn split(argument: &str) -> Result<(&str, Option<&str>), Error> {
    let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
        return Err(Error::Operand(argument.to_owned()));
    };
    if flag.is_empty() || flag.starts_with(['-', '=']) {
        return Err(Error::Malformed(argument.to_owned()));
    }
    Ok(flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value))))
}

fn text(
    name: &str,
    value: Option<&str>,
    rest: &mut impl Iterator<Item = String>,
) -> Result<String, Error> {
    value
        .map(str::to_owned)
        .or_else(|| rest.next())
        .ok_or_else(|| Error::MissingValue(name.to_owned()))
}

/// The words of Go's `strconv.ParseBool`.
fn boolean(flag: &str, value: Option<&str>) -> Result<bool, Error> {
    match value.unwrap_or("true") {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(Error::NotBoolean { flag: flag.to_owned(), value: other.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Request, Error> {
        Request::parse(arguments.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_read_as_the_original_reads_them() {
        let default = Flags::default;
        for (arguments, expected) in [
            ("", default()),
            ("--", default()),
            ("-action epoxy.stage3", Flags { action: "epoxy.stage3".into(), ..default() }),
            ("--action=a=b", Flags { action: "a=b".into(), ..default() }),
            (
                "-cmdline /tmp/c -dryrun",
                Flags { cmdline: "/tmp/c".into(), dry_run: true, ..default() },
            ),
            ("-add-kargs --report r", Flags { add_kargs: true, report: "r".into(), ..default() }),
            ("-retry=false", Flags { retry: false, ..default() }),
            ("-retry=F -dryrun=1", Flags { retry: false, dry_run: true, ..default() }),
        ] {
            assert_eq!(parse(arguments), Ok(Request::Run(expected)), "{arguments}");
        }
        assert_eq!(parse("-h"), Ok(Request::Help));
        assert_eq!(parse("--help"), Ok(Request::Help));
        assert_eq!(parse("-version"), Ok(Request::Version));
    }

    #[test]
    fn a_wrong_flag_is_named() {
        for (arguments, expected) in [
            ("-x", Error::Unknown("x".into())),
            ("-action", Error::MissingValue("action".into())),
            ("-retry=perhaps", Error::NotBoolean { flag: "retry".into(), value: "perhaps".into() }),
            ("-retry false", Error::Operand("false".into())),
            ("-- x", Error::Operand("x".into())),
            ("-", Error::Malformed("-".into())),
            ("--=x", Error::Malformed("--=x".into())),
        ] {
            assert_eq!(parse(arguments), Err(expected), "{arguments}");
        }
    }
}
