//! Does what SFTP requests ask for.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry, File, Metadata, OpenOptions, ReadDir};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{self as unix, DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps};

use super::LONGEST_TRANSFER;
use super::answers::{add_limits, add_metadata, add_name, add_statvfs, put_data};
use super::attributes::{self, Wishes};
use super::packet::{Code, Fields, Malformed, Replies, Reply, put_string, put_u32};

/// Open files and directories at once; OpenSSH's client needs two.
pub(super) const MOST_HANDLES: usize = 100;

/// Entries in one answer to a directory request.
const ENTRIES_AT_ONCE: usize = 100;

const EXTENSIONS: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// What a client has open.
#[derive(Default)]
pub(crate) struct Files {
    next: u32,
    open: BTreeMap<u32, Open>,
}

enum Open {
    File { file: File, position: Position },
    Directory { path: PathBuf, entries: ReadDir, dots: Vec<&'static str> },
}

enum Position {
    AsAsked,
    AtTheEnd,
}

/// Why a request was not done.
pub(super) enum Refusal {
    Io(io::Error),
    Code(Code, &'static str),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Code(Code::BadMessage, "malformed request")
    }
}

const DONE: Result<(), Refusal> = Err(Refusal::Code(Code::Ok, "ok"));

impl Files {
    /// Adds the reply to one request.
    pub(crate) fn answer(
        &mut self,
        request: &mut Fields<'_>,
        replies: &mut Replies,
    ) -> Result<(), Malformed> {
        let kind = request.byte()?;
        let id = request.u32()?;
        if kind == 1 {
            // The number after a hello is the client's version.
            replies.add(Reply::Version, 3, |out| {
                for (name, version) in EXTENSIONS {
                    put_string(out, name.as_bytes());
                    put_string(out, version.as_bytes());
                }
            });
            return Ok(());
        }
        match self.perform(kind, id, request, replies) {
            Ok(()) => {}
            Err(Refusal::Code(code, message)) => replies.status(id, code, message),
            Err(Refusal::Io(error)) => replies.status(id, code_of(&error), &error.to_string()),
        }
        Ok(())
    }

    /// Adds a reply, or returns what its status is.
    fn perform(
        &mut self,
        kind: u8,
        id: u32,
        request: &mut Fields<'_>,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        match kind {
            3 => self.open(id, request, replies),
            4 => self.close(request),
            5 => self.read(id, request, replies),
            6 => self.write(request),
            7 => add_metadata(replies, id, &fs::symlink_metadata(path(request)?)?),
            8 => add_metadata(replies, id, &self.metadata(request)?),
            9 => set(path(request)?, Wishes::read(request)?),
            10 => self.set_open(request),
            11 => self.open_directory(id, request, replies),
            12 => self.read_directory(id, request, replies),
            13 => done(fs::remove_file(path(request)?)),
            14 => make_directory(path(request)?, Wishes::read(request)?),
            15 => done(fs::remove_dir(path(request)?)),
            16 => add_name(replies, id, &real_path(path(request)?)?),
            17 => add_metadata(replies, id, &fs::metadata(path(request)?)?),
            18 => rename(path(request)?, path(request)?),
            19 => add_name(replies, id, &fs::read_link(path(request)?)?),
            // OpenSSH sends the target first, unlike the specification, and so does everybody.
            20 => done(unix::symlink(path(request)?, path(request)?)),
            200 => self.extended(id, request, replies),
            _ => Err(Refusal::Code(Code::Unsupported, "unknown request")),
        }
    }

