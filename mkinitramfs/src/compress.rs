//! Compresses archives as the kernel can unpack them, and recognises what is compressed.
//!
//! The same input gives the same bytes: no time stamps, no file names, one thread.

use std::fmt;
use std::io::{self, Read, Write};

use serde::Deserialize;

/// zstd's level: above it the files hardly shrink, and below the time hardly does.
const ZSTD_LEVEL: i32 = 19;
/// The window that the kernel must hold while it unpacks: 8 MiB, which is level 19's own.
const ZSTD_WINDOW_LOG: u32 = 23;
const XZ_PRESET: u32 = 9;
const XZ_DICTIONARY_BYTES: u32 = 8 << 20;
/// More takes seconds to compress.
const SLOW_BYTES: usize = 4 << 20;
/// More than any ramdisk, and less than a host's memory.
const MOST_UNPACKED_BYTES: u64 = 4 << 30;

/// A form that the kernel unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Unpacks fast and is small enough.
    #[default]
    Zstd,
    /// Smallest, unpacks about five times slower.
    Xz,
    /// For loaders and tools that know nothing else.
    Gzip,
    /// The archive as it is.
    None,
}

/// Why something cannot be compressed or unpacked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} with {compression}")]
pub struct Error {
    verb: &'static str,
    compression: Compression,
    source: io::Error,
}

impl Compression {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Xz, Self::Gzip, Self::None];

    /// What follows `.cpio` in a file name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
            Self::Gzip => ".gz",
            Self::None => "",
        }
    }

    /// The form that the file name of an archive asks for by its end.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let ends = |compression: &Self| name.ends_with(&format!(".cpio{}", compression.suffix()));
        Self::ALL.into_iter().find(ends)
    }

    /// The form that bytes begin with.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            _ => Self::None,
        }
    }

    /// Names the settings that decide, beside the input and the library, what [`Self::compress`] gives.
    #[must_use]
    pub fn recipe(self) -> String {
        match self {
            // Whoever builds this may have chosen the host's library.
            Self::Zstd => {
                let version = zstd::zstd_safe::version_string();
                format!("{self} {version} level {ZSTD_LEVEL} window {ZSTD_WINDOW_LOG}")
            }
            Self::Xz => format!("{self} preset {XZ_PRESET} dictionary {XZ_DICTIONARY_BYTES}"),
            Self::Gzip | Self::None => self.to_string(),
        }
    }

    /// Compresses.
    ///
    /// # Errors
    /// The compressor has no memory.
    pub fn compress(self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let result = match self {
            Self::Zstd => zstd_frame(bytes),
            Self::Xz => xz_stream(bytes),
            Self::Gzip => gzip_member(bytes),
            Self::None => Ok(bytes.to_owned()),
        };
        result.map_err(|source| Error { verb: "compress", compression: self, source })
    }

    /// Says that it is being compressed, if that takes a while: some 3 MB a second.
    pub fn announce(self, bytes: &[u8]) {
        if self != Self::None && bytes.len() > SLOW_BYTES {
            eprintln!("ramdisk: compressing {} MiB with {self}", bytes.len() >> 20);
        }
    }

    /// About how many bytes something takes, in a moment.
    #[must_use]
    pub fn estimate(bytes: &[u8]) -> usize {
        zstd::bulk::compress(bytes, 1).map_or(bytes.len(), |packed| packed.len())
    }

    /// Unpacks the first frame, stream or member; what follows it may be anything.
    ///
    /// Returns what was in it and how many bytes it took.
    ///
    /// # Errors
    /// The bytes are damaged, cut short, of another form, or of more than 4 GiB.
    pub fn unpack_first(self, bytes: &[u8]) -> Result<(Vec<u8>, usize), Error> {
        self.unpack_up_to(MOST_UNPACKED_BYTES, bytes)
    }

    fn unpack_up_to(self, limit: u64, bytes: &[u8]) -> Result<(Vec<u8>, usize), Error> {
        let mut rest = bytes;
        let result = match self {
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(&mut rest)
                .and_then(|decoder| read_up_to(limit, decoder.single_frame())),
            Self::Xz => read_up_to(limit, liblzma::bufread::XzDecoder::new(&mut rest)),
            Self::Gzip => read_up_to(limit, flate2::bufread::GzDecoder::new(&mut rest)),
            Self::None => read_up_to(limit, &mut rest),
        };
        match result {
            Ok(unpacked) => Ok((unpacked, bytes.len() - rest.len())),
            Err(source) => Err(Error { verb: "unpack", compression: self, source }),
        }
    }
}

