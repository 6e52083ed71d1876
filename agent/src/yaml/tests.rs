use super::*;
use proptest::proptest;
use serde::Deserialize;
use serde_spanned::Spanned;
use std::{collections::BTreeMap, path::Path};
use test_case::test_case;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    word: Option<Spanned<String>>,
    #[serde(default)]
    list: Vec<Spanned<String>>,
    kind: Option<Kind>,
    table: Option<BTreeMap<Spanned<String>, Vec<Id>>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    DryRun,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

fn source(text: &str) -> Source {
    Source::from_bytes(Path::new("f.yaml"), text.as_bytes().to_vec()).unwrap()
}

fn read(text: &str) -> Result<Shape, String> {
    let source = source(text);
    let documents = documents(&source).map_err(|error| error.to_string())?;
    let node = documents.first().ok_or("nothing")?;
    node.parse(&source).map_err(|error| error.to_string())
}

#[test]
fn values_have_their_places() {
    let text = "# ä\nword: \"ä\" # no\nlist:\n- api:read\n- 'x'\nkind: dry-run\ntable: {ä: [1, \"2\", b]}\n";
    let shape = read(text).unwrap();
    let at = |span: Range<usize>| &text[span];
    assert_eq!(shape.word.as_ref().unwrap().span().start, text.find('"').unwrap());
    let list: Vec<_> = shape.list.iter().map(|word| (word.get_ref().as_str(), at(word.span()))).collect();
    assert_eq!(list, [("api:read", "api:read"), ("x", "'x'")]);
    let (key, ids) = shape.table.unwrap().into_iter().next().unwrap();
    assert_eq!((key.get_ref().as_str(), at(key.span())), ("ä", "ä"));
    assert_eq!(ids, [Id::Number(1), Id::Text("2".into()), Id::Text("b".into())]);
    assert_eq!(shape.kind, Some(Kind::DryRun));
}

#[test_case("word: |\n  a\n  b\n", "a\nb\n"; "a block")]
#[test_case("word: >-\n  a\n  b\n", "a b"; "folded")]
#[test_case("word: 'on'\n", "on"; "quoted")]
#[test_case("{\"word\": \"a\\u00e4\"}", "aä"; "JSON")]
#[test_case("---\nword: a\n...\n---\n# nothing\n", "a"; "documents")]
fn texts_are_read(text: &str, expected: &str) {
    assert_eq!(read(text).unwrap().word.unwrap().get_ref(), expected);
}

#[test_case("word: on", "f.yaml:1: `on` is no text in YAML: write \"on\""; "a boolean to some")]
#[test_case("word: 1.5", "f.yaml:1: `1.5` is no text in YAML: write \"1.5\""; "a number")]
#[test_case("list: [a, ]\nword: [a]", "f.yaml:2: invalid type: sequence, expected a string: `[a]`"; "a list")]
#[test_case("list:\n- a\n-\n", "f.yaml:3: a text is missing here"; "nothing in a list")]
#[test_case("list: a", "f.yaml:1: invalid type: string \"a\", expected a sequence"; "no list")]
#[test_case("list: []\nwrod: a", "f.yaml:2: unknown key `wrod`, expected one of `word`, `list`, `kind`, `table`"; "a key that is not known")]
#[test_case("kind: enforced", "f.yaml:1: unknown variant `enforced`, expected `dry-run`"; "a word that is not known")]
#[test_case("kind: [a]", "f.yaml:1: expected one word: `[a]`"; "no word")]
#[test_case("word: a\nlist: []\nword: b", "f.yaml:3: `word` stands here twice"; "twice")]
#[test_case("list: &x [a]", "f.yaml:1: anchors and aliases (`&`, `*`) are not read; write the value out, or quote it"; "an anchor")]
#[test_case("word: *x", "f.yaml:1: while parsing node, found unknown anchor"; "an alias of nothing")]
#[test_case("word: !!str a", "f.yaml:1: tags (`!`) are not read; quote the value, or remove the tag"; "a tag")]
#[test_case("? [a]\n: b", "f.yaml:1: a key is a single word: `[a]`"; "a list for a key")]
#[test_case("word: \"a", "f.yaml:1: while scanning a quoted scalar, found unexpected end of stream"; "no end")]
#[test_case("a: b: c", "f.yaml:1: mapping values are not allowed in this context"; "no YAML")]
fn what_readers_could_differ_on_is_refused(text: &str, expected: &str) {
    assert_eq!(read(text).unwrap_err(), expected);
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(documents(&source(&nested(MAX_DEPTH))).is_ok());
    assert!(documents(&source(&nested(MAX_DEPTH + 2))).unwrap_err().to_string().contains("too deeply"));
    assert!(documents(&source(&nested(100_000))).is_err());
}

#[test]
fn every_prefix_is_read_or_refused() {
    let text = "a: {b: [1, \"ä\"]}\n---\nc: |\n  x\nd: 'e'\n";
    for (end, _) in text.char_indices() {
        let _ = documents(&source(&text[..end]));
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[-\\[\\]{}:,#&*!|>'\"%@` a-c0\n\t\r\u{85}\u{2028}ä]{0,60}") {
        let source = source(&text);
        if let Ok(documents) = documents(&source) {
            for node in documents {
                let _ = node.parse::<Shape>(&source);
            }
        }
    }
}