    fn extended(
        &self,
        id: u32,
        request: &mut Fields<'_>,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        match request.string()? {
            b"posix-rename@openssh.com" => done(fs::rename(path(request)?, path(request)?)),
            b"hardlink@openssh.com" => done(fs::hard_link(path(request)?, path(request)?)),
            b"fsync@openssh.com" => done(self.file(request)?.0.sync_all()),
            b"expand-path@openssh.com" => {
                add_name(replies, id, &real_path(&expand(path(request)?))?)
            }
            b"statvfs@openssh.com" => {
                add_statvfs(replies, id, &rustix::fs::statvfs(path(request)?)?)
            }
            b"fstatvfs@openssh.com" => {
                add_statvfs(replies, id, &rustix::fs::fstatvfs(self.file(request)?.0)?)
            }
            b"limits@openssh.com" => add_limits(replies, id),
            _ => Err(Refusal::Code(Code::Unsupported, "unknown extension")),
        }
    }

    fn add_handle(&mut self, replies: &mut Replies, id: u32, open: Open) -> Result<(), Refusal> {
        if self.open.len() >= MOST_HANDLES {
            return Err(Refusal::Code(Code::Failure, "too many open files"));
        }
        let handle = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(handle, open);
        replies.add(Reply::Handle, id, |out| put_string(out, &handle.to_be_bytes()));
        Ok(())
    }

    fn file(&self, request: &mut Fields<'_>) -> Result<(&File, &Position), Refusal> {
        match self.open.get(&handle(request)?) {
            Some(Open::File { file, position }) => Ok((file, position)),
            _ => Err(NO_HANDLE),
        }
    }

    fn open(
        &mut self,
        id: u32,
        request: &mut Fields<'_>,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let path = path(request)?;
        let flags = request.u32()?;
        let mode = Wishes::read(request)?.mode.unwrap_or(0o666);
        let wants = |flag| flags & flag != 0;
        let (append, create, truncate, exclusive) = (wants(4), wants(8), wants(16), wants(32));
        let mut options = OpenOptions::new();
        options.read(wants(1)).write(wants(2)).append(append).mode(mode);
        options.truncate(truncate && !append).create(create && !exclusive);
        let file = options.create_new(create && exclusive).open(path)?;
        let position = if append { Position::AtTheEnd } else { Position::AsAsked };
        self.add_handle(replies, id, Open::File { file, position })
    }

    fn close(&mut self, request: &mut Fields<'_>) -> Result<(), Refusal> {
        self.open.remove(&handle(request)?).ok_or(NO_HANDLE)?;
        DONE
    }

    fn read(
        &self,
        id: u32,
        request: &mut Fields<'_>,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let (file, _) = self.file(request)?;
        let offset = request.u64()?;
        let length = request.u32()?.min(LONGEST_TRANSFER) as usize;
        replies.try_add(Reply::Data, id, |out| put_data(out, file, offset, length))?;
        Ok(())
    }

    fn write(&self, request: &mut Fields<'_>) -> Result<(), Refusal> {
        let (file, position) = self.file(request)?;
        let offset = request.u64()?;
        let data = request.string()?;
        match position {
            Position::AsAsked => done(file.write_all_at(data, offset)),
            Position::AtTheEnd => done(io::Write::write_all(&mut &*file, data)),
        }
    }

    fn metadata(&self, request: &mut Fields<'_>) -> Result<Metadata, Refusal> {
        match self.open.get(&handle(request)?) {
            Some(Open::File { file, .. }) => Ok(file.metadata()?),
            Some(Open::Directory { path, .. }) => Ok(fs::metadata(path)?),
            None => Err(NO_HANDLE),
        }
    }

    fn set_open(&self, request: &mut Fields<'_>) -> Result<(), Refusal> {
        let (file, _) = self.file(request)?;
        let wishes = Wishes::read(request)?;
        if let Some(size) = wishes.size {
            file.set_len(size)?;
        }
        if let Some(mode) = wishes.mode {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        if let Some((access, change)) = wishes.times {
            rustix::fs::futimens(file, &timestamps(access, change))?;
        }
        if let Some((uid, gid)) = wishes.owner {
            unix::fchown(file, Some(uid), Some(gid))?;
        }
        DONE
    }

    fn open_directory(
        &mut self,
        id: u32,
        request: &mut Fields<'_>,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let path = path(request)?.to_owned();
        let entries = fs::read_dir(&path)?;
        self.add_handle(replies, id, Open::Directory { path, entries, dots: vec!["..", "."] })
    }

    fn read_directory(
        &mut self,
        id: u32,
        request: &mut Fields<'_>,
        replies: &mut Replies,
    ) -> Result<(), Refusal> {
        let Some(Open::Directory { path, entries, dots }) = self.open.get_mut(&handle(request)?)
        else {
            return Err(NO_HANDLE);
        };
        let mut names = Vec::new();
        while let Some(dot) = dots.pop() {
            names.push((OsStr::new(dot).to_owned(), fs::metadata(path.join(dot))?));
        }
        // An entry may have been removed since the directory was read.
        let present = |entry: DirEntry| Some((entry.file_name(), entry.metadata().ok()?));
        for entry in entries.by_ref().take(ENTRIES_AT_ONCE) {
            names.extend(present(entry?));
        }
        if names.is_empty() && entries.next().is_none() {
            return Err(Refusal::Code(Code::Eof, "end of directory"));
        }
        replies.add(Reply::Name, id, |out| {
            put_u32(out, u32::try_from(names.len()).unwrap_or(0));
            for (name, metadata) in &names {
                put_string(out, name.as_bytes());
                let long = attributes::long_name(metadata, &name.to_string_lossy());
                put_string(out, long.as_bytes());
                attributes::put(out, metadata);
            }
        });
        Ok(())
    }
}

