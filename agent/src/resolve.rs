//! Finds the boot document that counts: loads the one of the action URL and follows its chain.
//!
//! On return the document names no other one. Each load replaces all that was loaded before; kernel
//! parameters are taken over from the first document alone, and only if that is asked for.

use agent_types::cmdline::Kargs;
use agent_types::nextboot::{self, Nextboot, V1};

use crate::fetch::{self, Document, Fetch, OverTls, shown_text};
use crate::retry::Transient;

/// Nobody was seen to chain more than two documents; the original would follow them for ever.
const LONGEST_CHAIN: usize = 16;

/// Whether the first document's kernel parameters are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddKargs {
    /// Yes: this is stage1.
    Yes,
    /// No: the command line is complete.
    No,
}

/// The boot document that counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resolved {
    /// What it says.
    pub(crate) document: V1,
    /// Proof that its servers said so: this one's, and those of all that led to it.
    pub(crate) over_tls: Option<OverTls>,
}

/// Why there is no boot document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The parameter that should hold the address is not there.
    #[error("Action URL key not found: {0} is not on the kernel command line")]
    NoAction(String),
    /// A document could not be loaded.
    #[error("cannot load the boot document")]
    Fetch(#[from] fetch::Error),
    /// A document could not be understood.
    #[error("cannot use the boot document of {url}")]
    Document { url: String, source: nextboot::Error },
    /// Documents that name each other.
    #[error("chain loop: {url} was loaded before")]
    Loop { url: String },
    /// More documents than anybody needs.
    #[error("expected at most {LONGEST_CHAIN} chained documents, got one more: {url}")]
    TooLong { url: String },
}

impl Transient for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_transient())
    }
}

/// Loads the document whose address is the kernel parameter `action`, and those that it chains to.
pub(crate) async fn follow(
    fetch: &impl Fetch,
    kargs: &mut Kargs,
    action: &str,
    add_kargs: AddKargs,
) -> Result<Resolved, Error> {
    let url = kargs.get(action).ok_or_else(|| Error::NoAction(action.to_owned()))?.to_owned();
    log::info!("boot document: {}", shown_text(&url));
    let (first, over_tls) = load(fetch, Document::Action, &url).await?;
    if add_kargs == AddKargs::Yes {
        kargs.add_kargs(&first.kargs);
    }
    follow_chain(fetch, Resolved { document: first.v1, over_tls }).await
}

async fn follow_chain(fetch: &impl Fetch, first: Resolved) -> Result<Resolved, Error> {
    let Resolved { mut document, mut over_tls } = first;
    let mut loaded = Vec::new();
    while let Some(url) = document.chain.take() {
        if loaded.contains(&url) {
            return Err(Error::Loop { url: shown_text(&url) });
        }
        if loaded.len() == LONGEST_CHAIN {
            return Err(Error::TooLong { url: shown_text(&url) });
        }
        log::info!("boot document: chained to {}", shown_text(&url));
        let (next, next_over_tls) = load(fetch, Document::Chain, &url).await?;
        (document, over_tls) = (next.v1, over_tls.and(next_over_tls));
        loaded.push(url);
    }
    Ok(Resolved { document, over_tls })
}

