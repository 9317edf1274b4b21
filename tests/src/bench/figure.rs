//! What was measured, and how it is shown: medians of ours and of a peer, and their ratio.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// Something measured on both sides; lower is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: &'static str,
    /// The median of ours.
    pub ours: f64,
    /// The median of the peer's, or a limit; there may be none.
    pub peer: Option<f64>,
    /// Who the peer is.
    pub peer_name: Option<String>,
    /// Ours in terms of the peer's.
    pub ratio: Option<f64>,
    /// What the medians are made of.
    pub runs: Runs,
}

/// The single figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Runs {
    /// Ours.
    pub ours: Vec<f64>,
    /// The peer's.
    pub peer: Vec<f64>,
}

impl Figure {
    /// Ours against a peer's; `None` when nothing was measured.
    #[must_use]
    pub fn against(
        name: &str,
        unit: &'static str,
        ours: &[f64],
        peer_name: &str,
        peer: &[f64],
    ) -> Option<Self> {
        let (our_median, peer_median) = (median(ours)?, median(peer)?);
        Some(Self {
            name: name.to_owned(),
            unit,
            ours: our_median,
            peer: Some(peer_median),
            peer_name: Some(peer_name.to_owned()),
            ratio: Some(our_median / peer_median),
            runs: Runs { ours: ours.to_vec(), peer: peer.to_vec() },
        })
    }

    /// Ours alone.
    #[must_use]
    pub fn alone(name: &str, unit: &'static str, ours: &[f64]) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            unit,
            ours: median(ours)?,
            peer: None,
            peer_name: None,
            ratio: None,
            runs: Runs { ours: ours.to_vec(), peer: Vec::new() },
        })
    }

    /// Ours against what was promised.
    #[must_use]
    pub fn within(name: &str, unit: &'static str, ours: &[f64], limit: f64) -> Option<Self> {
        Self::against(name, unit, ours, "limit", &[limit])
    }
}

/// The middle one, or the mean of the two in the middle.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// Writes all figures; whoever looks sees the old file or the new one.
pub fn write(path: &Path, figures: &[Figure]) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(figures)? + "\n";
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    mkinitramfs::output::replace(path, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Figures as a person reads them.
pub struct Table<'a>(pub &'a [Figure]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:44} {:>10} {:>10}       {:20} ratio", "", "ours", "peer", "")?;
        for Figure { name, unit, ours, peer, peer_name, ratio, .. } in self.0 {
            write!(f, "{name:44} {:>10}", shown(*ours))?;
            if let (Some(peer), Some(peer_name), Some(ratio)) = (peer, peer_name, ratio) {
                writeln!(f, " {:>10} {unit:5} {peer_name:20} {ratio:5.2}", shown(*peer))?;
            } else {
                writeln!(f, " {:>10} {unit}", "")?;
            }
        }
        Ok(())
    }
}

/// Counts are whole, times are not.
fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 2.0, 100.0], Some(3.0)),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_figure_is_written_with_all_its_keys_even_without_a_peer() {
        let alone = Figure::alone("a", "s", &[1.5]).unwrap();
        assert_eq!(
            serde_json::to_string(&alone).unwrap(),
            r#"{"name":"a","unit":"s","ours":1.5,"peer":null,"peer_name":null,"ratio":null,"runs":{"ours":[1.5],"peer":[]}}"#
        );
        let against = Figure::against("b", "s", &[1.0, 3.0], "floor", &[4.0]).unwrap();
        assert_eq!((against.ours, against.peer, against.ratio), (2.0, Some(4.0), Some(0.5)));
        assert_eq!(Figure::against("c", "s", &[1.0], "floor", &[]), None);
    }

    #[test]
    fn the_table_shows_counts_whole_and_times_not() {
        let figures = [
            Figure::against("time", "s", &[0.25], "floor", &[0.5]).unwrap(),
            Figure::alone("size", "bytes", &[7.0]).unwrap(),
        ];
        let table = Table(&figures).to_string();
        let lines: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["ours", "peer", "ratio"],
                vec!["time", "0.250", "0.500", "s", "floor", "0.50"],
                vec!["size", "7", "bytes"],
            ]
        );
    }
}