/// A few bytes can stand for all the memory of a host.
fn read_up_to(limit: u64, from: impl Read) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    from.take(limit + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() as u64 > limit {
        return Err(io::Error::other(format!("expected at most {limit} bytes in it, got more")));
    }
    Ok(unpacked)
}

fn zstd_frame(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.window_log(ZSTD_WINDOW_LOG)?;
    encoder.include_checksum(false)?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn xz_stream(bytes: &[u8]) -> io::Result<Vec<u8>> {
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    let mut options = LzmaOptions::new_preset(XZ_PRESET)?;
    options.dict_size(XZ_DICTIONARY_BYTES);
    // The kernel refuses CRC64, xz's default: Documentation/staging/xz.rst.
    let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc32)?;
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn gzip_member(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let level = flate2::Compression::best();
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), level);
    encoder.write_all(bytes)?;
    encoder.finish()
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Gzip => "gzip",
            Self::None => "no compression",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..20_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    #[test]
    fn what_was_compressed_is_recognised_and_comes_back_the_same() {
        for compression in Compression::ALL {
            let packed = compression.compress(&text()).unwrap();
            assert_eq!(Compression::of(&packed), compression);
            let (unpacked, taken) = compression.unpack_first(&packed).unwrap();
            assert_eq!((unpacked, taken), (text(), packed.len()), "{compression}");
        }
    }

    #[test]
    fn only_the_first_of_two_frames_is_unpacked() {
        for compression in [Compression::Zstd, Compression::Xz, Compression::Gzip] {
            let first = compression.compress(b"first").unwrap();
            let both = [first.clone(), compression.compress(b"second").unwrap()].concat();
            let (unpacked, taken) = compression.unpack_first(&both).unwrap();
            assert_eq!(
                (unpacked.as_slice(), taken),
                (b"first".as_slice(), first.len()),
                "{compression}"
            );
        }
    }

    #[test]
    fn xz_carries_the_check_that_the_kernel_knows() {
        // Stream flags, bytes 6 and 7 of the header: 0 and the check's number, 1 for CRC32.
        let packed = Compression::Xz.compress(b"x").unwrap();
        assert_eq!(packed[6..8], [0, 1]);
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for compression in [Compression::Zstd, Compression::Xz, Compression::Gzip] {
            let packed = compression.compress(&text()).unwrap();
            assert!(
                compression.unpack_first(&packed[..packed.len() / 2]).is_err(),
                "{compression}"
            );
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        for compression in Compression::ALL {
            let packed = compression.compress(&[0; 1001]).unwrap();
            let error = compression.unpack_up_to(1000, &packed).unwrap_err();
            let error = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(error, "expected at most 1000 bytes in it, got more", "{compression}");
            assert_eq!(compression.unpack_up_to(1001, &packed).unwrap().0.len(), 1001);
        }
    }

    #[test]
    fn a_file_name_says_how_it_is_compressed() {
        for (name, compression) in [
            ("a.cpio.zst", Compression::Zstd),
            ("a.cpio.xz", Compression::Xz),
            ("a.cpio.gz", Compression::Gzip),
            ("a.cpio", Compression::None),
        ] {
            assert_eq!(Compression::from_file_name(name), Some(compression));
        }
        for name in ["a.cpio.lz4", "a.cpio.zstd", "a.img", "cpio", ""] {
            assert_eq!(Compression::from_file_name(name), None, "{name}");
        }
    }
}
