//! The far end of `scp -O`, the protocol of rcp, which older clients still speak.
//!
//! `-t TARGET` takes files, `-f FILE...` sends them. On entry the client is at the other end of
//! standard input and output. The exit code is 0 if every file arrived.
//!
//! Protocol: the comments of <https://github.com/openssh/openssh-portable/blob/master/scp.c>.

mod control;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::chain::Chain;
use control::{Control, line};

/// A control line: mode, size and a name of at most 255 bytes.
const LONGEST_LINE: usize = 1024;

/// Directories within directories.
const DEEPEST: usize = 100;

/// Why a copy could not go on.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("expected -t TARGET or -f FILE")]
    Usage,
    #[error("{}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("expected a file, got a directory: {}", .0.display())]
    Directory(PathBuf),
    #[error("expected a control line, got \"{0}\"")]
    Line(String),
    #[error("the client says: {0}")]
    Client(String),
    #[error("cannot speak with the client")]
    Io(#[from] io::Error),
}

#[derive(Debug, Default)]
struct Options {
    sending: bool,
    taking: bool,
    recursive: bool,
    times: bool,
    into_directory: bool,
    paths: Vec<PathBuf>,
}

/// Does what the client's `scp` asks of its far end.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    let options = Options::parse(arguments);
    let mut copy = Copy {
        input: BufReader::new(io::stdin().lock()),
        output: io::stdout().lock(),
        failed: false,
    };
    let end = match (&options.paths[..], options.sending, options.taking) {
        ([target], false, true) => copy.take(target, &options),
        ([_, ..], true, false) => copy.send_all(&options),
        _ => Err(Error::Usage),
    };
    match end {
        Ok(()) if !copy.failed => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            // The client may be gone.
            drop(copy.complain(&error));
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn parse(arguments: &[OsString]) -> Self {
        let mut options = Self::default();
        let mut words = arguments.iter();
        for word in words.by_ref() {
            match word.to_str().and_then(|word| word.strip_prefix('-')) {
                Some("-") => break,
                Some(letters) if !letters.is_empty() => options.switch_on(letters),
                _ => options.paths.push(word.into()),
            }
        }
        options.paths.extend(words.map(PathBuf::from));
        options
    }

    fn switch_on(&mut self, letters: &str) {
        for letter in letters.chars() {
            match letter {
                'f' => self.sending = true,
                't' => self.taking = true,
                'r' => self.recursive = true,
                'p' => self.times = true,
                'd' => self.into_directory = true,
                // -v and -q are about what the near end shows.
                _ => {}
            }
        }
    }
}

struct Copy<R, W> {
    input: R,
    output: W,
    failed: bool,
}

impl<R: Read, W: Write> Copy<R, W> {
    fn send_all(&mut self, options: &Options) -> Result<(), Error> {
        self.wait_for_ok()?;
        for path in &options.paths {
            self.send(path, options, 0)?;
        }
        Ok(())
    }

