//! The step *load*: puts the next kernel into memory with `kexec_file_load(2)`.
//!
//! On entry the files are complete and nobody writes them. On return the kernel is loaded and
//! nothing has been shut down: only PID 1 enters it. What cannot work is refused before the running
//! kernel is asked, with the reason.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::luggage::{self, Appended};
use super::release::{self, Release};
use super::room::{self, Memory, NotEnough, Piece};
use crate::bzimage::{self, SetupHeader};
use crate::chain::Chain;
use crate::meminfo::MEMINFO;
use crate::sys::System;

const LOAD_DISABLED: &str = "/proc/sys/kernel/kexec_load_disabled";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const PAGE_BYTES: u64 = 4096;

/// Why the next kernel is not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel is not one.
    #[error("cannot load {path}")]
    Kernel {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        source: bzimage::Error,
    },
    /// A download that was cut off, or released by an earlier attempt.
    #[error("cannot load {path}: the file is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The next kernel would cut it off.
    #[error("expected a command line of at most {longest} bytes for this kernel, got {length}")]
    CmdlineTooLong {
        /// What the kernel accepts from kexec_file_load.
        longest: u32,
        /// What was given.
        length: usize,
    },
    /// A C string cannot have one inside.
    #[error("expected a command line without zero bytes")]
    CmdlineWithZero,
    /// Loading would end in the out-of-memory killer.
    #[error("cannot load {path}")]
    Memory {
        /// The kernel.
        path: PathBuf,
        /// Both figures.
        source: NotEnough,
    },
    /// The running kernel does not take it.
    #[error("cannot load {path}{explanation}")]
    Refused {
        /// The kernel.
        path: PathBuf,
        /// What the error number means here.
        explanation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The next kernel, with its command line complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Next<'a> {
    /// The kernel image.
    pub(crate) kernel: &'a Path,
    /// Its initramfs.
    pub(crate) initramfs: Option<&'a Path>,
    /// Its command line.
    pub(crate) cmdline: &'a str,
    /// Files below this directory are given up when the kernel has read them, and may be changed.
    pub(crate) downloads: Option<&'a Path>,
    /// One more archive for the initramfs, which may be left out.
    pub(crate) luggage: Option<&'a [u8]>,
}

/// Loads the next kernel and answers with what its header says.
pub(crate) fn load(system: &mut impl System, next: Next<'_>) -> Result<SetupHeader, Error> {
    let kernel = open(next.kernel)?;
    let header = read_header(&kernel, next.kernel)?;
    let cmdline = accepted_cmdline(next.cmdline, &header)?;
    let initramfs = next.initramfs.map(open).transpose()?;
    forget_loaded(system);
    let mut luggage = append_luggage(next);
    let mut release = make_room(next, &header, &kernel, initramfs.as_ref());
    if let (Err(Error::Memory { .. }), Some(appended)) = (&release, luggage.take()) {
        appended.take_back();
        release = make_room(next, &header, &kernel, initramfs.as_ref());
    }
    let release = release?;
    let result = system.kexec_load(&kernel, initramfs.as_ref(), &cmdline);
    if let Some(release) = release {
        release.finish();
    }
    match result {
        Ok(()) => Ok(header),
        Err(source) => Err(refused(next.kernel, source)),
    }
}

/// The next kernel matters more than what it is given along.
fn append_luggage(next: Next<'_>) -> Option<Appended> {
    let (path, archive) = (next.initramfs?, next.luggage?);
    let bytes = fs::metadata(path).ok()?.len();
    if bytes == 0 || !release::is_disposable(path, bytes, next.downloads) {
        return None;
    }
    luggage::append(path, archive)
        .inspect_err(|error| log::debug!("leaving the log behind: {}", Chain(error)))
        .ok()
}

