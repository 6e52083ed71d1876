mod catalogue;

use super::*;
use crate::classify::{Pointer, Scope, filter::Kind};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::Write;
use test_case::test_case;

fn filter(pointer: &str, kind: Kind) -> Filter {
    let pointer = Pointer::parse(pointer).unwrap();
    Filter { pointer, requires: Scope::parse("database:view_credentials").unwrap(), kind }
}

fn field(pointer: &str) -> Filter {
    filter(pointer, Kind::Field)
}

fn items(pointer: &str, prefix: &str) -> Filter {
    filter(pointer, Kind::Items { field: "urn".into(), prefix: prefix.into() })
}

fn applied(filters: &[Filter], body: &str) -> Result<(String, Vec<u64>), String> {
    let filters: Vec<&Filter> = filters.iter().collect();
    let filtered = apply(&filters, body.as_bytes()).map_err(|error| error.to_string())?;
    Ok((String::from_utf8(filtered.bytes.into_owned()).unwrap(), filtered.removed))
}

#[test_case("/password", r#"{"password":"x","a":1}"#, r#"{"a":1}"#; "the first field")]
#[test_case("/password", r#"{"a":1,"password":"x"}"#, r#"{"a":1}"#; "the last field")]
#[test_case("/password", r#"{"password":"x"}"#, "{}"; "the only field")]
#[test_case("/password", r#"{"password":{"deep":["er"]},"a":1}"#, r#"{"a":1}"#; "a field with more in it")]
#[test_case("/password", r#"{"password":null,"a":1}"#, r#"{"a":1}"#; "a field that is null")]
#[test_case("/password", r#"{"password":1,"a":2,"password":3}"#, r#"{"a":2}"#; "every duplicate")]
#[test_case("/password", r#"{"pass\u0077ord":1,"a":2}"#, r#"{"a":2}"#; "a name with an escape")]
#[test_case("/password", r#"{"PassWord":1,"a":2}"#, r#"{"a":2}"#; "a name in another case")]
#[test_case("/password", "{\"pa\u{17f}\\u017Fword\":1,\"a\":2}", r#"{"a":2}"#; "a name in a case of Unicode's")]
#[test_case("/key", "{\"\u{212a}ey\":1,\"a\":2}", r#"{"a":2}"#; "a sign that is a letter")]
#[test_case("/straße", r#"{"STRASSE":1,"a":2}"#, r#"{"a":2}"#; "a letter that is two in capitals")]
#[test_case("/password", r#"{"a":{"password":1},"passwords":2,"passwor":3,"password":0}"#,
    r#"{"a":{"password":1},"passwords":2,"passwor":3}"#; "nothing beside the way")]
#[test_case("/db/password", r#"{"password":1,"db":{"password":2,"a":3}}"#, r#"{"password":1,"db":{"a":3}}"#; "a field of an object")]
#[test_case("/DB/password", r#"{"db":{"password":2},"Db":{"password":3}}"#, r#"{"db":{},"Db":{}}"#; "every way there")]
#[test_case("/dbs/*/password", r#"{"dbs":[{"password":1,"a":1},{},{"b":2,"password":1}]}"#,
    r#"{"dbs":[{"a":1},{},{"b":2}]}"#; "of each element")]
#[test_case("/a/*/b/*/c", r#"{"a":[{"b":[{"c":1},{"d":2}]},{"b":[]},{"b":null}]}"#,
    r#"{"a":[{"b":[{},{"d":2}]},{"b":[]},{"b":null}]}"#; "of elements of elements")]
