//! Picks the interfaces to try.
//!
//! Names move between boots and between kernels, so a name that does not exist is no reason to
//! give up: the machine's cards are tried instead, and the operator is told.

use crate::links::{Link, LinkTable, Links};
use crate::netlink::IfIndex;

use super::patience::{self, OnWait};
use super::{Error, Limits};

/// The interfaces to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// The one that was asked for.
    Only(IfIndex),
    /// Every card, also those whose drivers come late.
    EveryCard,
}

impl Selection {
    /// The selected interfaces of `table`.
    pub(super) fn links(self, table: &LinkTable) -> impl Iterator<Item = &Link> {
        table.values().filter(move |link| match self {
            Self::Only(index) => link.index == index,
            Self::EveryCard => link.is_card(),
        })
    }

    /// Their names, for people.
    pub(super) fn names(self, table: &LinkTable) -> String {
        let names: Vec<_> = self.links(table).map(|link| link.name.as_str()).collect();
        names.join(", ")
    }
}

/// Waits until there is something to try.
pub(super) async fn pick(
    links: &mut Links,
    name: Option<&str>,
    limits: &Limits,
    on_wait: OnWait<'_>,
) -> Result<Selection, Error> {
    let something = links.until(|table| any(table, name));
    let Some(found) =
        patience::wait("a network card", limits.card, on_wait, something).await.transpose()?
    else {
        return Err(Error::NoCard { waited: limits.card });
    };
    match (found, name) {
        (Selection::EveryCard, Some(name)) => named(links, name, limits, on_wait).await,
        (found, _) => Ok(found),
    }
}

/// Waits for `name` a little longer, then does without.
async fn named(
    links: &mut Links,
    name: &str,
    limits: &Limits,
    on_wait: OnWait<'_>,
) -> Result<Selection, Error> {
    let what = format!("interface {name}");
    let appears = links.until(|table| by_name(table, name));
    if let Some(found) = patience::wait(&what, limits.named, on_wait, appears).await {
        return Ok(found?);
    }
    let (instead, words) = instead(&links.now(), name);
    log::warn!("{words}");
    Ok(instead)
}

fn any(table: &LinkTable, name: Option<&str>) -> Option<Selection> {
    let named = name.and_then(|name| by_name(table, name));
    named.or_else(|| table.values().any(Link::is_card).then_some(Selection::EveryCard))
}

fn by_name(table: &LinkTable, name: &str) -> Option<Selection> {
    table.values().find(|link| link.name == name).map(|link| Selection::Only(link.index))
}

/// What to try when there is no interface `name`, and how to say so.
fn instead(table: &LinkTable, name: &str) -> (Selection, String) {
    let cards: Vec<_> = table.values().filter(|link| link.is_card()).collect();
    match cards[..] {
        [card] => (
            Selection::Only(card.index),
            format!("there is no interface {name}: taking {} instead", card.name),
        ),
        _ => {
            let names = Selection::EveryCard.names(table);
            (
                Selection::EveryCard,
                format!("there is no interface {name}: taking the first of {names} that works"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::{LinkKind, LinkState};

    fn table(links: &[(u32, &str, LinkKind)]) -> LinkTable {
        let link = |(index, name, kind): &(u32, &str, LinkKind)| Link {
            index: IfIndex(*index),
            name: (*name).to_owned(),
            kind: *kind,
            state: LinkState::Down,
            mac: None,
            mtu: 1500,
        };
        links.iter().map(link).map(|link| (link.index, link)).collect()
    }

    const LO: (u32, &str, LinkKind) = (1, "lo", LinkKind::Virtual);
    const BOND: (u32, &str, LinkKind) = (9, "bond0", LinkKind::Virtual);
    const FIRST: (u32, &str, LinkKind) = (2, "enp0s2", LinkKind::Card);
    const SECOND: (u32, &str, LinkKind) = (3, "enp0s3", LinkKind::Card);

    #[test]
    fn the_named_interface_is_taken_else_any_card() {
        for (links, name, expected) in [
            (&[LO][..], None, None),
            (&[LO, BOND], None, None),
            (&[LO], Some("eth0"), None),
            (&[LO, FIRST], None, Some(Selection::EveryCard)),
            (&[LO, FIRST], Some("eth0"), Some(Selection::EveryCard)),
            (&[LO, FIRST, SECOND], Some("enp0s3"), Some(Selection::Only(IfIndex(3)))),
            (&[LO, FIRST, BOND], Some("bond0"), Some(Selection::Only(IfIndex(9)))),
        ] {
            assert_eq!(any(&table(links), name), expected, "{name:?} of {links:?}");
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_replaced_by_what_does() {
        for (links, expected) in [
            (
                &[LO, FIRST, BOND][..],
                (
                    Selection::Only(IfIndex(2)),
                    "there is no interface eth0: taking enp0s2 instead".to_owned(),
                ),
            ),
            (
                &[LO, FIRST, SECOND],
                (
                    Selection::EveryCard,
                    "there is no interface eth0: taking the first of enp0s2, enp0s3 that works"
                        .to_owned(),
                ),
            ),
        ] {
            assert_eq!(instead(&table(links), "eth0"), expected);
        }
    }
}
