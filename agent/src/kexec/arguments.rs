//! The command line of the role *kexec*, in the words of kexec-tools.
//!
//! A pure parser. Boot documents use `--force --command-line=TEXT --initrd=FILE KERNEL`, with the
//! values joined or as words of their own, and the kernel anywhere.

use std::path::PathBuf;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Load a kernel, and enter it if asked for.
    Load(NextKernel, Then),
    /// Enter the kernel that is loaded.
    Enter,
    /// Forget the kernel that is loaded.
    Unload,
    /// Show how to use this.
    Help,
    /// Show which program this is.
    Version,
}

/// What follows the loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: it waits in memory.
    Stay,
    /// The kernel is entered.
    Enter,
}

/// The next kernel as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextKernel {
    /// The kernel image.
    pub(crate) kernel: PathBuf,
    /// Its initramfs.
    pub(crate) initramfs: Option<PathBuf>,
    /// Its command line, or what is added to the running kernel's one.
    pub(crate) cmdline: String,
    /// Whether the running kernel's command line comes first.
    pub(crate) base: CmdlineBase,
}

/// What the next command line begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CmdlineBase {
    /// Nothing.
    Empty,
    /// `/proc/cmdline`.
    Running,
}

/// Why the command line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    /// Not an option of ours.
    #[error("unknown option {0}")]
    Unknown(String),
    /// The value is missing.
    #[error("option {0} needs a value")]
    NoValue(String),
    /// The option takes none.
    #[error("option {0} takes no value")]
    SurplusValue(String),
    /// There can only be one kernel.
    #[error("expected one kernel, got {0} and {1}")]
    TwoKernels(String, String),
    /// Nothing to load.
    #[error("expected the file name of a kernel")]
    NoKernel,
    /// The older system call wants a kernel that is taken apart in user space.
    #[error(
        "option {0} is not supported: only kexec_file_load(2) is used, which checks signatures"
    )]
    ClassicLoad(String),
    /// Crash kernels are not for a boot loader.
    #[error("option {0} is not supported: there is no crash kernel here")]
    CrashKernel(String),
}

/// An option, whatever its spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Load,
    Force,
    Enter,
    Unload,
    Help,
    Version,
    Cmdline,
    ReuseCmdline,
    Initramfs,
    Classic,
    Crash,
    Accepted,
    AcceptedWithValue,
}

const WORDS: &[(Word, &[&str])] = &[
    (Word::Load, &["-l", "--load"]),
    (Word::Force, &["-f", "--force"]),
    (Word::Enter, &["-e", "--exec"]),
    (Word::Unload, &["-u", "--unload"]),
    (Word::Help, &["-h", "--help"]),
    (Word::Version, &["-v", "--version"]),
    (Word::Cmdline, &["--command-line", "--append"]),
    (Word::ReuseCmdline, &["--reuse-cmdline"]),
    (Word::Initramfs, &["--initrd", "--ramdisk"]),
    (Word::Classic, &["-c", "--kexec-syscall"]),
    (Word::Crash, &["-p", "--load-panic"]),
    // Links always go down, disks are always written back, and the log is the kernel's.
    (Word::Accepted, &["-s", "--kexec-file-syscall", "-a", "--kexec-syscall-auto"]),
    (
        Word::Accepted,
        &["-d", "--debug", "-x", "--no-ifdown", "-y", "--no-sync", "-i", "--no-checks"],
    ),
    (Word::AcceptedWithValue, &["-t", "--type"]),
];

#[derive(Debug, Default)]
struct Seen {
    words: Vec<Word>,
    kernel: Option<String>,
    initramfs: Option<String>,
    cmdline: Option<String>,
}