async fn load(
    fetch: &impl Fetch,
    kind: Document,
    url: &str,
) -> Result<(Nextboot, Option<OverTls>), Error> {
    let text = fetch.document(kind, url).await?;
    match Nextboot::parse(&text.bytes) {
        Ok(document) => Ok((document, text.over_tls)),
        Err(source) => Err(Error::Document { url: shown_text(url), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use crate::fetch::{Body, Resume, Text};
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// A server of documents, which remembers who asked for what.
    struct ScriptedFetch {
        documents: BTreeMap<&'static str, String>,
        asked: RefCell<Vec<(Document, String)>>,
    }

    impl ScriptedFetch {
        fn new(documents: &[(&'static str, &str)]) -> Self {
            let documents = documents.iter().map(|(url, text)| (*url, (*text).to_owned()));
            Self { documents: documents.collect(), asked: RefCell::default() }
        }
    }

    impl Fetch for ScriptedFetch {
        async fn document(&self, kind: Document, url: &str) -> Result<Text, fetch::Error> {
            self.asked.borrow_mut().push((kind, url.to_owned()));
            let bytes = self.documents.get(url).cloned().unwrap_or_default().into_bytes();
            Ok(Text { bytes, over_tls: None })
        }

        async fn post_form(&self, _: &str, _: &[(&str, &str)]) -> Result<(), fetch::Error> {
            unreachable!("resolving reports nothing")
        }

        async fn post_file(&self, _: &str, _: &[u8]) -> Result<(), fetch::Error> {
            unreachable!("resolving sends no files")
        }

        async fn open(&self, _: &str) -> Result<Body, fetch::Error> {
            unreachable!("resolving fetches no files")
        }

        async fn reopen(&self, _: &str, _: &Resume) -> Result<Option<Body>, fetch::Error> {
            unreachable!("resolving fetches no files")
        }
    }

    async fn outcome(documents: &[(&'static str, &str)]) -> Result<V1, String> {
        let mut kargs = Kargs::parse("epoxy.stage2=a");
        follow(&ScriptedFetch::new(documents), &mut kargs, "epoxy.stage2", AddKargs::No)
            .await
            .map(|resolved| resolved.document)
            .map_err(|error| Chain(&error).to_string())
    }

    #[tokio::test]
    async fn the_action_is_posted_and_chains_are_got() {
        let server = ScriptedFetch::new(&[
            ("a", r#"{"v1": {"chain": "b"}}"#),
            ("b", r#"{"v1": {"chain": "c"}}"#),
            ("c", r#"{"v1": {}}"#),
        ]);
        let mut kargs = Kargs::parse("epoxy.stage2=a");
        let document = follow(&server, &mut kargs, "epoxy.stage2", AddKargs::No).await.unwrap();
        assert_eq!(document, Resolved { document: V1::default(), over_tls: None });
        assert_eq!(
            server.asked.into_inner(),
            [
                (Document::Action, "a".to_owned()),
                (Document::Chain, "b".to_owned()),
                (Document::Chain, "c".to_owned())
            ]
        );
    }

    #[tokio::test]
    async fn kernel_parameters_come_from_the_first_document_if_asked_for() {
        let documents = [
            ("a", r#"{"kargs": {"from": "first"}, "v1": {"chain": "b"}}"#),
            ("b", r#"{"kargs": {"from": "second", "more": "x"}, "v1": {}}"#),
        ];
        for (add_kargs, from) in [(AddKargs::Yes, Some("first")), (AddKargs::No, None)] {
            let mut kargs = Kargs::parse("epoxy.stage1=a");
            let server = ScriptedFetch::new(&documents);
            follow(&server, &mut kargs, "epoxy.stage1", add_kargs).await.unwrap();
            assert_eq!((kargs.get("from"), kargs.get("more")), (from, None));
        }
    }

    #[tokio::test]
    async fn a_document_that_leads_nowhere_is_one_clear_error() {
        let looped = [("a", r#"{"v1": {"chain": "b"}}"#), ("b", r#"{"v1": {"chain": "b"}}"#)];
        let missing = [("a", "{}")];
        for (documents, expected) in [
            (&looped[..], "chain loop: b was loaded before"),
            (
                &missing[..],
                "cannot use the boot document of a: expected an object v1 in the boot document, \
                 got none",
            ),
        ] {
            assert_eq!(outcome(documents).await, Err(expected.to_owned()));
        }
    }

    #[tokio::test]
    async fn sixteen_chained_documents_are_followed_and_no_more() {
        const URLS: [&str; 18] = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q",
            "r",
        ];
        let texts: Vec<String> =
            URLS.iter().skip(1).map(|next| format!(r#"{{"v1": {{"chain": "{next}"}}}}"#)).collect();
        let endless: Vec<_> = URLS.iter().copied().zip(texts.iter().map(String::as_str)).collect();
        assert_eq!(
            outcome(&endless).await,
            Err("expected at most 16 chained documents, got one more: r".to_owned())
        );
        let mut long_enough = endless;
        long_enough[16].1 = r#"{"v1": {}}"#;
        assert_eq!(outcome(&long_enough).await, Ok(V1::default()));
    }

    #[tokio::test]
    async fn a_parameter_that_is_not_there_is_named() {
        let server = ScriptedFetch::new(&[]);
        let error = follow(&server, &mut Kargs::parse("quiet"), "epoxy.stage2", AddKargs::No).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "Action URL key not found: epoxy.stage2 is not on the kernel command line"
        );
    }
}
