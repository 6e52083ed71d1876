//! The nearest known word to a misspelt one.

/// Beyond this, no word that anybody meant is near, and comparing would cost time.
const LONGEST: usize = 80;

/// The known word that is nearest to `text` by edit distance, where one is near enough to be what was meant.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.filter(|word| is_near(text, word));
    near.map(|word| (distance(text, word), word)).min().map(|(_, word)| word)
}

/// Whether `text` can be `word` misspelt. A third of the letters wrong is a typing error; more is another word.
pub(super) fn is_near(text: &str, word: &str) -> bool {
    text.len() <= LONGEST && distance(text, word) <= (text.len() / 3).max(1)
}

/// Levenshtein's distance in bytes, one row at a time.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = i;
        let mut previous = i + 1;
        let (Some(first), rest) = (row.first_mut(), 1..) else { continue };
        *first = previous;
        for (cell, b) in rest.zip(right.bytes()) {
            let Some(above) = row.get_mut(cell) else { continue };
            let here = (diagonal + usize::from(a != b)).min(*above + 1).min(previous + 1);
            diagonal = std::mem::replace(above, here);
            previous = here;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("kitten", "sitting", 3)]
    #[test_case("", "abc", 3; "empty left")]
    #[test_case("abc", "", 3; "empty right")]
    #[test_case("droplet", "droplet", 0; "equal")]
    #[test_case("dropplet", "droplet", 1; "one too many")]
    fn distances_are_levenshteins(left: &str, right: &str, expected: usize) {
        assert_eq!(distance(left, right), expected);
        assert_eq!(distance(right, left), expected);
    }

    #[test_case("dropplet:create", Some("droplet:create"); "doubled letter")]
    #[test_case("droplets:read", Some("droplet:read"); "plural")]
    #[test_case("banana", None; "another word")]
    #[test_case("", None; "nothing")]
    fn the_nearest_word_is_suggested(text: &str, expected: Option<&str>) {
        let known = ["droplet:create", "droplet:read", "domain:read"];
        assert_eq!(nearest(text, known.into_iter()), expected);
    }
}
