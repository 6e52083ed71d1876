//! How unit files write words: quoted, escaped, with specifiers.

/// The words of a value, without quotes and escapes; none where a quote has no end.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match (quote, character) {
            (_, '\\') => unescape(&mut rest, word.get_or_insert_default()),
            (Some(end), _) if character == end => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            (Some(_) | None, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// What follows a backslash, as in C. What means nothing stays as it was written.
fn unescape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, word: &mut String) {
    let Some(character) = rest.next() else { return };
    let (radix, length) = match character {
        'a' => return word.push('\x07'),
        'b' => return word.push('\x08'),
        'f' => return word.push('\x0c'),
        'n' => return word.push('\n'),
        'r' => return word.push('\r'),
        't' => return word.push('\t'),
        'v' => return word.push('\x0b'),
        's' => return word.push(' '),
        '\\' | '"' | '\'' => return word.push(character),
        'x' => (16, 2),
        'u' => (16, 4),
        'U' => (16, 8),
        '0'..='7' => (8, 2),
        _ => return word.extend(['\\', character]),
    };
    let mut digits: String = if radix == 8 { character.to_string() } else { String::new() };
    for _ in 0..length {
        digits.extend(rest.next_if(|digit| digit.is_digit(radix)));
    }
    match u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32) {
        Some(meant) => word.push(meant),
        None => word.extend(['\\', character]),
    }
}

/// The text as one word; none where it has what no unit file can be trusted to carry through every version.
pub(super) fn quote(text: &str) -> Option<String> {
    if text.chars().any(char::is_control) {
        return None;
    }
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-=+,@".contains(character);
    let doubled = text.replace('%', "%%");
    if !text.is_empty() && text.chars().all(is_plain) {
        return Some(doubled);
    }
    Some(format!("\"{}\"", doubled.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// The text with its specifiers resolved, as far as that takes no manager: none where one is in it.
pub(super) fn without_specifiers(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split("%%").collect();
    parts.iter().all(|part| !part.contains('%')).then(|| parts.join("%"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use test_case::test_case;

    #[test_case("", &[]; "nothing")]
    #[test_case("A=1  B=2\t", &["A=1", "B=2"]; "blanks")]
    #[test_case(r#""A=one word" 'B=it is'"#, &["A=one word", "B=it is"]; "quotes")]
    #[test_case(r#"A="one word"x"#, &["A=one wordx"]; "quotes within")]
    #[test_case(r#""" ''"#, &["", ""]; "empty words")]
    #[test_case(r#""a\"b" 'c"d' a\x20b\s\t"#, &["a\"b", "c\"d", "a b \t"]; "escapes")]
    #[test_case(r"\101\u00e9\U0001F600", &["Aé😀"]; "numbers")]
    #[test_case(r"\d\$x", &["\\d\\$x"]; "no escape")]
    #[test_case(r"\xZZ", &["\\xZZ"]; "no number")]
    fn words_are_read_as_systemd_does(text: &str, expected: &[&str]) {
        assert_eq!(split(text).unwrap(), expected);
    }

    #[test]
    fn a_quote_without_an_end_is_no_word() {
        assert_eq!(split("\"a b"), None);
    }

    #[test_case("/etc/ssl/certs", Some("/etc/ssl/certs"); "plain")]
    #[test_case("/a b", Some("\"/a b\""); "a blank")]
    #[test_case("/a:b", Some("\"/a:b\""); "a colon")]
    #[test_case("50%", Some("\"50%%\""); "a specifier")]
    #[test_case(r#"a"\"#, Some(r#""a\"\\""#); "quote and backslash")]
    #[test_case("$X;", Some("\"$X;\""); "a variable")]
    #[test_case("a\nb", None; "a line end")]
    fn words_are_written(text: &str, expected: Option<&str>) {
        assert_eq!(quote(text).as_deref(), expected);
    }

    #[test_case("a%%b", Some("a%b"); "doubled")]
    #[test_case("%h/a", None; "home")]
    #[test_case("%%%h", None; "both")]
    #[test_case("plain", Some("plain"); "none")]
    fn specifiers_are_not_guessed(text: &str, expected: Option<&str>) {
        assert_eq!(without_specifiers(text).as_deref(), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in "\\PC*") {
            let written = quote(&text).unwrap();
            let read = split(&written).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(without_specifiers(&read[0]), Some(text));
        }

        #[test]
        fn anything_can_be_read(text in ".*") {
            let _ = split(&text);
        }
    }
}
