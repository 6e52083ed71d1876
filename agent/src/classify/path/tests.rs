use super::*;
use proptest::prelude::*;
use test_case::test_case;

#[test_case("/"; "root")]
#[test_case("/v2/droplets/3164444"; "plain")]
#[test_case("/v2/account/keys/3b:16:bf:e4"; "fingerprint with plain colons")]
#[test_case("/v2/account/keys/3b%3A16%3abf%3ae4"; "fingerprint with escaped colons in either case")]
#[test_case("/v2/reserved_ipv6/2409:40d0:f7::4c6e"; "address")]
#[test_case("/v2/registry/example/repositories/team%2Frepo/tags"; "escaped slash")]
#[test_case("/v2/registry/example/repositories/a%2fb%2Fc/tags"; "escaped slashes in either case")]
#[test_case("/v2/functions/namespaces/fn-1/triggers/my%20trigger"; "escaped space")]
#[test_case("/v2/databases/1/indexes/logs-*"; "star")]
#[test_case("/v2/images/ubuntu-24.04...x64"; "dots inside a name")]
#[test_case("/v2/tags/a@b%40c+d,e%2C$&='()!"; "sub-delimiters")]
#[test_case("/v2/databases/1/users/%7Ba%7D%22%3C%3E%5B%5D%5E%60%7C"; "escaped printable characters")]
fn canonical_paths_are_kept_byte_for_byte(path: &str) {
    assert_eq!(CanonicalPath::parse(path).unwrap().as_str(), path);
}

#[test_case("/v2/account/", "/v2/account"; "behind a literal")]
#[test_case("/v2/droplets/1/", "/v2/droplets/1"; "behind a value")]
#[test_case("/v2/registry/a/repositories/b%2Fc/", "/v2/registry/a/repositories/b%2Fc"; "behind an escaped slash")]
fn one_slash_at_the_end_is_left_off(path: &str, expected: &str) {
    assert_eq!(CanonicalPath::parse(path).unwrap().as_str(), expected);
}

#[test_case("", &Error::NotAbsolute; "empty")]
#[test_case("*", &Error::NotAbsolute; "star form")]
#[test_case("v2/droplets", &Error::NotAbsolute; "relative")]
#[test_case("//v2/droplets", &Error::EmptySegment; "leading double slash")]
#[test_case("/v2//droplets", &Error::EmptySegment; "double slash")]
#[test_case("/v2/droplets//", &Error::EmptySegment; "two trailing slashes")]
#[test_case("//", &Error::EmptySegment; "slashes only")]
#[test_case("/v2/registry/a/repositories/%2Fb/tags", &Error::EmptySegment; "escaped slash first")]
#[test_case("/v2/registry/a/repositories/b%2f/tags", &Error::EmptySegment; "escaped slash last")]
#[test_case("/v2/registry/a/repositories/b%2F%2fc/tags", &Error::EmptySegment; "escaped double slash")]
#[test_case("/v2/./droplets", &Error::DotSegment(".".into()); "dot")]
#[test_case("/v2/account/../droplets", &Error::DotSegment("..".into()); "dot dot")]
#[test_case("/v2/droplets/..", &Error::DotSegment("..".into()); "dot dot at the end")]
#[test_case("/v2/a%2F..%2Fb", &Error::DotSegment("..".into()); "dot dot between escaped slashes")]
#[test_case("/v2/a%2F.", &Error::DotSegment(".".into()); "dot behind an escaped slash")]
#[test_case("/v2/account/%2e%2E/droplets", &Error::Escape("%2e".into()); "escaped dot dot")]
#[test_case("/v2/account/.%2e/droplets", &Error::Escape("%2e".into()); "half escaped dot dot")]
#[test_case("/v2/dropl%65ts", &Error::Escape("%65".into()); "escaped letter")]
#[test_case("/v2/droplets/%33", &Error::Escape("%33".into()); "escaped digit")]
#[test_case("/v2/a%7Eb", &Error::Escape("%7E".into()); "escaped tilde")]
#[test_case("/v2/a%252Fb", &Error::Escape("%25".into()); "escaped twice")]
#[test_case("/v2/a%3Bb", &Error::Escape("%3B".into()); "escaped semicolon")]
#[test_case("/v2/a%5Cb", &Error::Escape("%5C".into()); "escaped backslash")]
#[test_case("/v2/a%3fb", &Error::Escape("%3f".into()); "escaped question mark")]
#[test_case("/v2/a%23b", &Error::Escape("%23".into()); "escaped number sign")]
#[test_case("/v2/a%00", &Error::Escape("%00".into()); "nul")]
#[test_case("/v2/a%0d%0aHost:b", &Error::Escape("%0d".into()); "line break")]
#[test_case("/v2/a%7F", &Error::Escape("%7F".into()); "delete")]
#[test_case("/v2/%C0%AE%C0%AE", &Error::Escape("%C0".into()); "overlong dot")]
#[test_case("/v2/%EF%BC%8F", &Error::Escape("%EF".into()); "full-width slash")]
#[test_case("/v2/%", &Error::BrokenEscape("%".into()); "percent alone")]
#[test_case("/v2/%2", &Error::BrokenEscape("%2".into()); "half an escape")]
#[test_case("/v2/%2/a", &Error::BrokenEscape("%2".into()); "escape cut by a slash")]
#[test_case("/v2/%+2", &Error::BrokenEscape("%+2".into()); "sign in an escape")]
#[test_case("/v2/%u002f", &Error::BrokenEscape("%u0".into()); "escape of another kind")]
#[test_case("/v2/%é1", &Error::BrokenEscape("%\\u{e9}1".into()); "escape with a wide character")]
#[test_case("/v2/droplets;a=b", &Error::Character(";".into()); "path parameter")]
#[test_case("/v2\\droplets", &Error::Character("\\\\".into()); "backslash")]
#[test_case("/v2/droplets?a", &Error::Character("?".into()); "query")]
#[test_case("/v2/droplets#a", &Error::Character("#".into()); "fragment")]
#[test_case("/v2/a b", &Error::Character(" ".into()); "space")]
#[test_case("/v2/a\tb", &Error::Character("\\t".into()); "tab")]
#[test_case("/v2/a\0", &Error::Character("\\u{0}".into()); "plain nul")]
#[test_case("/v2/é", &Error::Character("\\u{e9}".into()); "not ascii")]
#[test_case("/v2/{id}", &Error::Character("{".into()); "brace")]
#[test_case("/v2/a|b", &Error::Character("|".into()); "bar")]
fn other_spellings_are_refused(path: &str, expected: &Error) {
    assert_eq!(CanonicalPath::parse(path).as_ref(), Err(expected));
}

