//! The kernel command line, as its two readers split it.
//!
//! [`Cmdline`] reads as the kernel does (`lib/cmdline.c`, `next_arg`): white space separates, double
//! quotes protect, `--` ends. The network is set up from it. [`Kargs`] reads as the original ePoxy
//! client does: that is what boot documents see through the template function `kargs`, so it keeps
//! that reader's oddities. Neither fails: every text is some command line.
//! See <https://docs.kernel.org/admin-guide/kernel-parameters.html>.

use std::collections::BTreeMap;
use std::fmt;

use crate::redact::redact_value;

/// Our own parameters begin so; the kernel takes many of its own more than once (`console=`).
const OWN_PREFIX: &str = "epoxy.";

/// The command line as the kernel splits it: in order, with duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline<'a> {
    parameters: Vec<Parameter<'a>>,
}

/// One parameter of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// What stands before the first `=`.
    pub key: &'a str,
    /// What stands after it, without the quotes around it; none without `=`.
    pub value: Option<&'a str>,
}

/// A parameter that occurs more than once, with different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction<'a> {
    /// The parameter's name.
    pub key: &'a str,
    /// All its values, in order; the last one is used.
    pub values: Vec<&'a str>,
}

impl<'a> Cmdline<'a> {
    /// Splits `text`, usually the contents of `/proc/cmdline`.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let mut parameters = Vec::new();
        let mut rest = text.trim_start_matches(is_space);
        while !rest.is_empty() {
            let (word, behind) = split_word(rest);
            // What follows belongs to init, not to the kernel.
            if word == "--" {
                break;
            }
            parameters.push(Parameter::parse(word));
            rest = behind.trim_start_matches(is_space);
        }
        Self { parameters }
    }

    /// All parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = Parameter<'a>> + '_ {
        self.parameters.iter().copied()
    }

    /// The last value of `key`; empty if it stands there without `=`.
    #[must_use]
    pub fn value_of(&self, key: &str) -> Option<&'a str> {
        self.values_of(key).last()
    }

    /// Every value of `key`, in order.
    pub fn values_of(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.parameters.iter().filter(move |p| p.key == key).map(|p| p.value.unwrap_or_default())
    }

    /// The `epoxy.` parameters that occur more than once with different values: of the two original
    /// readers one takes the first and the other the last, so they are worth a warning.
    #[must_use]
    pub fn contradictions(&self) -> Vec<Contradiction<'a>> {
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for parameter in self.iter().filter(|p| p.key.starts_with(OWN_PREFIX)) {
            values.entry(parameter.key).or_default().push(parameter.value.unwrap_or_default());
        }
        values
            .into_iter()
            .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
            .map(|(key, values)| Contradiction { key, values })
            .collect()
    }
}

impl<'a> Parameter<'a> {
    fn parse(word: &'a str) -> Self {
        let quoted = word.starts_with('"');
        let word = word.strip_prefix('"').unwrap_or(word);
        let Some((key, value)) = split_key(word) else {
            return Self { key: printable(unquoted(word, quoted)), value: None };
        };
        let inner = value.strip_prefix('"');
        let value = unquoted(inner.unwrap_or(value), quoted || inner.is_some());
        Self { key, value: Some(printable(value)) }
    }
}

impl fmt::Display for Contradiction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.values.iter().map(|value| shown(self.key, value)).collect();
        let last = shown.last().map_or("", String::as_str);
        write!(f, "{} is given with different values: {}", self.key, shown.join(" and "))?;
        write!(f, "; the last is used: {last}; give it once")
    }
}

/// A value in one line, without its secrets.
fn shown(key: &str, value: &str) -> String {
    redact_value(key, value).escape_debug().to_string()
}

