//! `/a/{b,c}/d` for `/a/b/d` and `/a/c/d`: what is alike stands in the file once.

use std::collections::{BTreeMap, BTreeSet};

/// Writes pointers as few patterns, each part a name or a list of names in braces. Sorted.
pub(crate) fn folded<'a>(pointers: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let parts = |pointer: &String| pointer.split('/').map(|part| BTreeSet::from([part.to_owned()])).collect();
    let mut patterns: BTreeSet<Vec<BTreeSet<String>>> = pointers.into_iter().map(parts).collect();
    let longest = patterns.iter().map(Vec::len).max().unwrap_or_default();
    for position in (0..longest).rev() {
        let mut alike: BTreeMap<Vec<BTreeSet<String>>, BTreeSet<String>> = BTreeMap::new();
        for mut pattern in patterns {
            let names = pattern.get_mut(position).map(std::mem::take).unwrap_or_default();
            alike.entry(pattern).or_default().extend(names);
        }
        let whole = alike.into_iter().map(|(mut pattern, names)| {
            if let Some(part) = pattern.get_mut(position) {
                *part = names;
            }
            pattern
        });
        patterns = whole.collect();
    }
    let mut whole: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for text in patterns.iter().map(|pattern| written(pattern)) {
        // What differs behind the last list is joined as well; braces do not nest.
        let (head, tail) = match text.rfind("/*/").map(|at| text.split_at(at + 3)) {
            Some((head, tail)) if !tail.contains('{') => (head.to_owned(), tail.to_owned()),
            _ => (text, String::new()),
        };
        whole.entry(head).or_default().insert(tail);
    }
    let mut folded: Vec<String> =
        whole.into_iter().map(|(head, tails)| format!("{head}{}", any_of(&tails))).collect();
    folded.sort();
    folded
}

fn written(pattern: &[BTreeSet<String>]) -> String {
    pattern.iter().map(any_of).collect::<Vec<_>>().join("/")
}

fn any_of(names: &BTreeSet<String>) -> String {
    let joined = names.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    if names.len() > 1 { format!("{{{joined}}}") } else { joined }
}

#[cfg(test)]
mod tests {
    use super::folded;

    fn folded_texts(pointers: &[&str]) -> Vec<String> {
        let pointers: Vec<String> = pointers.iter().map(|pointer| (*pointer).to_owned()).collect();
        folded(&pointers)
    }

    #[test]
    fn what_is_alike_stands_there_once() {
        assert_eq!(folded_texts(&["/a"]), ["/a"]);
        assert_eq!(folded_texts(&["/a/x", "/b/x", "/a/y", "/b/y"]), ["/{a,b}/{x,y}"]);
        assert_eq!(folded_texts(&["/a/x", "/b/y"]), ["/a/x", "/b/y"], "no pointer that was not there");
        assert_eq!(folded_texts(&["/a", "/a/b"]), ["/a", "/a/b"]);
        assert_eq!(folded_texts(&["/a/*/b/c", "/a/*/d"]), ["/a/*/{b/c,d}"]);
        assert_eq!(folded_texts(&["/a/*/b/c", "/a/*/b/d", "/a/*/e"]), ["/a/*/b/{c,d}", "/a/*/e"]);
        assert_eq!(folded_texts(&["?b", "?a", "/c"]), ["/c", "{?a,?b}"]);
    }
}
