//! Names as careless readers compare them. Pure.
//!
//! Go's `encoding/json` ignores case and knows two letters outside ASCII that fold into it, protobuf's JSON takes
//! `lowerCamelCase` for `snake_case`, others take `-` for `_` or drop blanks. Two names that fold to one text are
//! one name to some reader.

/// A name without case, `_`, `-`, blanks and what cannot be seen.
pub fn folded(name: &str) -> String {
    characters(name).collect()
}

/// Whether a name folds to this text.
pub(super) fn folds_to(name: &str, folded: &str) -> bool {
    characters(name).eq(folded.chars())
}

/// Whether a name folds to what one of lower-case letters, digits and `_` folds to.
pub(super) fn is_like_plain(name: &str, plain: &str) -> bool {
    let bare = plain.trim_start_matches('_');
    // A letter at the beginning stays there, and mostly tells two names apart.
    let tells =
        |(first, other): (u8, u8)| first.is_ascii_alphanumeric() && first.to_ascii_lowercase() != other;
    if name.bytes().zip(bare.bytes()).next().is_some_and(tells) {
        return false;
    }
    characters(name).eq(bare.chars().filter(|character| *character != '_'))
}

fn characters(name: &str) -> impl Iterator<Item = char> {
    let kept = name.chars().filter(|c| !matches!(c, '_' | '-') && !c.is_whitespace() && !is_invisible(*c));
    // Upper case first: `ſ` has no lower case, yet is a lower-case `S`.
    kept.flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// Whether two different names fold to one.
pub fn is_other_spelling(given: &str, name: &str) -> bool {
    given != name && folded(given) == folded(name)
}

fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A name as a message shows it.
pub(super) fn shown(name: &str) -> String {
    const MAX_SHOWN_CHARS: usize = 64;
    let mut shown: String = name.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("tag_name", "TAG_NAME"; "case")]
    #[test_case("tag_name", "tagName"; "camel case")]
    #[test_case("tag_name", "tag-name"; "hyphen")]
    #[test_case("ssh_keys", "\u{17f}sh_keys"; "long s")]
    #[test_case("ssh_keys", "ssh_\u{212a}eys"; "kelvin sign")]
    #[test_case("type", " type\t"; "blanks")]
    #[test_case("type", "ty\u{200b}pe"; "zero width space")]
    #[test_case("type", "\u{feff}type"; "byte order mark")]
    #[test_case("type", "type\0"; "nul")]
    fn names_that_some_reader_takes_for_one_fold_to_one(name: &str, given: &str) {
        assert_eq!(folded(name), folded(given));
        assert!(is_other_spelling(given, name));
    }

    #[test]
    fn a_plain_name_is_compared_as_any_other() {
        let names = ["tag_name", "TagName", "-tagname", "tag", "tags", "_tag_", "", "_", "ſ", "s", "7", "x"];
        for name in names {
            for plain in ["tag_name", "tagname", "_tag", "tag", "__", "", "s", "7", "x_"] {
                assert_eq!(is_like_plain(name, plain), folded(name) == folded(plain), "{name} {plain}");
            }
        }
    }

    #[test_case("tags", "tag"; "plural")]
    #[test_case("type", "types"; "longer")]
    #[test_case("type", "t\u{443}pe"; "a letter of another script, which no reader folds")]
    fn other_names_stay_other(name: &str, given: &str) {
        assert!(!is_other_spelling(given, name));
    }

    #[test]
    fn the_same_name_is_no_other_spelling() {
        assert!(!is_other_spelling("tag_name", "tag_name"));
    }
}