/// Read-only: the running kernel refuses a file that anybody has open for writing.
fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn read_header(kernel: &File, path: &Path) -> Result<SetupHeader, Error> {
    let mut head = Vec::new();
    kernel
        .take(bzimage::HEAD_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    SetupHeader::parse(&head).map_err(|source| Error::Kernel { path: path.to_owned(), source })
}

/// A newline at the end comes from files and templates; the kernel would make it part of a value.
fn accepted_cmdline(cmdline: &str, header: &SetupHeader) -> Result<CString, Error> {
    let cmdline = cmdline.trim_end_matches(['\n', '\r']);
    let (longest, length) = (header.longest_cmdline(), cmdline.len());
    if u32::try_from(length).is_ok_and(|length| length <= longest) {
        CString::new(cmdline).map_err(|_| Error::CmdlineWithZero)
    } else {
        Err(Error::CmdlineTooLong { longest, length })
    }
}

/// What an earlier attempt left in memory would be there until the new kernel is complete.
fn forget_loaded(system: &mut impl System) {
    if let Err(error) = system.kexec_unload() {
        // Whatever is wrong shows again when the kernel is loaded.
        log::debug!("cannot unload: {error}");
    }
}

/// Checks that there is memory, and prepares to give up what is not needed any more.
fn make_room(
    next: Next<'_>,
    header: &SetupHeader,
    kernel: &File,
    initramfs: Option<&File>,
) -> Result<Option<Release>, Error> {
    let kernel_bytes = size(kernel, next.kernel)?;
    let initramfs_bytes = match (initramfs, next.initramfs) {
        (Some(file), Some(path)) => size(file, path)?,
        _ => 0,
    };
    let (release, disposable) = release(next, kernel_bytes, initramfs_bytes);
    let piece = |path: Option<&Path>, file_bytes, placed_bytes: u64| Piece {
        file_bytes,
        placed_bytes: placed_bytes.next_multiple_of(PAGE_BYTES),
        released_bytes: match path {
            Some(path) if disposable.iter().any(|file| file == path) => file_bytes,
            _ => 0,
        },
    };
    check_room(
        next.kernel,
        piece(Some(next.kernel), kernel_bytes, header.init_size.into()),
        piece(next.initramfs, initramfs_bytes, initramfs_bytes),
    )?;
    Ok(release)
}

fn size(file: &File, path: &Path) -> Result<u64, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    match file.metadata().map_err(read)?.len() {
        0 => Err(Error::Empty { path: path.to_owned() }),
        bytes => Ok(bytes),
    }
}

/// Watches the downloads among the files; the second value is what will be given up.
fn release(next: Next<'_>, kernel: u64, initramfs: u64) -> (Option<Release>, Vec<PathBuf>) {
    let files = [(Some(next.kernel), kernel), (next.initramfs, initramfs)];
    let disposable: Vec<PathBuf> = files
        .into_iter()
        .filter_map(|(path, size)| Some((path?, size)))
        .filter(|(path, size)| release::is_disposable(path, *size, next.downloads))
        .map(|(path, _)| path.to_owned())
        .collect();
    if disposable.is_empty() {
        return (None, disposable);
    }
    match Release::of(&disposable) {
        Ok(release) => (Some(release), disposable),
        Err(error) => {
            log::debug!("keeping the downloads in memory: {}", Chain(&error));
            (None, vec![])
        }
    }
}

fn check_room(path: &Path, kernel: Piece, initramfs: Piece) -> Result<(), Error> {
    // A kernel that does not say how much is free is older than any that we run on.
    let Some(memory) = fs::read_to_string(MEMINFO).ok().as_deref().and_then(Memory::parse) else {
        return Ok(());
    };
    room::check(kernel, initramfs, memory)
        .map_err(|source| Error::Memory { path: path.to_owned(), source })
}

fn refused(path: &Path, source: io::Error) -> Error {
    let errno = Errno::from_raw(source.raw_os_error().unwrap_or_default());
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let explanation = match errno {
        Errno::EPERM => why_not_permitted(&read(LOAD_DISABLED), &read(LOCKDOWN)),
        errno => explain(errno),
    };
    Error::Refused { path: path.to_owned(), explanation, source }
}

fn explain(errno: Errno) -> &'static str {
    match errno {
        Errno::EBUSY => ", another kernel is being loaded or entered at this moment",
        Errno::ETXTBSY => ", something still has one of the files open for writing",
        Errno::ENOSYS => ", the running kernel has no kexec_file_load (CONFIG_KEXEC_FILE)",
        Errno::ENOEXEC => ", the running kernel cannot start this kind of kernel",
        Errno::ENOMEM => ", the memory that was free has been taken by something else",
        Errno::EADDRNOTAVAIL => ", no free range of memory is large enough",
        Errno::ENOKEY | Errno::EKEYREJECTED | Errno::EBADMSG | Errno::ELIBBAD => {
            ", its signature is missing or is not from a key that the running kernel knows"
        }
        _ => "",
    }
}

/// EPERM has three causes that look the same.
fn why_not_permitted(load_disabled: &str, lockdown: &str) -> &'static str {
    if load_disabled.trim() == "1" {
        ", loading is switched off until the next restart (kernel.kexec_load_disabled)"
    } else if lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]") {
        ", the running kernel is locked down (secure boot?) and takes only signed kernels"
    } else {
        ", only root may do that"
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