impl Request {
    /// Understands the arguments, without the program's name.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, UsageError> {
        let mut seen = Seen::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match split(argument) {
                Argument::EndOfOptions => rest.by_ref().try_for_each(|name| seen.kernel(name))?,
                Argument::Kernel => seen.kernel(argument)?,
                Argument::Option(name, value) => {
                    seen.option(name, value.or_else(|| next_value(name, &mut rest)))?;
                }
                Argument::Letters => {
                    separate(argument).iter().try_for_each(|letter| seen.option(letter, None))?
                }
            }
        }
        seen.request()
    }
}

enum Argument<'a> {
    EndOfOptions,
    Kernel,
    Option(&'a str, Option<&'a str>),
    Letters,
}

fn split(argument: &str) -> Argument<'_> {
    match argument {
        "--" => Argument::EndOfOptions,
        long if long.starts_with("--") => match long.split_once('=') {
            Some((name, value)) => Argument::Option(name, Some(value)),
            None => Argument::Option(long, None),
        },
        letters if letters.starts_with('-') && letters.len() > 2 => Argument::Letters,
        letter if letter.starts_with('-') => Argument::Option(letter, None),
        _ => Argument::Kernel,
    }
}

/// `-ls` is `-l -s`.
fn separate(letters: &str) -> Vec<String> {
    letters.chars().skip(1).map(|letter| format!("-{letter}")).collect()
}

fn known(name: &str) -> Option<Word> {
    WORDS.iter().find(|(_, names)| names.contains(&name)).map(|(word, _)| *word)
}

fn takes_value(word: Word) -> bool {
    matches!(word, Word::Cmdline | Word::Initramfs | Word::AcceptedWithValue)
}

fn next_value<'a>(name: &str, rest: &mut std::slice::Iter<'a, String>) -> Option<&'a str> {
    known(name).filter(|word| takes_value(*word)).and_then(|_| rest.next()).map(String::as_str)
}

impl Seen {
    fn kernel(&mut self, name: &str) -> Result<(), UsageError> {
        match self.kernel.replace(name.to_owned()) {
            Some(first) => Err(UsageError::TwoKernels(first, name.to_owned())),
            None => Ok(()),
        }
    }

    fn option(&mut self, name: &str, value: Option<&str>) -> Result<(), UsageError> {
        let owned = || name.to_owned();
        let word = known(name).ok_or_else(|| UsageError::Unknown(owned()))?;
        match (word, value) {
            (Word::Classic, _) => return Err(UsageError::ClassicLoad(owned())),
            (Word::Crash, _) => return Err(UsageError::CrashKernel(owned())),
            (word, None) if takes_value(word) => return Err(UsageError::NoValue(owned())),
            (Word::Initramfs, Some("")) => return Err(UsageError::NoValue(owned())),
            (Word::Initramfs, Some(file)) => self.initramfs = Some(file.to_owned()),
            (Word::Cmdline, Some(text)) => self.cmdline = Some(text.to_owned()),
            (word, Some(_)) if !takes_value(word) => {
                return Err(UsageError::SurplusValue(owned()));
            }
            _ => {}
        }
        self.words.push(word);
        Ok(())
    }