/// The word up to the first white space outside double quotes, and what follows it.
fn split_word(text: &str) -> (&str, &str) {
    let mut in_quotes = false;
    let end = text.find(|c| {
        in_quotes ^= c == '"';
        !in_quotes && is_space(c)
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// Splits at the first `=`; the kernel does not take one in the first place for it.
fn split_key(word: &str) -> Option<(&str, &str)> {
    let at = word.match_indices('=').map(|(at, _)| at).find(|at| *at > 0)?;
    Some((&word[..at], &word[at + 1..]))
}

fn unquoted(text: &str, quoted: bool) -> &str {
    if quoted { text.strip_suffix('"').unwrap_or(text) } else { text }
}

/// Boot loaders leave control characters at the end of what they were given.
fn printable(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_control() || c == '\u{feff}')
}

fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// The command line `text` with other values for some parameters. They come last, before what belongs
/// to init; values are taken as they stand, so they have no white space and no quotes.
#[must_use]
pub fn replace(text: &str, replacements: &BTreeMap<String, String>) -> String {
    if replacements.is_empty() {
        return text.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let (word, behind) = split_word(rest);
        if word == "--" {
            break;
        }
        if !replacements.contains_key(Parameter::parse(word).key) {
            words.push(word.to_owned());
        }
        rest = behind.trim_start_matches(is_space);
    }
    words.extend(replacements.iter().map(|(key, value)| format!("{key}={value}")));
    words.extend((!rest.is_empty()).then(|| rest.to_owned()));
    words.join(" ")
}

/// The command line as the original ePoxy client reads it, with what documents added to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kargs(BTreeMap<String, Karg>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Karg {
    value: String,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Cmdline,
    Document,
}

impl Kargs {
    /// Trims spaces and newlines, splits at every single space and each piece at its first `=`. The
    /// last duplicate wins, an empty piece is an empty key, quotes and `--` mean nothing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pieces = text.trim_matches([' ', '\n']).split(' ');
        Self(pieces.map(|piece| piece.split_once('=').unwrap_or((piece, ""))).map(given).collect())
    }

    /// As [`Kargs::parse`], but stage2's own parameters have the values that the kernel's rules give
    /// them: a tab before one or quotes around its value do not keep a machine from booting.
    #[must_use]
    pub fn of_machine(text: &str) -> Self {
        let mut kargs = Self::parse(text);
        let cmdline = Cmdline::parse(text);
        let own = cmdline.iter().filter(|parameter| parameter.key.starts_with(OWN_PREFIX));
        kargs.0.extend(own.map(|own| given((own.key, own.value.unwrap_or_default()))));
        kargs
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|karg| karg.value.as_str())
    }

    /// All keys with their values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, karg)| (key.as_str(), karg.value.as_str()))
    }

    /// Takes over the keys of a boot document (`-add-kargs`). A key of the command line is never
    /// replaced. A key that an earlier document brought is: it may hold the session of an attempt
    /// that the server has forgotten.
    pub fn add_kargs(&mut self, document: &BTreeMap<String, String>) {
        for (key, value) in document {
            if self.0.get(key).is_none_or(|karg| karg.origin == Origin::Document) {
                let karg = Karg { value: value.clone(), origin: Origin::Document };
                self.0.insert(key.clone(), karg);
            }
        }
    }
}

