//! SHA-256 digests (FIPS 180-4) as boot documents write them: 64 hexadecimal digits in either case.

use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Digest([u8; 32]);

/// Why a text is not a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// Something else than 64 characters.
    #[error("expected 64 hexadecimal digits, got {0} characters")]
    Length(usize),
    /// A character that is no hexadecimal digit.
    #[error("expected hexadecimal digits, got {0:?}")]
    NotHexadecimal(char),
}

impl Sha256Digest {
    /// The digest as bytes, first byte first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Sha256Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Sha256Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text
            .chars()
            .map(|c| c.to_digit(16).ok_or(ParseDigestError::NotHexadecimal(c)))
            .collect::<Result<Vec<u32>, _>>()?;
        if digits.len() != 64 {
            return Err(ParseDigestError::Length(digits.len()));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::try_from(pair[0] << 4 | pair[1]).unwrap_or_default();
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_in_either_case_and_shown_in_lower() {
        let digest: Sha256Digest = "AB".repeat(32).parse().unwrap();
        assert_eq!(digest.to_string(), "ab".repeat(32));
    }

    #[test]
    fn a_text_that_is_no_digest_says_why() {
        assert_eq!("ab".parse::<Sha256Digest>(), Err(ParseDigestError::Length(2)));
        assert_eq!("".parse::<Sha256Digest>(), Err(ParseDigestError::Length(0)));
        assert_eq!(
            "x".repeat(64).parse::<Sha256Digest>(),
            Err(ParseDigestError::NotHexadecimal('x'))
        );
    }
}