    /// A file that cannot be read is complained about; the others are still sent.
    fn send(&mut self, path: &Path, options: &Options, depth: usize) -> Result<(), Error> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            Err(source) => return self.complain(&Error::File { path: path.to_owned(), source }),
        };
        if metadata.is_dir() && (!options.recursive || depth >= DEEPEST) {
            return self.complain(&Error::Directory(path.to_owned()));
        }
        if options.times {
            let (change, access) = (metadata.mtime(), metadata.atime());
            self.announce(format!("T{change} 0 {access} 0\n").as_bytes())?;
        }
        let (mode, name) = (metadata.mode() & 0o7777, name_of(path));
        if metadata.is_dir() {
            self.announce(&line(b'D', mode, 0, &name))?;
            self.send_entries(path, options, depth)?;
            return self.announce(b"E\n");
        }
        self.announce(&line(b'C', mode, metadata.len(), &name))?;
        self.send_bytes(file, metadata.len())
    }

    fn send_entries(&mut self, path: &Path, options: &Options, depth: usize) -> Result<(), Error> {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        match entries {
            Ok(entries) => entries
                .into_iter()
                .try_for_each(|entry| self.send(&entry.path(), options, depth + 1)),
            Err(source) => self.complain(&Error::File { path: path.to_owned(), source }),
        }
    }

    /// A file that shrank is filled with zeros, as its length has been announced, and said to be bad.
    fn send_bytes(&mut self, file: File, size: u64) -> Result<(), Error> {
        let sent = io::copy(&mut file.take(size), &mut self.output)?;
        io::copy(&mut io::repeat(0).take(size - sent), &mut self.output)?;
        if sent < size {
            return self.complain(&Error::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        self.announce(&[0])
    }

    fn announce(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output.write_all(bytes)?;
        self.output.flush()?;
        self.wait_for_ok()
    }

    fn wait_for_ok(&mut self) -> Result<(), Error> {
        let mut answer = [0];
        self.input.read_exact(&mut answer)?;
        match answer {
            [0] => Ok(()),
            [1] => {
                self.read_line()?;
                self.failed = true;
                Ok(())
            }
            _ => Err(Error::Client(String::from_utf8_lossy(&self.read_line()?).into_owned())),
        }
    }

    fn complain(&mut self, error: &Error) -> Result<(), Error> {
        self.failed = true;
        let text = Chain(error).to_string().replace('\n', " ");
        self.output.write_all(format!("\x01scp: {text}\n").as_bytes())?;
        self.output.flush()?;
        Ok(())
    }

    fn ok(&mut self) -> Result<(), Error> {
        self.output.write_all(&[0])?;
        self.output.flush()?;
        Ok(())
    }

    fn take(&mut self, target: &Path, options: &Options) -> Result<(), Error> {
        if options.into_directory && !target.is_dir() {
            return Err(Error::File {
                path: target.to_owned(),
                source: io::ErrorKind::NotADirectory.into(),
            });
        }
        self.ok()?;
        let mut places = vec![Place { path: target.to_owned(), times: None }];
        let mut times = None;
        while let Some(control) = self.control()? {
            match control {
                Control::Times { change, access } => {
                    times = Some((change, access));
                    self.ok()?;
                }
                Control::File { mode, size, name } => {
                    let path = places.last().map(|place| place.within(&name)).unwrap_or_default();
                    self.take_file(&path, mode, size, times.take(), options)?;
                }
                Control::Directory { mode, name } => {
                    if !options.recursive || places.len() > DEEPEST {
                        return Err(Error::Directory(name.into()));
                    }
                    let path = places.last().map(|place| place.within(&name)).unwrap_or_default();
                    make_directory(&path, mode)?;
                    places.push(Place { path, times: times.take() });
                    self.ok()?;
                }
                Control::Up => {
                    let place = places.pop().filter(|_| !places.is_empty());
                    let place = place.ok_or_else(|| Error::Line("E".to_owned()))?;
                    place.times.map_or(Ok(()), |times| set_times(&place.path, times))?;
                    self.ok()?;
                }
                Control::Complaint(_) => self.failed = true,
            }
        }
        Ok(())
    }

    fn take_file(
        &mut self,
        path: &Path,
        mode: u32,
        size: u64,
        times: Option<(i64, i64)>,
        options: &Options,
    ) -> Result<(), Error> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
        let mut file = match file {
            Ok(file) => file,
            Err(source) => return self.complain(&Error::File { path: path.to_owned(), source }),
        };
        self.ok()?;
        let written = self.take_bytes(&mut file, size);
        self.wait_for_ok()?;
        let finished = written.and_then(|()| match options.times {
            true => file.set_permissions(Permissions::from_mode(mode)),
            false => Ok(()),
        });
        match finished {
            Err(source) => self.complain(&Error::File { path: path.to_owned(), source }),
            Ok(()) => {
                times.map_or(Ok(()), |times| set_times(path, times))?;
                self.ok()
            }
        }
    }

    /// All announced bytes are read, even if the disk is full, or the next line would be lost.
    fn take_bytes(&mut self, file: &mut File, size: u64) -> io::Result<()> {
        let mut bytes = self.input.by_ref().take(size);
        let written = io::copy(&mut bytes, file);
        let rest = io::copy(&mut bytes, &mut io::sink())?;
        match written? + rest {
            whole if whole == size => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn control(&mut self) -> Result<Option<Control>, Error> {
        let mut kind = [0];
        if self.input.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let rest = self.read_line()?;
        let [kind] = kind;
        Control::parse(kind, &rest).map(Some).ok_or_else(|| {
            let start = char::from(kind).escape_default();
            Error::Line(format!("{start}{}", rest.escape_ascii()))
        })
    }

    fn read_line(&mut self) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < LONGEST_LINE {
            self.input.read_exact(&mut byte)?;
            if byte == *b"\n" {
                return Ok(line);
            }
            line.extend(byte);
        }
        Err(Error::Line("a line without end".to_owned()))
    }
}

/// Where files go, and the times of the directory, which are set when it is full.
struct Place {
    path: PathBuf,
    times: Option<(i64, i64)>,
}

impl Place {
    fn within(&self, name: &OsStr) -> PathBuf {
        if self.path.is_dir() { self.path.join(name) } else { self.path.clone() }
    }
}

fn name_of(path: &Path) -> OsString {
    let name = path.file_name().map(OsStr::to_owned);
    name.or_else(|| Some(path.canonicalize().ok()?.file_name()?.to_owned()))
        .unwrap_or_else(|| "root".into())
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    let file_error = |source| Error::File { path: path.to_owned(), source };
    if !path.is_dir() {
        fs::create_dir(path).map_err(file_error)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode | 0o700)).map_err(file_error)
}

fn set_times(path: &Path, (change, access): (i64, i64)) -> Result<(), Error> {
    let time = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps { last_access: time(access), last_modification: time(change) };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())
        .map_err(|error| Error::File { path: path.to_owned(), source: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(target: &Path, input: &[u8]) -> (Result<(), Error>, Vec<u8>) {
        let mut copy = Copy { input, output: Vec::new(), failed: false };
        let options = Options { recursive: true, ..Options::default() };
        (copy.take(target, &options), copy.output)
    }

    #[test]
    fn a_client_cannot_leave_the_target_directory() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("in");
        fs::create_dir(&target).unwrap();
        for line in ["C0644 1 ../out\nx\0", "E\n", "D0755 0 ..\n"] {
            assert!(take(&target, line.as_bytes()).0.is_err(), "{line}");
        }
        assert!(!root.path().join("out").exists());
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(take(root.path(), b"C0644 10 f\nabc").0.is_err());
    }

    #[test]
    fn a_tree_arrives_whole() {
        let root = tempfile::tempdir().unwrap();
        let (end, output) = take(root.path(), b"D0755 0 d\nC0600 3 f\nabc\0E\n");
        end.unwrap();
        assert_eq!(output, [0; 5]);
        assert_eq!(fs::read(root.path().join("d/f")).unwrap(), b"abc");
    }
}