fn given((key, value): (&str, &str)) -> (String, Karg) {
    (key.to_owned(), Karg { value: value.to_owned(), origin: Origin::Cmdline })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(&str, Option<&str>)> {
        Cmdline::parse(text).iter().map(|p| (p.key, p.value)).collect()
    }

    #[test]
    fn the_kernel_s_reader_splits_as_next_arg_does() {
        type Row<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)]);
        let cases: &[Row<'_>] = &[
            ("", &[]),
            (" \t\n", &[]),
            ("quiet", &[("quiet", None)]),
            ("a=b\tc=d\n", &[("a", Some("b")), ("c", Some("d"))]),
            ("a=b  c", &[("a", Some("b")), ("c", None)]),
            ("a=b=c", &[("a", Some("b=c"))]),
            ("a=", &[("a", Some(""))]),
            ("=a", &[("=a", None)]),
            ("=a=b", &[("=a", Some("b"))]),
            ("a=\"x y\" b", &[("a", Some("x y")), ("b", None)]),
            ("\"a=x y\" b", &[("a", Some("x y")), ("b", None)]),
            ("\"a b\"", &[("a b", None)]),
            ("a=x\"y z\"", &[("a", Some("x\"y z\""))]),
            ("a=\"unclosed b=c", &[("a", Some("unclosed b=c"))]),
            ("a=b -- c=d", &[("a", Some("b"))]),
            ("a --b=c", &[("a", None), ("--b", Some("c"))]),
            ("a=1 a=2", &[("a", Some("1")), ("a", Some("2"))]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn odd_bytes_around_a_value_do_not_become_part_of_it() {
        for text in
            ["a=b\n", "a=b\r\n", "a=b\0", "a=b\u{7f}", "\u{b}a=b\u{c}", "a=\u{1}b", "a=b\u{feff}"]
        {
            assert_eq!(Cmdline::parse(text).value_of("a"), Some("b"), "{text:?}");
        }
    }

    #[test]
    fn the_last_value_is_used_and_all_are_listed() {
        let cmdline = Cmdline::parse("a=1 b a=2 a=3");
        assert_eq!(cmdline.value_of("a"), Some("3"));
        assert_eq!(cmdline.values_of("a").collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(cmdline.value_of("b"), Some(""));
        assert_eq!(cmdline.value_of("c"), None);
    }

    #[test]
    fn a_replaced_parameter_has_one_value_and_the_others_stay() {
        for (text, expected) in [
            ("", "a=1 b="),
            ("x a=2 \"a=3 4\" y\n", "x y a=1 b="),
            ("a c=\"d  e\" -- a=5 6\n", "c=\"d  e\" a=1 b= -- a=5 6\n"),
        ] {
            let replacements = [("a", "1"), ("b", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
            assert_eq!(replace(text, &replacements.into()), expected, "{text:?}");
        }
        assert_eq!(replace("a  b\n", &BTreeMap::new()), "a  b\n");
    }

    #[test]
    fn only_our_own_parameters_contradict_themselves() {
        let text =
            "console=tty0 console=ttyS0 epoxy.ip=a epoxy.ip=b epoxy.ip=a epoxy.x=1 epoxy.x=1";
        let contradictions = Cmdline::parse(text).contradictions();
        assert_eq!(
            contradictions,
            [Contradiction { key: "epoxy.ip", values: vec!["a", "b", "a"] }]
        );
        assert_eq!(
            contradictions[0].to_string(),
            "epoxy.ip is given with different values: a and b and a; the last is used: a; give it once"
        );
    }

    #[test]
    fn a_contradiction_does_not_tell_a_session() {
        let text = "epoxy.stage2=https://s/v1/boot/h/AAA/stage2 epoxy.stage2=https://s/v1/boot/h/BBB/stage2";
        let line = Cmdline::parse(text).contradictions()[0].to_string();
        assert!(!line.contains("AAA") && !line.contains("BBB"), "{line}");
    }

    #[test]
    fn our_own_parameters_are_found_by_either_reader() {
        for (text, expected) in [
            ("a epoxy.x=u", "u"),
            ("a\tepoxy.x=u\n", "u"),
            ("epoxy.x=\"u\"", "u"),
            ("\"epoxy.x=u v\"", "u v"),
            ("a -- epoxy.x=u", "u"),
            ("epoxy.x=1 epoxy.x=2", "2"),
        ] {
            assert_eq!(Kargs::of_machine(text).get("epoxy.x"), Some(expected), "{text:?}");
        }
        let foreign = "a=\"x y\" b=\tc";
        assert_eq!(Kargs::of_machine(foreign), Kargs::parse(foreign));
    }

    #[test]
    fn the_original_reader_splits_at_single_spaces_only() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("", &[("", "")]),
            ("key", &[("key", "")]),
            ("key=val  \n", &[("key", "val")]),
            ("a=b=c", &[("a", "b=c")]),
            ("a  b", &[("", ""), ("a", ""), ("b", "")]),
            ("a=1 a=2", &[("a", "2")]),
            ("a=b\tc=d", &[("a", "b\tc=d")]),
            ("a=\"x y\"", &[("a", "\"x"), ("y\"", "")]),
            ("a -- b", &[("--", ""), ("a", ""), ("b", "")]),
            ("=a", &[("", "a")]),
        ];
        for (text, expected) in cases {
            assert_eq!(Kargs::parse(text).iter().collect::<Vec<_>>(), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_document_s_keys_are_refreshed_and_the_command_line_s_are_not() {
        let document = |entries: &[(&str, &str)]| {
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let mut kargs = Kargs::parse("epoxy.stage1=given");
        kargs.add_kargs(&document(&[("epoxy.stage1", "other"), ("epoxy.report", "first")]));
        kargs.add_kargs(&document(&[("epoxy.stage1", "other"), ("epoxy.report", "second")]));
        kargs.add_kargs(&document(&[("epoxy.stage2", "new")]));
        assert_eq!(
            kargs.iter().collect::<Vec<_>>(),
            [("epoxy.report", "second"), ("epoxy.stage1", "given"), ("epoxy.stage2", "new")]
        );
    }
}