const NO_HANDLE: Refusal = Refusal::Code(Code::Failure, "no such handle");

fn code_of(error: &io::Error) -> Code {
    match error.kind() {
        ErrorKind::NotFound => Code::NoSuchFile,
        ErrorKind::PermissionDenied => Code::PermissionDenied,
        ErrorKind::UnexpectedEof => Code::Eof,
        ErrorKind::Unsupported => Code::Unsupported,
        _ => Code::Failure,
    }
}

fn done(result: io::Result<()>) -> Result<(), Refusal> {
    result?;
    DONE
}

/// The empty path is where the client is.
fn path<'a>(request: &mut Fields<'a>) -> Result<&'a Path, Malformed> {
    match request.string()? {
        b"" => Ok(Path::new(".")),
        bytes => Ok(Path::new(OsStr::from_bytes(bytes))),
    }
}

fn handle(request: &mut Fields<'_>) -> Result<u32, Refusal> {
    let bytes = request.string()?.try_into().map_err(|_| NO_HANDLE)?;
    Ok(u32::from_be_bytes(bytes))
}

/// A path that need not exist, as the shell would name it; `..` follows links where it can.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let absolute = std::path::absolute(path)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
                _ => Ok(absolute),
            }
        }
        other => other,
    }
}

fn expand(path: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => Path::new(crate::rescue::program::HOME).join(rest),
        Err(_) => path.to_owned(),
    }
}

fn make_directory(path: &Path, wishes: Wishes) -> Result<(), Refusal> {
    done(DirBuilder::new().mode(wishes.mode.unwrap_or(0o777)).create(path))
}

/// Never replaces a file; `posix-rename@openssh.com` does.
fn rename(from: &Path, to: &Path) -> Result<(), Refusal> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?;
    DONE
}

fn set(path: &Path, wishes: Wishes) -> Result<(), Refusal> {
    if let Some(size) = wishes.size {
        OpenOptions::new().write(true).open(path)?.set_len(size)?;
    }
    if let Some(mode) = wishes.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    if let Some((access, change)) = wishes.times {
        rustix::fs::utimensat(CWD, path, &timestamps(access, change), AtFlags::empty())?;
    }
    if let Some((uid, gid)) = wishes.owner {
        unix::chown(path, Some(uid), Some(gid))?;
    }
    DONE
}

fn timestamps(access: u32, change: u32) -> Timestamps {
    let time = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    Timestamps { last_access: time(access), last_modification: time(change) }
}
