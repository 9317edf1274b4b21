//! Where a redirect leads: the rules of Go's `net/http` client, which ePoxy's server relies on.
//!
//! 301, 302 and 303 become GET and lose the body; 307 and 308 keep both; a redirect without a
//! `Location` is an answer like any other; the tenth is refused. Two rules are ours: https never
//! leads to http, and a request that was made before is a loop.

use super::shown::{shown, shown_text};
use reqwest::{Method, StatusCode, Url};

/// As Go's `defaultCheckRedirect`: "stopped after 10 redirects".
const MOST_REQUESTS: usize = 10;

/// One request of a chain of redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) method: Method,
    pub(super) url: Url,
}

/// What an answer asks for.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Step {
    /// Nothing: it is the answer.
    Answer,
    /// Another request.
    Follow(Hop),
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Somebody between us and the server could answer.
    #[error("redirect from https to plain http refused: {to}")]
    ToPlainHttp {
        /// Where it leads.
        to: String,
    },
    /// The same request again.
    #[error("redirect loop: {to} was asked before")]
    Loop {
        /// Where it leads.
        to: String,
    },
    /// More than Go's client follows.
    #[error("stopped after {MOST_REQUESTS} redirects")]
    TooMany,
    /// No URL that we can follow.
    #[error("expected a redirect to an http or https URL, got {to:?}")]
    Location {
        /// Where it leads.
        to: String,
    },
}

/// The step after an answer to the last of `hops`.
pub(super) fn next(
    hops: &[Hop],
    status: StatusCode,
    location: Option<&[u8]>,
) -> Result<Step, Refusal> {
    let (Some(last), Some(location), Some(method)) =
        (hops.last(), location, hops.last().and_then(|last| method(status, &last.method)))
    else {
        return Ok(Step::Answer);
    };
    let url = target(&last.url, location)?;
    let hop = Hop { method, url };
    if last.url.scheme() == "https" && hop.url.scheme() == "http" {
        return Err(Refusal::ToPlainHttp { to: shown(&hop.url) });
    }
    if hops.contains(&hop) {
        return Err(Refusal::Loop { to: shown(&hop.url) });
    }
    if hops.len() >= MOST_REQUESTS {
        return Err(Refusal::TooMany);
    }
    Ok(Step::Follow(hop))
}

/// The method of the request after the redirect; `None` if this status is no redirect.
fn method(status: StatusCode, before: &Method) -> Option<Method> {
    match status.as_u16() {
        301..=303 if before == Method::HEAD => Some(Method::HEAD),
        301..=303 => Some(Method::GET),
        307 | 308 => Some(before.clone()),
        _ => None,
    }
}

fn target(from: &Url, location: &[u8]) -> Result<Url, Refusal> {
    let refusal = || Refusal::Location { to: shown_text(&String::from_utf8_lossy(location)) };
    let text = std::str::from_utf8(location).map_err(|_| refusal())?;
    let url = from.join(text).map_err(|_| refusal())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: Method, url: &str) -> Hop {
        Hop { method, url: url.parse().unwrap() }
    }

    fn after(status: u16, location: &str) -> Result<Step, Refusal> {
        let hops = [hop(Method::POST, "https://a/b/c")];
        next(&hops, StatusCode::from_u16(status).unwrap(), Some(location.as_bytes()))
    }

    #[test]
    fn methods_change_as_in_gos_client() {
        for (status, method) in [
            (301, Some(Method::GET)),
            (302, Some(Method::GET)),
            (303, Some(Method::GET)),
            (307, Some(Method::POST)),
            (308, Some(Method::POST)),
            (200, None),
            (300, None),
            (304, None),
            (404, None),
        ] {
            let expected = match method {
                Some(method) => Step::Follow(hop(method, "https://a/b/d")),
                None => Step::Answer,
            };
            assert_eq!(after(status, "d"), Ok(expected), "{status}");
        }
    }

    #[test]
    fn a_redirect_without_a_location_is_an_answer() {
        let hops = [hop(Method::GET, "https://a/")];
        assert_eq!(next(&hops, StatusCode::FOUND, None), Ok(Step::Answer));
    }

    #[test]
    fn what_is_not_followed_says_why() {
        for (location, refusal) in [
            ("http://a/b", Refusal::ToPlainHttp { to: "http://a/b".to_owned() }),
            ("file:///etc/passwd", Refusal::Location { to: "file:///etc/passwd".to_owned() }),
            ("ftp://u:pw@a/b?token=x", Refusal::Location { to: "ftp://a/b".to_owned() }),
            ("https://[", Refusal::Location { to: "https://[".to_owned() }),
        ] {
            assert_eq!(after(307, location), Err(refusal));
        }
    }

    #[test]
    fn the_same_request_twice_is_a_loop() {
        let looped = Refusal::Loop { to: "https://a/b/c".to_owned() };
        assert_eq!(after(307, "https://a/b/c"), Err(looped));
        // After a POST the same URL with GET is another request.
        let get = hop(Method::GET, "https://a/b/c");
        assert_eq!(after(302, "https://a/b/c"), Ok(Step::Follow(get)));
    }

    #[test]
    fn the_tenth_redirect_is_refused() {
        let hops: Vec<_> = (0..10).map(|n| hop(Method::GET, &format!("http://a/{n}"))).collect();
        let step = |hops: &[Hop]| next(hops, StatusCode::FOUND, Some(b"/end"));
        assert_eq!(step(&hops[..9]), Ok(Step::Follow(hop(Method::GET, "http://a/end"))));
        assert_eq!(step(&hops), Err(Refusal::TooMany));
    }
}