#[test]
fn segments_are_decoded_to_values() {
    let path = CanonicalPath::parse("/v2/keys/3b%3a16/team%2Frepo").unwrap();
    let values: Vec<Cow<'_, str>> = path.segments().map(decode).collect();
    assert_eq!(values, ["v2", "keys", "3b:16", "team/repo"]);
    assert_eq!(CanonicalPath::parse("/").unwrap().segments().count(), 0);
    assert_eq!(path.with_slashes_decoded().unwrap().as_str(), "/v2/keys/3b%3a16/team/repo");
    assert_eq!(CanonicalPath::parse("/v2/keys").unwrap().with_slashes_decoded(), None);
}

/// What a lenient reader does: decode everything, fold backslashes, drop parameters, collapse and resolve.
fn decode_and_normalise(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => (bytes.push(byte), rest = &tail[2..]).1,
            None => (bytes.push(first), rest = tail).1,
        }
    }
    let text = String::from_utf8(bytes).unwrap().replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split([';', '?', '#']).next().unwrap() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

/// Paths that are likely to be nearly canonical.
fn nearly_canonical() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9_.:@~-]{1,6}".prop_map(String::from),
        2 => Just("/".to_owned()),
        1 => Just("%2F".to_owned()),
        1 => "%[0-9a-fA-F]{2}",
        1 => Just("..".to_owned()),
        1 => "[ -~]",
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn an_accepted_path_means_the_same_to_a_lenient_reader(path in nearly_canonical()) {
        if let Ok(canonical) = CanonicalPath::parse(&path) {
            let sent = canonical.as_str();
            prop_assert!(sent == path || format!("{sent}/") == path, "{} is sent", sent);
            let decoded = decode(sent);
            prop_assert_eq!(decode_and_normalise(sent), &*decoded);
            prop_assert!(!decoded.contains('%'), "a second decoding changes nothing");
            prop_assert_eq!(CanonicalPath::parse(canonical.as_str()), Ok(canonical));
        }
    }

    #[test]
    fn any_text_is_answered(path in ".*") {
        if let Ok(canonical) = CanonicalPath::parse(&path) {
            prop_assert!(canonical.as_str().bytes().all(|b| b.is_ascii_graphic()));
        }
    }

    #[test]
    fn an_escape_decodes_to_its_byte(byte in 0u8..=255) {
        let path = format!("/a%{byte:02X}b");
        if CanonicalPath::parse(&path).is_ok() {
            prop_assert_eq!(decode(&path), format!("/a{}b", char::from(byte)));
        }
    }
}
