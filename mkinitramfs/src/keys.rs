//! Reads the public keys that may log in to rescue, as `authorized_keys` of sshd(8) lists them.
//!
//! A line is checked as far as a typing error or a wrong file shows: the key type is known, the key
//! is base64, and it names the same type inside. A bad line fails the build and not the rescue.

use std::path::{Path, PathBuf};

use agent_types::authorized_keys::OPTIONS;

/// Key types that a line may have.
const KEY_TYPES: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Why keys cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read authorized keys from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no public key.
    #[error("cannot take {}:{line} as an authorized key", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// Why.
        source: LineError,
    },
    /// A file without a key.
    #[error("expected at least one public key in {}, got none", .0.display())]
    Empty(PathBuf),
}

/// Why a line is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The file's other half was named.
    #[error("expected a public key, got a private key: name the file that ends in .pub")]
    PrivateKey,
    /// No word of the line is a known key type.
    #[error("expected a key type such as ssh-ed25519")]
    NoKeyType,
    /// Nothing follows the type.
    #[error("expected a key after {0}")]
    NoKey(&'static str),
    /// The key is not base64.
    #[error("expected base64 after {0}")]
    NotBase64(&'static str),
    /// Rescue cannot honour the line as sshd would.
    #[error(
        "expected the option no-touch-required before {0}: rescue cannot see whether a security \
         key was touched"
    )]
    Touch(&'static str),
    /// Rescue would leave the line out.
    #[error("expected one of {}, got {name:?}", OPTIONS.join(", "))]
    Option {
        /// What is before its value.
        name: String,
    },
    /// The key is of another type, or cut short.
    #[error("expected a whole key of type {0}")]
    OtherType(&'static str),
}

/// Reads files of keys into one text, a key per line, without comments and empty lines.
///
/// # Errors
/// A file cannot be read, has no key, or has a line that is no key.
pub fn read(paths: &[PathBuf]) -> Result<String, Error> {
    let mut keys = String::new();
    for path in paths {
        let read = |source| Error::Read { path: path.clone(), source };
        keys.push_str(&parse(path, &std::fs::read_to_string(path).map_err(read)?)?);
    }
    Ok(keys)
}

fn parse(path: &Path, text: &str) -> Result<String, Error> {
    let mut keys = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        check_line(line).map_err(|source| Error::Line {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        keys.push_str(line);
        keys.push('\n');
    }
    if keys.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(keys) }
}

fn check_line(line: &str) -> Result<(), LineError> {
    if line.contains("PRIVATE KEY") {
        return Err(LineError::PrivateKey);
    }
    let mut words = words(line).peekable();
    let known = |word: &str| KEY_TYPES.iter().copied().find(|key_type| *key_type == word);
    let options = words.next_if(|word| known(word).is_none());
    let key_type = words.next().and_then(known).ok_or(LineError::NoKeyType)?;
    options.map_or(Ok(()), check_options)?;
    let key = words.next().ok_or(LineError::NoKey(key_type))?;
    let bytes = base64(key).ok_or(LineError::NotBase64(key_type))?;
    if !names_type(&bytes, key_type) {
        return Err(LineError::OtherType(key_type));
    }
    let options = options.unwrap_or_default();
    let waived = options.contains("no-touch-required") || options.contains("cert-authority");
    if key_type.starts_with("sk-") && !waived { Err(LineError::Touch(key_type)) } else { Ok(()) }
}

/// The first string inside a key is its type again, with a length of four bytes in front.
fn names_type(key: &[u8], key_type: &str) -> bool {
    let Some((length, rest)) = key.split_first_chunk::<4>() else { return false };
    let length = u32::from_be_bytes(*length) as usize;
    rest.len() > length && &rest[..length] == key_type.as_bytes()
}

fn check_options(options: &str) -> Result<(), LineError> {
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_ascii_lowercase();
    let mut names = unquoted(options, &[',']).map(name);
    match names.find(|name| !OPTIONS.contains(&name.as_str())) {
        Some(name) => Err(LineError::Option { name }),
        None => Ok(()),
    }
}

/// Options may have blanks in quotes.
fn words(line: &str) -> impl Iterator<Item = &str> {
    unquoted(line, &[' ', '\t']).filter(|word| !word.is_empty())
}

/// Splits where one of these stands outside of double quotes.
fn unquoted<'a>(text: &'a str, separators: &'a [char]) -> impl Iterator<Item = &'a str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        !quoted && separators.contains(&c)
    })
}

