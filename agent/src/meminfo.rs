//! The kernel's own account of its memory, see proc_meminfo(5).

/// Where it is.
pub(crate) const MEMINFO: &str = "/proc/meminfo";

/// The bytes of a line such as `MemAvailable:    1234 kB`; `text` is the whole account.
pub(crate) fn bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_whole_name() {
        for (text, expected) in [
            ("MemTotal:  9 kB\nMemAvailable:    1234 kB\n", Some(1234 * 1024)),
            ("MemTotal:  9 kB\n", None),
            ("MemAvailableToo: 1 kB\n", None),
            ("MemAvailable: lots\n", None),
            ("MemAvailable: 99999999999999999 kB\n", None),
            ("", None),
        ] {
            assert_eq!(bytes(text, "MemAvailable"), expected, "{text:?}");
        }
    }
}