    fn request(self) -> Result<Request, UsageError> {
        let has = |word| self.words.contains(&word);
        let (load, force, enter) = (has(Word::Load), has(Word::Force), has(Word::Enter));
        if has(Word::Help) {
            return Ok(Request::Help);
        } else if has(Word::Version) {
            return Ok(Request::Version);
        } else if has(Word::Unload) {
            return Ok(Request::Unload);
        } else if enter && self.kernel.is_none() {
            return Ok(Request::Enter);
        }
        let base = if has(Word::ReuseCmdline) { CmdlineBase::Running } else { CmdlineBase::Empty };
        let next = NextKernel {
            kernel: self.kernel.ok_or(UsageError::NoKernel)?.into(),
            initramfs: self.initramfs.map(Into::into),
            cmdline: self.cmdline.unwrap_or_default(),
            base,
        };
        let then = if load && !force && !enter { Then::Stay } else { Then::Enter };
        Ok(Request::Load(next, then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Request, UsageError> {
        Request::parse(&arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    fn next(initramfs: Option<&str>, cmdline: &str) -> NextKernel {
        NextKernel {
            kernel: "/tmp/vmlinuz".into(),
            initramfs: initramfs.map(Into::into),
            cmdline: cmdline.to_owned(),
            base: CmdlineBase::Empty,
        }
    }

    #[test]
    fn every_form_that_boot_documents_use_loads_and_enters() {
        let expected = Request::Load(next(Some("/tmp/initram"), "a=1 b=\"x y\""), Then::Enter);
        let cmdline = "--command-line=a=1 b=\"x y\"";
        for arguments in [
            // stage1to2: the initramfs in the same word
            vec!["--force", cmdline, "--initrd=/tmp/initram", "/tmp/vmlinuz"],
            // stage2to3: as two words
            vec!["--force", cmdline, "--initrd", "/tmp/initram", "/tmp/vmlinuz"],
            // example.json
            vec![
                "--force",
                "--command-line",
                "a=1 b=\"x y\"",
                "--initrd",
                "/tmp/initram",
                "/tmp/vmlinuz",
            ],
            vec!["-f", "--append=a=1 b=\"x y\"", "--ramdisk=/tmp/initram", "/tmp/vmlinuz"],
            vec!["/tmp/vmlinuz", "--append", "a=1 b=\"x y\"", "--ramdisk", "/tmp/initram", "-f"],
            vec!["-fsd", cmdline, "--initrd=/tmp/initram", "--", "/tmp/vmlinuz"],
            vec![cmdline, "--initrd=/tmp/initram", "/tmp/vmlinuz"],
            vec!["-l", "-e", cmdline, "--initrd=/tmp/initram", "-t", "bzImage", "/tmp/vmlinuz"],
        ] {
            assert_eq!(parse(&arguments), Ok(expected.clone()), "{arguments:?}");
        }
    }

    #[test]
    fn the_other_requests_are_those_of_kexec_tools() {
        for (arguments, expected) in [
            (vec!["-l", "/tmp/vmlinuz"], Request::Load(next(None, ""), Then::Stay)),
            (vec!["-ls", "/tmp/vmlinuz"], Request::Load(next(None, ""), Then::Stay)),
            (
                vec!["--load", "--command-line=", "/tmp/vmlinuz"],
                Request::Load(next(None, ""), Then::Stay),
            ),
            (
                vec!["-l", "/tmp/vmlinuz", "--reuse-cmdline", "--append=debug"],
                Request::Load(
                    NextKernel { base: CmdlineBase::Running, ..next(None, "debug") },
                    Then::Stay,
                ),
            ),
            (vec!["-e"], Request::Enter),
            (vec!["-f", "--exec"], Request::Enter),
            (vec!["-u"], Request::Unload),
            (vec!["--help"], Request::Help),
            (vec!["-v"], Request::Version),
        ] {
            assert_eq!(parse(&arguments), Ok(expected), "{arguments:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_the_reason() {
        for (arguments, expected) in [
            (vec![], "expected the file name of a kernel"),
            (vec!["-f"], "expected the file name of a kernel"),
            (vec!["a", "b"], "expected one kernel, got a and b"),
            (vec!["--initrd=", "a"], "option --initrd needs a value"),
            (vec!["a", "--append"], "option --append needs a value"),
            (vec!["--force=yes", "a"], "option --force takes no value"),
            (vec!["--forc", "a"], "unknown option --forc"),
            (vec!["-z", "a"], "unknown option -z"),
            (
                vec!["-c", "a"],
                "option -c is not supported: only kexec_file_load(2) is used, which checks signatures",
            ),
            (vec!["-p", "a"], "option -p is not supported: there is no crash kernel here"),
        ] {
            assert_eq!(parse(&arguments).unwrap_err().to_string(), expected, "{arguments:?}");
        }
    }
}