#[test_case("/*/c", r#"[{"c":1},{"d":2}]"#, r#"[{},{"d":2}]"#; "of a document that is an array")]
#[test_case("/a/*", r#"{"a":[1,2],"b":3}"#, r#"{"a":[],"b":3}"#; "all elements")]
#[test_case("/dbs/*/password", r#"{"dbs":{"one":{"password":1,"a":1}}}"#, r#"{"dbs":{"one":{"a":1}}}"#; "members in place of elements")]
#[test_case("/dbs/*/password", r#"{"dbs":{"password":1,"a":1}}"#, r#"{"dbs":{"a":1}}"#; "one object in place of several")]
#[test_case("/db/password", r#"{"db":[{"password":1,"a":1},[{"password":2}]]}"#, r#"{"db":[{"a":1},[{}]]}"#; "several in place of one object")]
#[test_case("/db/password", r#"[{"db":{"password":1}}]"#, r#"[{"db":{}}]"#; "a document in an array")]
#[test_case("/dbs/*/password", r#"{"dbs":[[{"password":1}]]}"#, r#"{"dbs":[[{}]]}"#; "an array in an array")]
#[test_case("/a/*", r#"{"a":{"x":1}}"#, r#"{"a":{}}"#; "all members")]
fn a_field_is_taken_out(pointer: &str, body: &str, expected: &str) {
    let (text, removed) = applied(&[field(pointer)], body).unwrap();
    assert_eq!(text, expected);
    assert!(removed[0] > 0);
    assert_eq!(applied(&[filter(pointer, Kind::Credential)], body).unwrap(), (text, removed));
}

#[test_case("/password", r#" { "a" : 1 } "#; "nothing there")]
#[test_case("/db/password", r#"{"password": 1, "db": "password"}"#; "a way that breaks off")]
#[test_case("/dbs/*/password", r#"{"dbs": ["password", null, 1]}"#; "elements that are no objects")]
#[test_case("/password", "[]"; "another document")]
#[test_case("/password", " \"password\"\n"; "a document that is a string")]
#[test_case("/password", "null"; "a document that is null")]
#[test_case("/a/b/c", r#"{"a":{"b":{}}}"#; "empty objects")]
#[test_case("/kéy", r#"{"key":1,"kèy":2}"#; "other letters")]
fn a_document_without_the_part_is_the_same(pointer: &str, body: &str) {
    let filter = field(pointer);
    let filters = [&filter];
    let filtered = apply(&filters, body.as_bytes()).unwrap();
    assert!(matches!(filtered.bytes, Cow::Borrowed(bytes) if bytes == body.as_bytes()));
    assert_eq!(filtered.removed, [0]);
}

#[test]
fn what_stays_is_the_same_to_the_byte() {
    let body = "\u{20}{\n \"z\" : 1.00e+02 ,\t\"\\u0061\" : [ 1 , 2.50 ] , \"db\" : { \"password\" : 1, \
        \"uri\":\"\\/\\u00e9é😀\\\"\" , \"big\": 123456789012345678901234567890 } , \"a\":-0.0 }\r\n";
    let (text, removed) = applied(&[field("/db/password")], body).unwrap();
    assert_eq!(
        text,
        "{\"z\":1.00e+02,\"\\u0061\":[ 1 , 2.50 ],\"db\":{\"uri\":\"\\/\\u00e9é😀\\\"\",\
         \"big\":123456789012345678901234567890},\"a\":-0.0}"
    );
    assert_eq!(removed, [1]);
}

const RESOURCES: &str = r#"{"resources":[{"urn":"do:droplet:1"},{"urn":"do:domain:a"},{"urn":"do:droplet:2","x":{}}],"meta":{"total":3}}"#;

