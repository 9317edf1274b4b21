//! What this image demands of what it fetches: `/etc/stage2/policy.json`, packed by the builder.

use std::path::Path;

use serde::Deserialize;

use crate::packed;

/// Where the image builder puts the policy.
pub(crate) const POLICY: &str = "/etc/stage2/policy.json";

/// What this image demands. A key that we do not know is an error: it may have been meant to forbid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    /// Boot documents may come over plain HTTP: for labs and benches.
    pub(crate) plain_http_documents: bool,
    /// Whoever is at the console gets a shell by pressing Enter, without a password.
    pub(crate) console_shell: bool,
}

/// Whether PID 1 keeps a shell on the console. It parses no JSON, and need not: the image builder
/// writes the file. Whoever starts the shell reads the policy properly.
pub(crate) fn offers_console_shell(policy: &[u8]) -> bool {
    const YES: &[u8] = br#""console_shell":true"#;
    policy.windows(YES.len()).any(|part| part == YES)
}

impl Policy {
    /// Reads the policy; without a file the strictest one holds.
    pub(crate) fn read(path: &Path) -> Result<Self, packed::Error> {
        match packed::read(path) {
            Err(error) if error.is_absence() => Ok(Self::default()),
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;

    fn read(text: &str) -> Result<Policy, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let path = file.path().display().to_string();
        Policy::read(file.path()).map_err(|e| Chain(&e).to_string().replace(&path, "POLICY"))
    }

    #[test]
    fn without_a_file_nothing_is_allowed() {
        let policy = Policy::read(Path::new("/nonexistent/policy.json")).unwrap();
        assert_eq!(policy, Policy { plain_http_documents: false, console_shell: false });
    }

    #[test]
    fn a_policy_says_what_is_allowed() {
        for (text, plain_http_documents, console_shell) in [
            ("{}", false, false),
            (r#"{"plain_http_documents": true}"#, true, false),
            (r#"{"plain_http_documents":false,"console_shell":true}"#, false, true),
            (r#"{"console_shell":true}"#, false, true),
            (r#"{"console_shell": false}"#, false, false),
        ] {
            assert_eq!(read(text), Ok(Policy { plain_http_documents, console_shell }), "{text}");
            assert_eq!(offers_console_shell(text.as_bytes()), console_shell, "{text}");
        }
    }

    #[test]
    fn a_key_that_is_not_known_is_an_error() {
        let error = read(r#"{"plain_htp_documents": true}"#).unwrap_err();
        let expected = "cannot understand POLICY: unknown field `plain_htp_documents`, \
                        expected `plain_http_documents` or `console_shell` at line 1 column 22";
        assert_eq!(error, expected);
    }
}
