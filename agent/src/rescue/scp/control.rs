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
    /// Understands a line without its first byte. Names may be any bytes.
    pub(super) fn parse(kind: u8, rest: &[u8]) -> Option<Self> {
        let mut words = rest.splitn(3, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        match kind {
            b'C' | b'D' => {
                let mode = u32::from_str_radix(word()?, 8).ok()? & 0o7777;
                let size = word()?.parse().ok()?;
                let name = words.next().filter(|name| is_plain(name))?;
                let name = OsStr::from_bytes(name).to_owned();
                match kind {
                    b'C' => Some(Self::File { mode, size, name }),
                    _ => Some(Self::Directory { mode, name }),
                }
            }
            b'E' if rest.is_empty() => Some(Self::Up),
            b'T' => {
                let change = word()?.parse().ok()?;
                word()?;
                let access = word()?.split(' ').next()?.parse().ok()?;
                Some(Self::Times { change, access })
            }
            1 | 2 => Some(Self::Complaint(String::from_utf8_lossy(rest).into_owned())),
            _ => None,
        }
    }
}

/// A client must not leave the target directory.
fn is_plain(name: &[u8]) -> bool {
    !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b".."
}

/// The line that announces a file or a directory. A name with a line end would be two lines: it is
/// shown as OpenSSH does it, like `vis -l`.
pub(super) fn line(kind: u8, mode: u32, size: u64, name: &OsStr) -> Vec<u8> {
    let mut line = vec![kind];
    line.extend(format!("{mode:04o} {size} ").as_bytes());
    let is_one_line = !name.as_bytes().contains(&b'\n');
    for byte in name.as_bytes() {
        match byte {
            b'\n' => line.extend(b"\\^J"),
            b'\\' if !is_one_line => line.extend(b"\\\\"),
            byte => line.push(*byte),
        }
    }
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
            assert_eq!(Control::parse(kind, rest.as_bytes()), expected, "{rest}");
        }
    }

    #[test]
    fn a_name_is_one_line_whatever_it_is() {
        let latin = OsStr::from_bytes(b"\xe9 \\");
        let announced = line(b'C', 0o644, 3, latin);
        assert_eq!(announced, b"C0644 3 \xe9 \\\n");
        let expected = Control::File { mode: 0o644, size: 3, name: latin.to_owned() };
        assert_eq!(Control::parse(b'C', &announced[1..announced.len() - 1]), Some(expected));
        let two = line(b'D', 0o755, 0, OsStr::new("a\nC0644 1 \\b"));
        assert_eq!(two, b"D0755 0 a\\^JC0644 1 \\\\b\n");
    }
}
