//! In which order things take their turns.

/// Each of `things` once per round; every round begins with another one, so that nobody always runs
/// on the machine that somebody else has warmed up.
pub fn rotation<T: Copy>(things: &[T], rounds: usize) -> impl Iterator<Item = T> {
    (0..rounds).flat_map(move |round| {
        (0..things.len()).filter_map(move |turn| things.get((round + turn) % things.len()).copied())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_begins_with_another_one() {
        let turns: Vec<char> = rotation(&['a', 'b', 'c'], 3).collect();
        assert_eq!(String::from_iter(turns), "abcbcacab");
        assert_eq!(rotation(&[0; 0], 3).count(), 0);
    }
}
