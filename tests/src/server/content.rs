//! What is served: bytes in memory, or a file that is never loaded whole; and which part of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt};

/// A body.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A file, read while it is sent.
    File(PathBuf),
}

impl Content {
    pub(super) async fn length(&self) -> io::Result<u64> {
        Ok(match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(path) => tokio::fs::metadata(path).await?.len(),
        })
    }

    /// Names this version of the content: a strong validator (RFC 9110, section 8.8.3).
    pub(super) async fn etag(&self) -> io::Result<String> {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Bytes(bytes) => bytes.hash(&mut hasher),
            Self::File(path) => {
                let metadata = tokio::fs::metadata(path).await?;
                (metadata.len(), metadata.modified()?).hash(&mut hasher);
            }
        }
        Ok(format!("\"{:016x}\"", hasher.finish()))
    }

    /// Reads from `start` on.
    pub(super) async fn open(
        &self,
        start: u64,
    ) -> io::Result<Box<dyn AsyncRead + Send + Unpin + '_>> {
        match self {
            Self::Bytes(bytes) => {
                let rest = usize::try_from(start).ok().and_then(|start| bytes.get(start..));
                Ok(Box::new(rest.unwrap_or_default()))
            }
            Self::File(path) => {
                let mut file = tokio::fs::File::open(path).await?;
                file.set_max_buf_size(COPY_BYTES);
                file.seek(io::SeekFrom::Start(start)).await?;
                Ok(Box::new(file.take(u64::MAX)))
            }
        }
    }
}

/// Large enough that a read and a write cost little beside the copy.
pub(super) const COPY_BYTES: usize = 256 << 10;

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes().into())
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().into())
    }
}

impl From<PathBuf> for Content {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// Which part of a body was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: status 200.
    Whole,
    /// From `start` up to and without `end`: status 206.
    Slice { start: u64, end: u64 },
    /// Nothing that exists: status 416.
    Unsatisfiable,
}

impl Part {
    /// Understands one `bytes=` range (RFC 9110, section 14.2); anything else means the whole.
    pub(super) fn select(range: Option<&str>, length: u64) -> Self {
        let Some((first, last)) = range
            .and_then(|range| range.strip_prefix("bytes="))
            .and_then(|set| set.split_once('-'))
        else {
            return Self::Whole;
        };
        match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(start), _) if start >= length => Self::Unsatisfiable,
            (Ok(start), Ok(last)) if last < start => Self::Whole,
            (Ok(start), Ok(last)) => Self::Slice { start, end: length.min(last.saturating_add(1)) },
            (Ok(start), Err(_)) if last.is_empty() => Self::Slice { start, end: length },
            (Err(_), Ok(suffix)) if first.is_empty() && suffix.min(length) == 0 => {
                Self::Unsatisfiable
            }
            (Err(_), Ok(suffix)) if first.is_empty() => {
                Self::Slice { start: length.saturating_sub(suffix), end: length }
            }
            _ => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_selects_what_rfc_9110_says() {
        let table = [
            (None, Part::Whole),
            (Some("bytes=0-"), Part::Slice { start: 0, end: 10 }),
            (Some("bytes=3-"), Part::Slice { start: 3, end: 10 }),
            (Some("bytes=3-4"), Part::Slice { start: 3, end: 5 }),
            (Some("bytes=3-99"), Part::Slice { start: 3, end: 10 }),
            (Some("bytes=-4"), Part::Slice { start: 6, end: 10 }),
            (Some("bytes=10-"), Part::Unsatisfiable),
            (Some("bytes=4-3"), Part::Whole),
            (Some("bytes=0-1,3-4"), Part::Whole),
            (Some("lines=1-2"), Part::Whole),
        ];
        for (range, part) in table {
            assert_eq!(Part::select(range, 10), part, "{range:?}");
        }
    }
}
