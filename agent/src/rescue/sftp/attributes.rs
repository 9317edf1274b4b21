//! File attributes as SFTP writes them, and as `ls -l` shows them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::packet::{Fields, Malformed, put_u32, put_u64};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What a client wants a file to be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) size: Option<u64>,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) mode: Option<u32>,
    /// Seconds since 1970: of the last access, and of the last change.
    pub(crate) times: Option<(u32, u32)>,
}

impl Wishes {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let flags = fields.u32()?;
        let mut wishes = Self::default();
        if flags & SIZE != 0 {
            wishes.size = Some(fields.u64()?);
        }
        if flags & OWNER != 0 {
            wishes.owner = Some((fields.u32()?, fields.u32()?));
        }
        if flags & MODE != 0 {
            wishes.mode = Some(fields.u32()? & 0o7777);
        }
        if flags & TIMES != 0 {
            wishes.times = Some((fields.u32()?, fields.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..fields.u32()? {
                fields.string()?;
                fields.string()?;
            }
        }
        Ok(wishes)
    }
}

pub(crate) fn put(out: &mut Vec<u8>, metadata: &Metadata) {
    let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    put_u32(out, SIZE | OWNER | MODE | TIMES);
    put_u64(out, metadata.size());
    put_u32(out, metadata.uid());
    put_u32(out, metadata.gid());
    put_u32(out, metadata.mode());
    put_u32(out, seconds(metadata.atime()));
    put_u32(out, seconds(metadata.mtime()));
}

/// The line that `ls -l` in `sftp` shows.
pub(crate) fn long_name(metadata: &Metadata, name: &str) -> String {
    let (mode, links) = (mode_words(metadata.mode()), metadata.nlink());
    let (uid, gid, size) = (metadata.uid(), metadata.gid(), metadata.size());
    let changed = date(metadata.mtime());
    format!("{mode} {links:>4} {uid:<8} {gid:<8} {size:>8} {changed} {name}")
}

fn mode_words(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let mut words = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        words.push(if bits & 4 == 0 { '-' } else { 'r' });
        words.push(if bits & 2 == 0 { '-' } else { 'w' });
        words.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    words
}

/// `Nov 20 13:37` of this year or another, in UTC.
fn date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (month, day) = month_and_day(days);
    format!("{month} {day:>2} {:02}:{:02}", rest / 3600, rest / 60 % 60)
}

/// <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn month_and_day(days: i64) -> (&'static str, i64) {
    let of_era = (days + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = usize::try_from((month_from_march + 2) % 12).unwrap_or(0);
    (MONTHS[month], day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_in_ls() {
        let table = [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o104_755, "-rwsr-xr-x"),
            (0o041_777, "drwxrwxrwt"),
            (0o102_640, "-rw-r-S---"),
            (0o120_777, "lrwxrwxrwx"),
        ];
        for (mode, words) in table {
            assert_eq!(mode_words(mode), words);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let table = [
            (0, "Jan  1 00:00"),
            (951_782_399, "Feb 28 23:59"),
            (951_782_400, "Feb 29 00:00"),
            (951_868_800, "Mar  1 00:00"),
            (1_800_000_000, "Jan 15 08:00"),
        ];
        for (seconds, words) in table {
            assert_eq!(date(seconds), words);
        }
    }
}
