//! The answers that are more than a status.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::StatVfs;

use super::files::{MOST_HANDLES, Refusal};
use super::packet::{Replies, Reply, put_string, put_u32, put_u64};
use super::{LONGEST_REQUEST, LONGEST_TRANSFER, attributes};

pub(super) fn put_data(
    out: &mut Vec<u8>,
    file: &File,
    offset: u64,
    length: usize,
) -> io::Result<()> {
    let start = out.len() + 4;
    out.resize(start + length, 0);
    let read = loop {
        match file.read_at(&mut out[start..], offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if read == 0 && length > 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    out.truncate(start + read);
    let read = u32::try_from(read).unwrap_or(0);
    out[start - 4..start].copy_from_slice(&read.to_be_bytes());
    Ok(())
}

pub(super) fn add_metadata(
    replies: &mut Replies,
    id: u32,
    metadata: &Metadata,
) -> Result<(), Refusal> {
    replies.add(Reply::Attributes, id, |out| attributes::put(out, metadata));
    Ok(())
}

pub(super) fn add_name(replies: &mut Replies, id: u32, name: &Path) -> Result<(), Refusal> {
    replies.add(Reply::Name, id, |out| {
        put_u32(out, 1);
        put_string(out, name.as_os_str().as_bytes());
        put_string(out, name.as_os_str().as_bytes());
        put_u32(out, 0);
    });
    Ok(())
}

pub(super) fn add_limits(replies: &mut Replies, id: u32) -> Result<(), Refusal> {
    replies.add(Reply::Extended, id, |out| {
        put_u64(out, LONGEST_REQUEST.into());
        put_u64(out, LONGEST_TRANSFER.into());
        put_u64(out, LONGEST_TRANSFER.into());
        put_u64(out, MOST_HANDLES as u64);
    });
    Ok(())
}

pub(super) fn add_statvfs(replies: &mut Replies, id: u32, vfs: &StatVfs) -> Result<(), Refusal> {
    replies.add(Reply::Extended, id, |out| {
        let blocks = [vfs.f_bsize, vfs.f_frsize, vfs.f_blocks, vfs.f_bfree, vfs.f_bavail];
        let files = [vfs.f_files, vfs.f_ffree, vfs.f_favail, vfs.f_fsid];
        let rest = [vfs.f_flag.bits(), vfs.f_namemax];
        for value in blocks.into_iter().chain(files).chain(rest) {
            put_u64(out, value);
        }
    });
    Ok(())
}
