//! The DHCP client identifier as the kernel command line gives it: `dhcp,<type>,<identifier>`.
//!
//! See RFC 2132, section 9.14, and `ic_proto_name` in the kernel's `net/ipv4/ipconfig.c`.

/// Linux's buffer has 253 bytes for type, identifier and a final zero.
const LONGEST_BYTES: usize = 251;

/// How a DHCP server shall know a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpClientId {
    /// A hardware type (RFC 1700), 255 for a DUID (RFC 4361), or 0 for anything else.
    pub kind: u8,
    /// 1 to 251 bytes, as they are.
    pub id: String,
}

impl DhcpClientId {
    /// Reads `<type>,<identifier>`; none if it is malformed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once(',')?;
        let is_valid = (1..=LONGEST_BYTES).contains(&id.len());
        is_valid.then_some(Self { kind: number(kind)?, id: id.to_owned() })
    }

    /// What DHCP option 61 holds.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        std::iter::once(self.kind).chain(self.id.bytes()).collect()
    }
}

/// A number as `kstrtou8` reads it: hexadecimal after `0x`, octal after `0`, else decimal.
fn number(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(hexadecimal) => (hexadecimal, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    let all_digits = digits.chars().all(|digit| digit.is_digit(radix));
    all_digits.then(|| u8::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_identifier_are_read_as_the_kernel_reads_them() {
        let id = |kind, id: &str| Some(DhcpClientId { kind, id: id.to_owned() });
        for (text, expected) in [
            ("1,a0b1", id(1, "a0b1")),
            ("0xff,machine,7", id(255, "machine,7")),
            ("010,x", id(8, "x")),
            ("0,x", id(0, "x")),
            ("+1,x", id(1, "x")),
            ("256,x", None),
            ("-1,x", None),
            ("++1,x", None),
            ("0x,x", None),
            (",x", None),
            ("1,", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(DhcpClientId::parse(text), expected, "{text:?}");
        }
        let long = "x".repeat(LONGEST_BYTES);
        assert_eq!(DhcpClientId::parse(&format!("0,{long}")), id(0, &long));
        assert_eq!(DhcpClientId::parse(&format!("0,{long}x")), None);
    }
}