#[test_case("/resources/*"; "a pointer to the elements")]
#[test_case("/resources"; "a pointer to the array")]
fn items_are_taken_out_by_what_they_tell(pointer: &str) {
    let (text, removed) = applied(&[items(pointer, "do:droplet:")], RESOURCES).unwrap();
    assert_eq!(text, r#"{"resources":[{"urn":"do:domain:a"}],"meta":{"total":3}}"#);
    assert_eq!(removed, [2]);
    let both = [items(pointer, "do:droplet:"), items(pointer, "do:domain:"), items(pointer, "do:space:")];
    let (text, removed) = applied(&both, RESOURCES).unwrap();
    assert_eq!((text.as_str(), removed), (r#"{"resources":[],"meta":{"total":3}}"#, vec![2, 1, 0]));
}

#[test_case(r#"{"urn":"do:droplet:1"}"#, true; "the prefix")]
#[test_case(r#"{"urn":"do:droplet"}"#, false; "less than the prefix")]
#[test_case(r#"{"urn":"do:droplets:1"}"#, false; "another prefix")]
#[test_case(r#"{"urn":"do:volume:do:droplet:1"}"#, false; "within the value")]
#[test_case(r#"{"urn":"DO:Droplet:1"}"#, true; "the prefix in capitals")]
#[test_case(r#"{"urn":"do:dr\u006fplet:1"}"#, true; "a value with an escape")]
#[test_case(r#"{"u\u0072n":"do:droplet:1"}"#, true; "a name with an escape")]
#[test_case(r#"{"URN":"do:droplet:1"}"#, true; "a name in capitals")]
#[test_case(r#"{"urn":"do:volume:1","urn":"do:droplet:1"}"#, true; "one of two values")]
#[test_case(r#"{"urn":"do:volume:1","Urn":1}"#, true; "one of two is no string")]
#[test_case(r#"{"urn":"do:volume:1","id":1}"#, false; "something else")]
#[test_case(r#"{"urn":""}"#, false; "an empty value")]
#[test_case(r#"{"urn":"äääääääääää"}"#, false; "a value that is not ASCII")]
#[test_case(r#"{"id":"do:volume:1"}"#, true; "no such field")]
#[test_case(r#"{"urn":null}"#, true; "null")]
#[test_case(r#"{"urn":["do:volume:1"]}"#, true; "no string")]
#[test_case(r#"{"a":{"urn":"do:volume:1"}}"#, true; "deeper")]
#[test_case("{}", true; "an empty element")]
#[test_case("\"do:volume:1\"", true; "an element that is no object")]
#[test_case("null", true; "an element that is null")]
#[test_case(r#"[{"urn":"do:volume:1"}]"#, true; "an element that is an array")]
fn an_item_that_does_not_tell_what_it_is_is_taken_out(element: &str, is_removed: bool) {
    let body = format!(r#"{{"resources":[{element}]}}"#);
    let (text, removed) = applied(&[items("/resources/*", "do:droplet:")], &body).unwrap();
    let left = if is_removed { "" } else { element };
    assert_eq!((text, removed), (format!(r#"{{"resources":[{left}]}}"#), vec![u64::from(is_removed)]));
}

#[test]
fn several_filters_work_together() {
    let filters = [field("/a/*/x"), field("/a/*/y/z"), items("/a", "p:"), field("/nothing"), field("/b")];
    let body = r#"{"b":0,"a":[{"urn":"q:1","x":1,"y":{"z":1,"w":2}},{"urn":"p:1","x":1},{"x":1,"urn":"q:2"}],"c":[]}"#;
    let (text, removed) = applied(&filters, body).unwrap();
    assert_eq!(text, r#"{"a":[{"urn":"q:1","y":{"w":2}},{"urn":"q:2"}],"c":[]}"#);
    assert_eq!(removed, [2, 1, 1, 0, 1]);
}

#[test]
fn every_prefix_and_every_longer_document_is_refused() {
    let filters = [field("/dbs/*/password"), items("/resources/*", "do:droplet:")];
    let body =
        r#"{"dbs":[{"password":"x","é\"":[1e5,"😀"]}],"resources":[{"urn":"do:droplet:1"},{"urn":"d"}]}"#;
    assert_eq!(applied(&filters, body).unwrap().1, [1, 1]);
    let filters: Vec<&Filter> = filters.iter().collect();
    for end in 0..body.len() {
        assert!(apply(&filters, body.as_bytes().get(..end).unwrap()).is_err(), "{end}");
    }
    for rest in ["}", ",", "{}", "\0", "\u{feff}"] {
        assert!(apply(&filters, format!("{body}{rest}").as_bytes()).is_err(), "{rest}");
    }
}

#[test]
fn nothing_that_is_taken_out_escapes_the_grammar() {
    for broken in [
        r#"{"password":{"a":1,}}"#,
        r#"{"password":"\x"}"#,
        r#"{"password":01}"#,
        r#"{"password"}"#,
        "{\"password\":\"\n\"}",
    ] {
        assert!(applied(&[field("/password")], broken).is_err(), "{broken}");
    }
    let deep = format!(r#"{{"password":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    assert!(applied(&[field("/password")], &deep).unwrap_err().starts_with("more than 128"), "{deep}");
    let on_the_way = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(applied(&[field("/password")], &on_the_way).is_err());
}

#[test]
fn a_body_is_shown_decoded_and_its_share_is_what_is_left() {
    let body = json!({"password": "x".repeat(1000), "name": "n".repeat(100)}).to_string();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    let compressed = encoder.finish().unwrap();
    let filters = [field("/password"), items("/resources/*", "a:"), items("/resources/*", "b:")];
    let filters: Vec<&Filter> = filters.iter().collect();
    for (coding, bytes) in [(Coding::Identity, body.into_bytes()), (Coding::Gzip, compressed)] {
        let memory = Memory::new(1 << 20);
        let mut share = memory.share();
        share.grow(bytes.len()).unwrap();
        let shown = show(&filters, coding, bytes, &mut share).unwrap();
        assert_eq!(shown.body, format!(r#"{{"name":"{}"}}"#, "n".repeat(100)).into_bytes());
        assert_eq!(shown.removed, ["/password"]);
        assert!(memory.share().grow((1 << 20) - shown.body.len()).is_ok());
        assert!(memory.share().grow((1 << 20) - shown.body.len() + 1).is_err());
    }
}

#[test]
fn a_body_that_leaves_no_room_for_what_is_left_is_withheld() {
    let filter = field("/a");
    let mut share = Memory::new(10).share();
    let result = show(&[&filter], Coding::Identity, b"[1,2,3,4,5,6]".to_vec(), &mut share);
    assert!(matches!(result, Err(NotFilterable::NoMemory)));
}

/// The same as [`apply`], by the other reader, for documents that are of the form that a pointer expects or not.
fn removed_by_value(mut value: Value, steps: &[&str]) -> Value {
    let Some((first, rest)) = steps.split_first() else { return value };
    match (&mut value, *first) {
        (Value::Array(elements), "*") if rest.is_empty() => elements.clear(),
        (Value::Array(elements), "*") => {
            elements.iter_mut().for_each(|element| *element = removed_by_value(element.take(), rest));
        }
        (Value::Array(elements), _) => {
            elements.iter_mut().for_each(|element| *element = removed_by_value(element.take(), steps));
        }
        (Value::Object(members), "*") if rest.is_empty() => members.clear(),
        (Value::Object(members), "*") => {
            members.values_mut().for_each(|member| *member = removed_by_value(member.take(), rest));
            value = removed_by_value(value, rest);
        }
        (Value::Object(members), name) if rest.is_empty() => {
            members.retain(|key, _| !key.eq_ignore_ascii_case(name));
        }
        (Value::Object(members), name) => members
            .iter_mut()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .for_each(|(_, member)| *member = removed_by_value(member.take(), rest)),
        (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => {}
    }
    value
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-cA-C\"\\\\é\u{0}😀]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[abcABC]", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn it_takes_out_what_the_other_reader_takes_out(
        document in documents(),
        steps in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("*")], 1..4),
        is_pretty in any::<bool>(),
    ) {
        let filter = field(&format!("/{}", steps.join("/")));
        let body = if is_pretty { serde_json::to_vec_pretty(&document) } else { serde_json::to_vec(&document) };
        let body = body.unwrap();
        let filtered = apply(&[&filter], &body).unwrap();
        let left: Value = serde_json::from_slice(&filtered.bytes).unwrap();
        let expected = removed_by_value(document.clone(), &steps);
        prop_assert_eq!(&left, &expected);
        prop_assert_eq!(filtered.removed[0] == 0, expected == document);
    }

    #[test]
    fn bytes_that_are_not_json_are_refused(
        document in documents(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut body = document.to_string().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        let filter = field("/a/*/b");
        let filtered = apply(&[&filter], &body);
        // The other reader refuses numbers that it cannot hold.
        if let Err(error) = serde_json::from_slice::<Value>(&body) && !error.to_string().contains("out of range") {
            prop_assert!(filtered.is_err(), "{:?}", filtered);
        }
    }
}
