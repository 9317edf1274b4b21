//! The lines between the bytes of files.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What the other side announces.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control {
    File { mode: u32, size: u64, name: OsString },
    Directory { mode: u32, name: OsString },
    Up,
    Times { change: i64, access: i64 },
    Complaint(String),
}

impl Control {
    /// Understands a line without its first byte.
    pub(super) fn parse(kind: u8, rest: &str) -> Option<Self> {
        match kind {
            b'C' | b'D' => {
                let mut words = rest.splitn(3, ' ');
                let mode = u32::from_str_radix(words.next()?, 8).ok()? & 0o7777;
                let size = words.next()?.parse().ok()?;
                let name = words.next().filter(|name| is_plain(name))?.into();
                match kind {
                    b'C' => Some(Self::File { mode, size, name }),
                    _ => Some(Self::Directory { mode, name }),
                }
            }
            b'E' if rest.is_empty() => Some(Self::Up),
            b'T' => {
                let mut words = rest.split(' ');
                let change = words.next()?.parse().ok()?;
                let access = words.nth(1)?.parse().ok()?;
                Some(Self::Times { change, access })
            }
            1 | 2 => Some(Self::Complaint(rest.to_owned())),
            _ => None,
        }
    }
}

/// A client must not leave the target directory.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

/// The line that announces a file or a directory.
pub(super) fn line(kind: u8, mode: u32, size: u64, name: &OsStr) -> Vec<u8> {
    let mut line = vec![kind];
    line.extend(format!("{mode:04o} {size} ").as_bytes());
    line.extend(name.as_bytes());
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_lines_are_understood() {
        let table = [
            (
                b'C',
                "0644 12 a b",
                Some(Control::File { mode: 0o644, size: 12, name: "a b".into() }),
            ),
            (b'D', "0755 0 d", Some(Control::Directory { mode: 0o755, name: "d".into() })),
            (b'E', "", Some(Control::Up)),
            (b'T', "7 0 8 0", Some(Control::Times { change: 7, access: 8 })),
            (1, "scp: no", Some(Control::Complaint("scp: no".into()))),
            (b'C', "0644 12 ../a", None),
            (b'C', "0644 12 ..", None),
            (b'C', "0644 12 ", None),
            (b'C', "0644 -1 a", None),
            (b'X', "", None),
        ];
        for (kind, rest, expected) in table {
            assert_eq!(Control::parse(kind, rest), expected, "{rest}");
        }
    }
}
