//! How a URL is shown in logs and errors: the one place that leaves out what is secret.

use agent_types::redact::redact;
use reqwest::Url;

/// The URL without user name, password, query and fragment, which may carry credentials, and
/// without the session that an ePoxy server put into its path.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs that cannot have credentials.
    if url.set_password(None).is_err() || url.set_username("").is_err() {
        log::debug!("a URL without a host has no credentials to leave out");
    }
    redact(url.as_str())
}

/// The same for a text that may be no URL.
pub(crate) fn shown_text(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => shown(&url),
        Err(_) => redact(text.split(['?', '#']).next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_left_out() {
        for (text, expected) in [
            ("https://user:pw@host:8443/a/b?token=x#y", "https://host:8443/a/b"),
            ("https://host", "https://host/"),
            ("https://host/v1/boot/me/5e55/stage2", "https://host/v1/boot/me/…/stage2"),
            ("file:///tmp/x?y", "file:///tmp/x"),
            ("mailto:a@b", "mailto:a@b"),
            ("not a url?token=x", "not a url"),
        ] {
            assert_eq!(shown_text(text), expected);
        }
    }
}
