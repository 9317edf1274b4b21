//! The bytes of requests and replies.

use std::io;

/// A request that ended before its last field.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("malformed request")]
pub(crate) struct Malformed;

/// What is left to read of a request.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(request: &'a [u8]) -> Self {
        Self(request)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(string)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }
}

/// The kinds of replies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    Version = 2,
    Status = 101,
    Handle = 102,
    Data = 103,
    Name = 104,
    Attributes = 105,
    Extended = 201,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

/// Replies that have not been sent yet.
#[derive(Default)]
pub(crate) struct Replies(Vec<u8>);

impl Replies {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a reply whose fields `fill` writes.
    pub(crate) fn add(&mut self, kind: Reply, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        self.try_add(kind, id, |out| {
            fill(out);
            Ok(())
        })
        .unwrap_or(());
    }

    /// As [`Replies::add`], but nothing is added if `fill` fails.
    pub(crate) fn try_add(
        &mut self,
        kind: Reply,
        id: u32,
        fill: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = self.0.len();
        self.0.extend([0; 4]);
        self.0.push(kind as u8);
        put_u32(&mut self.0, id);
        if let Err(error) = fill(&mut self.0) {
            self.0.truncate(start);
            return Err(error);
        }
        let length = u32::try_from(self.0.len() - start - 4).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    pub(crate) fn status(&mut self, id: u32, code: Code, message: &str) {
        self.add(Reply::Status, id, |out| {
            put_u32(out, code as u32);
            put_string(out, message.as_bytes());
            put_string(out, b"");
        });
    }
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_be_bytes());
}

/// Strings of ours are far below 4 GiB.
pub(crate) fn put_string(out: &mut Vec<u8>, value: &[u8]) {
    put_u32(out, u32::try_from(value.len()).unwrap_or(u32::MAX));
    out.extend(value);
}