/// Decodes base64 with its padding (RFC 4648, section 4).
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let is_padded = text.len().is_multiple_of(4) && text.len() - digits.len() <= 2;
    if !is_padded || digits.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            bits = bits << 6 | sextet(digit)?;
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

fn sextet(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGXZyGGhsdzJcS8Ctrm3VTfYCZ5J7zOOLGzCcBXwKQEg";

    #[test]
    fn lines_are_taken_and_refused_as_sshd_would() {
        let ed25519 = "ssh-ed25519";
        let sk = "sk-ssh-ed25519@openssh.com";
        let sk_key = "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAA";
        for (line, expected) in [
            (format!("ssh-ed25519 {KEY} admin@example"), Ok(())),
            (format!("ssh-ed25519\t{KEY}"), Ok(())),
            (format!("from=\"10.0.0.0/8\",command=\"echo a b\" ssh-ed25519 {KEY}"), Ok(())),
            (format!(r#"command="echo \"a, b\" c",pty ssh-ed25519 {KEY}"#), Ok(())),
            (format!("pty, ssh-ed25519 {KEY}"), Err(LineError::Option { name: String::new() })),
            (format!("Restrict,pty ssh-ed25519 {KEY}"), Ok(())),
            (
                format!("form=\"a,b\" ssh-ed25519 {KEY}"),
                Err(LineError::Option { name: "form".into() }),
            ),
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), Err(LineError::PrivateKey)),
            (format!("ssh-dss {KEY}"), Err(LineError::NoKeyType)),
            ("hello".to_owned(), Err(LineError::NoKeyType)),
            ("ssh-ed25519".to_owned(), Err(LineError::NoKey(ed25519))),
            ("ssh-ed25519 $KEY".to_owned(), Err(LineError::NotBase64(ed25519))),
            (format!("ssh-ed25519 {}", &KEY[..KEY.len() - 1]), Err(LineError::NotBase64(ed25519))),
            (format!("ssh-rsa {KEY}"), Err(LineError::OtherType("ssh-rsa"))),
            ("ssh-ed25519 AAAA".to_owned(), Err(LineError::OtherType(ed25519))),
            (format!("{sk} {sk_key}"), Err(LineError::Touch(sk))),
            (format!("no-touch-required {sk} {sk_key}"), Ok(())),
            (format!("cert-authority {sk} {sk_key}"), Ok(())),
        ] {
            assert_eq!(check_line(&line), expected, "{line}");
        }
    }

    #[test]
    fn a_bad_line_is_named_by_file_and_number() {
        let text = format!("# admins\n\nssh-ed25519 {KEY} a\nnonsense\n");
        let error = parse(Path::new("admins.pub"), &text).unwrap_err();
        assert_eq!(error.to_string(), "cannot take admins.pub:4 as an authorized key");
    }

    #[test]
    fn comments_and_empty_lines_are_left_out() {
        let text = format!("# admins\r\n\r\n  ssh-ed25519 {KEY} a \r\n");
        let keys = parse(Path::new("k"), &text).unwrap();
        assert_eq!(keys, format!("ssh-ed25519 {KEY} a\n"));
        assert!(matches!(parse(Path::new("k"), "# none\n"), Err(Error::Empty(_))));
    }

    #[test]
    fn base64_is_decoded_with_its_padding() {
        for (text, bytes) in [
            ("TWFu", Some(b"Man".to_vec())),
            ("TWE=", Some(b"Ma".to_vec())),
            ("TQ==", Some(b"M".to_vec())),
            ("TQ", None),
            ("T===", None),
            ("TW u", None),
            ("", None),
        ] {
            assert_eq!(base64(text), bytes, "{text}");
        }
    }
}
