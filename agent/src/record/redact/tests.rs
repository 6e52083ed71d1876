use super::*;
use http::HeaderValue;
use proptest::prelude::*;
use test_case::test_case;

const TOKEN: &str = "dop_v1_aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb00000000000000001111111111111111";
/// Base64 of `TOKEN:`, and of `user:TOKEN`.
const TOKEN_FIRST: &str =
    "ZG9wX3YxX2FhYWFhYWFhYWFhYWFhYWFiYmJiYmJiYmJiYmJiYmJiMDAwMDAwMDAwMDAwMDAwMDExMTExMTExMTExMTExMTE6";
const TOKEN_LAST: &str = "dXNlcjpkb3BfdjFfYWFhYWFhYWFhYWFhYWFhYWJiYmJiYmJiYmJiYmJiYmIwMDAwMDAwMDAwMDAwMDAwMTExMTExMTExMTExMTExMQ==";

fn redactor() -> Redactor {
    Redactor::new(Fingerprinter::from_key(&[7; 32]))
}

/// The text with `{}` for what is expected in place of [`TOKEN`].
fn expected(template: &str) -> String {
    let fingerprint = Fingerprinter::from_key(&[7; 32]).fingerprint(TOKEN.as_bytes());
    template.replace("{}", &format!("dop_v1_[redacted:{fingerprint}]"))
}

#[test_case(TOKEN, "{}"; "alone")]
#[test_case(&format!("/v2/x?access_token={TOKEN}&page=1"), "/v2/x?access_token={}&page=1"; "in a query")]
#[test_case(&format!("https://{TOKEN}@host/"), "https://{}@host/"; "in a url")]
#[test_case(&format!("Bearer {TOKEN}"), "Bearer {}"; "bearer")]
#[test_case(&format!("{TOKEN},{TOKEN}"), "{},{}"; "twice")]
#[test_case(&format!("{TOKEN}{TOKEN}"), "{}{}"; "glued together")]
#[test_case(&format!("ä{TOKEN}ä"), "ä{}ä"; "between letters that are not ascii")]
#[test_case(&TOKEN.replace('_', "%5F"), "{}"; "percent-encoded separators")]
#[test_case(&TOKEN.replace('a', "%61"), "{}"; "percent-encoded digits")]
#[test_case(&TOKEN.replace('d', "%2564"), "{}"; "encoded twice")]
#[test_case(&format!("%C3%A4{TOKEN}%"), "%C3%A4{}%"; "other encodings stay")]
#[test_case(&format!("Basic {TOKEN_FIRST}"), "Basic {}"; "basic, token as user")]
#[test_case(&format!("basic {TOKEN_LAST}"), "basic {}=="; "basic, token as password")]
#[test_case(&format!("?auth={TOKEN_FIRST}"), "?auth={}"; "base64 without a scheme")]
#[test_case("/v2/droplets?page=1&per_page=200", "/v2/droplets?page=1&per_page=200"; "nothing")]
#[test_case("dop_v1_TOKEN and dop_v1_…", "dop_v1_TOKEN and dop_v1_…"; "prose")]
#[test_case("the basic constraints of a bearer certificate", "the basic constraints of a bearer certificate"; "words")]
#[test_case("100%25 of %zz%", "100%25 of %zz%"; "encoded and broken percent signs")]
fn texts_are_redacted(text: &str, template: &str) {
    let redacted = redactor().redact(text);
    assert_eq!(redacted, expected(template));
    assert_eq!(redactor().redact(&redacted), redacted, "a second pass changes nothing");
}

#[test_case(&format!("{TOKEN}abcdef"); "longer run")]
#[test_case(&TOKEN[..40]; "cut token")]
#[test_case(&TOKEN.to_ascii_uppercase(); "upper case")]
#[test_case("Bearer 0123456789abcdef0123456789abcdef"; "token without a prefix")]
#[test_case("authorization: Basic dXNlcjpzZWNyZXQ="; "basic with another password")]
fn nothing_of_a_secret_stays(text: &str) {
    let redacted = redactor().redact(text).into_owned();
    assert!(redacted.contains("[redacted:"), "{redacted}");
    let secret = text.rsplit(['_', ' ']).next().unwrap().trim_end_matches('=');
    assert!(!redacted.contains(&secret[..8]), "{redacted}");
    assert!(!redacted.contains(&secret[secret.len() - 8..]), "{redacted}");
}

#[test]
fn the_fingerprint_is_that_of_the_header() {
    let fingerprinter = Fingerprinter::from_key(&[7; 32]);
    for value in [format!("Bearer {TOKEN}"), format!("Basic {TOKEN_LAST}")] {
        let facts = fingerprinter.token_facts(HeaderValue::from_str(&value).ok().as_ref());
        assert!(redactor().redact(&value).contains(&facts.fingerprint.unwrap()));
        assert_eq!(facts.token_type, "dop");
    }
}

#[test_case("plain", "plain")]
#[test_case("a\x1b[31mb\r\n", r"a\u{1b}[31mb\u{d}\u{a}"; "escape sequence and line end")]
#[test_case("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"; "one-byte sequence and delete")]
#[test_case("a\u{202e}b", r"a\u{202e}b"; "right to left")]
fn control_characters_are_escaped(text: &str, expected: &str) {
    assert_eq!(escape_control(text), expected);
}

/// Pieces of texts with tokens in every disguise, and anything between.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just(TOKEN.to_owned()),
        Just(TOKEN.replace('_', "%5f")),
        Just(format!(" Basic {TOKEN_LAST}")),
        Just("%".to_owned()),
        Just("%a".to_owned()),
        Just("dop_v1_".to_owned()),
    ]
}

#[test_case("%a"; "half an escape")]
#[test_case("%4"; "half an escape of a letter")]
#[test_case("%25a"; "half an escape behind an escaped sign")]
fn an_escape_does_not_swallow_a_tokens_first_letter(before: &str) {
    for token in
        [TOKEN.to_owned(), TOKEN.replace('_', "%5f"), TOKEN.replacen("op", "%6fp", 1).replace('_', "%5F")]
    {
        let redacted = redactor().redact(&format!("{before}{token}")).into_owned();
        assert!(!redacted.contains("aaaaaaaaaaaaaaaabbbb"), "{redacted}");
    }
}

proptest! {
    #[test]
    fn no_text_keeps_a_token(pieces in prop::collection::vec(piece(), 0..6)) {
        let text = pieces.concat();
        let redacted = redactor().redact(&text).into_owned();
        for part in ["aaaaaaaaaaaaaaaabbbb", "YWFhYWFhYWFhYWFhYWFhYWJiYmJi"] {
            prop_assert!(!redacted.contains(part), "{redacted}");
        }
    }

    #[test]
    fn no_search_finds_what_a_first_look_does_not_see(pieces in prop::collection::vec(piece(), 0..6)) {
        let text = pieces.concat();
        if !may_hold_secret(text.as_bytes()) {
            prop_assert_eq!(redactor().searched(&text), &*text);
        }
    }
}
