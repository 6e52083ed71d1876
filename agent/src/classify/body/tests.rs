use super::{super::Catalogue, *};
use proptest::prelude::*;
use serde_json::json;
use test_case::test_case;

fn operation(name: &str) -> Option<&'static Operation> {
    Some(Catalogue::embedded().operation(name).unwrap())
}

fn headers(values: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (name.parse().unwrap(), HeaderValue::from_static(value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in values.iter().map(pair) {
        let _: bool = HeaderMap::append::<http::HeaderName>(&mut headers, name, value);
    }
    headers
}

#[test_case(&[("content-type", "application/json")]; "json")]
#[test_case(&[("content-type", "Application/JSON; Charset=UTF-8")]; "with its character set, in capitals")]
#[test_case(&[("content-type", "application/json;charset=\"utf-8\"")]; "quoted")]
#[test_case(&[("content-type", "application/json"), ("content-encoding", "identity")]; "not encoded, and said so")]
fn a_head_that_says_plain_json_passes(values: &[(&'static str, &'static str)]) {
    assert_eq!(check_head(&headers(values)), Ok(()));
}

#[test_case(&[], "names no content-type"; "no type")]
#[test_case(&[("content-type", "")], "is of type"; "an empty type")]
#[test_case(&[("content-type", "text/plain")], "`text/plain`"; "text")]
#[test_case(&[("content-type", "application/x-www-form-urlencoded")], "is of type"; "form")]
#[test_case(&[("content-type", "multipart/form-data; boundary=a")], "is of type"; "multipart")]
#[test_case(&[("content-type", "application/vnd.api+json")], "is of type"; "another json")]
#[test_case(&[("content-type", "application/json; charset=utf-16")], "is of type"; "another character set")]
#[test_case(&[("content-type", "application/json; charset=utf-7")], "is of type"; "utf-7")]
#[test_case(&[("content-type", "application/json; charset=utf-8; charset=utf-16")], "is of type"; "two character sets")]
#[test_case(&[("content-type", "application/json; boundary=a")], "is of type"; "another parameter")]
#[test_case(&[("content-type", "application/json;")], "is of type"; "an empty parameter")]
#[test_case(&[("content-type", "application/json, text/plain")], "is of type"; "a list")]
#[test_case(&[("content-type", "application/json"), ("content-type", "application/json")], "several"; "twice")]
#[test_case(&[("content-type", "application/json"), ("content-encoding", "gzip")], "is encoded"; "gzip")]
#[test_case(&[("content-type", "application/json"), ("content-encoding", "identity, gzip")], "is encoded"; "a list of encodings")]
#[test_case(&[("content-type", "application/json"), ("content-encoding", "identity"), ("content-encoding", "br")], "is encoded"; "two encodings")]
#[test_case(&[("content-type", "application/json"), ("content-encoding", "")], "is encoded"; "an empty encoding")]
fn any_other_head_is_unreadable(values: &[(&'static str, &'static str)], expected: &str) {
    let error = check_head(&headers(values)).unwrap_err();
    assert_eq!(error.reason(), Reason::BodyUnreadable);
    assert!(error.to_string().contains(expected), "{error}");
}

#[test_case(br#"{"name":"a"}"#, json!({"name": "a"}); "an object")]
#[test_case(b" \t\r\n{} \n", json!({}); "with blanks around it")]
#[test_case(br#"{"a":{"b":[1,-2,3.5,null,true]}}"#, json!({"a": {"b": [1, -2, 3.5, null, true]}}); "every type")]
#[test_case(br#"{"\u0061":"\u20ac\ud83d\ude00"}"#, json!({"a": "€😀"}); "escapes")]
#[test_case("{\"ключ\":\"値\"}".as_bytes(), json!({"ключ": "値"}); "utf-8")]
#[test_case(br#"{"max":18446744073709551615,"min":-9223372036854775808}"#,
    json!({"max": u64::MAX, "min": i64::MIN}); "the largest integers")]
#[test_case(br#"{"labels":{"app":1},"Labels2":{"app":2}}"#, json!({"labels": {"app": 1}, "Labels2": {"app": 2}});
    "one key in two objects")]
fn strict_json_is_read(bytes: &[u8], expected: Value) {
    assert_eq!(parse(bytes, None, &[]), Ok(Some(expected)));
}

#[test_case(b"", "droplets_create"; "empty")]
#[test_case(b"null", "droplets_list"; "the null of a read")]
fn a_body_that_says_nothing_is_none(bytes: &[u8], id: &str) {
    assert_eq!(parse(bytes, operation(id), &[]), Ok(None));
}

#[test_case(b" "; "blanks alone")]
#[test_case(b"[]"; "an array")]
#[test_case(b"[{\"type\":\"a\"}]"; "an object in an array")]
#[test_case(b"\"type\""; "a string")]
#[test_case(b"1"; "a number")]
#[test_case(b"null"; "null")]
#[test_case(b"\xef\xbb\xbf{}"; "byte order mark")]
#[test_case(b"{\xef\xbb\xbf}"; "byte order mark inside")]
#[test_case(b"\xff\xfe{\0}\0"; "utf-16 with a mark")]
#[test_case(b"{\0}\0"; "utf-16 little endian")]
#[test_case(b"\0{\0}"; "utf-16 big endian")]
#[test_case(b"\x1f\x8b\x08\0"; "gzip")]
#[test_case(b"type=snapshot"; "a form")]
#[test_case(b"{}{}"; "two documents")]
#[test_case(b"{}\n{}"; "two lines")]
#[test_case(b"{},"; "a comma behind it")]
#[test_case(b"{}\0"; "nul behind it")]
#[test_case(b"{}garbage"; "garbage behind it")]
#[test_case(br#"{"a":1,}"#; "a trailing comma")]
#[test_case(br#"{"a":[1,]}"#; "a trailing comma in an array")]
#[test_case(br#"{"a":1 "b":2}"#; "no comma")]
#[test_case(br#"{a:1}"#; "a bare key")]
#[test_case(br#"{'a':1}"#; "single quotes")]
#[test_case(br#"{1:1}"#; "a number as a key")]
#[test_case(br#"{"a":1}/**/"#; "a comment behind it")]
#[test_case(br#"{/* */"a":1}"#; "a comment")]
#[test_case(b"{//\n\"a\":1}"; "a line comment")]
#[test_case(b"{#\n\"a\":1}"; "a shell comment")]
#[test_case(br#"{"a":NaN}"#; "not a number")]
#[test_case(br#"{"a":-Infinity}"#; "infinity")]
#[test_case(br#"{"a":1e400}"#; "a number out of range")]
#[test_case(br#"{"a":-1e400}"#; "a negative number out of range")]
#[test_case(br#"{"a":1e300}"#; "a float that holds no single integers")]
#[test_case(br#"{"a":9007199254740993.0}"#; "a float that another reader rounds")]
#[test_case(br#"{"a":18446744073709551616}"#; "an integer that is too large")]
#[test_case(br#"{"a":-9223372036854775809}"#; "an integer that is too small")]
#[test_case(br#"{"a":01}"#; "a leading zero")]
#[test_case(br#"{"a":+1}"#; "a plus")]
#[test_case(br#"{"a":.5}"#; "no digit before the point")]
#[test_case(br#"{"a":0x1}"#; "hexadecimal")]
#[test_case(br#"{"a":True}"#; "another language's true")]
#[test_case(br#"{"a":undefined}"#; "undefined")]
#[test_case(b"{\"a\":\"\n\"}"; "a line feed in a string")]
#[test_case(b"{\"a\":\"\t\"}"; "a tab in a string")]
#[test_case(b"{\"a\":\"\0\"}"; "nul in a string")]
#[test_case(br#"{"a":"\u0000"}"#; "nul escaped in a string")]
#[test_case(br#"{"a\u0000":1}"#; "nul escaped in a key")]
#[test_case(br#"{"a":["\u0000"]}"#; "nul escaped deeper")]
#[test_case(br#"{"a":"\x41"}"#; "an unknown escape")]
#[test_case(br#"{"a":"\ud800"}"#; "a lone high surrogate")]
#[test_case(br#"{"a":"\udc00"}"#; "a lone low surrogate")]
#[test_case(br#"{"\ud800":1}"#; "a lone surrogate in a key")]
#[test_case(br#"{"a":"\ud800\u0041"}"#; "half a pair")]
#[test_case(b"{\"a\":\"\xc0\xaf\"}"; "overlong utf-8")]
#[test_case(b"{\"a\":\"\xe0\x80\xaf\"}"; "longer overlong utf-8")]
#[test_case(b"{\"\xc1\xa1\":1}"; "overlong utf-8 in a key")]
#[test_case(b"{\"a\":\"\xed\xa0\x80\"}"; "a surrogate in utf-8")]
#[test_case(b"{\"a\":\"\xf4\x90\x80\x80\"}"; "beyond unicode")]
#[test_case(b"{\"a\":\"\xff\"}"; "no utf-8")]
#[test_case(br#"{"a":1,"a":1}"#; "a key twice")]
#[test_case(br#"{"a":1,"\u0061":2}"#; "a key twice, once escaped")]
#[test_case(br#"{"a":{"b":1,"c":{},"b":2}}"#; "a key twice inside")]
#[test_case(br#"{"a":[{},{"b":1,"b":2}]}"#; "a key twice in a list")]
#[test_case(br#"{"a":1,"A":2}"#; "a key in two cases")]
#[test_case(br#"{"droplet_id":1,"dropletId":2}"#; "a key in two conventions")]
#[test_case(br#"{"a_b":1,"a-b":2}"#; "a key with a hyphen")]
#[test_case("{\"keys\":1,\"\u{212a}eys\":2}".as_bytes(); "a key with a kelvin sign")]
#[test_case("{\"tags\":1,\"tag\u{17f}\":2}".as_bytes(); "a key with a long s")]
#[test_case(br#"{"a":{"x":{"c":1,"C":2}}}"#; "a key in two cases, inside")]
fn anything_else_is_malformed(bytes: &[u8]) {
    let error = parse(bytes, None, &[]).unwrap_err();
    assert_eq!(error.reason(), Reason::BodyMalformed, "{error}");
}

#[test_case(MAX_DEPTH, true)]
#[test_case(MAX_DEPTH + 1, false)]
#[test_case(100_000, false)]
fn only_so_deep(depth: usize, expected: bool) {
    let arrays = format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert_eq!(parse(arrays.as_bytes(), None, &[]).is_ok(), expected);
    let objects = format!("{}{{}}{}", "{\"a\":".repeat(depth - 1), "}".repeat(depth - 1));
    assert_eq!(parse(objects.as_bytes(), None, &[]).is_ok(), expected);
}

#[test]
fn every_prefix_of_a_document_is_refused() {
    let whole = "{\"name\": \"a\\u20ac€\", \"other\": [\"b\", -1.5e3, true], \"volumes\": [{\"id\": \"v\"}]}";
    assert!(parse(whole.as_bytes(), operation("droplets_create"), &[]).is_ok());
    for end in 1..whole.len() {
        assert!(parse(&whole.as_bytes()[..end], operation("droplets_create"), &[]).is_err(), "{end}");
    }
}

#[test_case("droplets_create", r#"{"Tags":["a"]}"#, "`tags`"; "case")]
#[test_case("droplets_create", r#"{"sshKeys":[1]}"#, "`ssh_keys`"; "camel case")]
#[test_case("droplets_create", r#"{"vpc-uuid":"a"}"#, "`vpc_uuid`"; "hyphen")]
#[test_case("droplets_create", "{\"tag\u{17f}\":[]}", "`tags`"; "long s")]
#[test_case("droplets_create", r#"{"volumes":[{"ID":"v"}]}"#, "`id`"; "in a list")]
#[test_case("dropletActions_post", r#"{"TYPE":"snapshot"}"#, "`type`"; "the action")]
#[test_case("dropletActions_post", r#"{"type":"reboot","type ":"snapshot"}"#, "`type`"; "a blank")]
#[test_case("firewalls_create", r#"{"inbound_rules":[{"sources":{"Tags":["a"]}}]}"#, "`tags`"; "deep inside")]
#[test_case("firewalls_create", r#"{"inboundRules":[]}"#, "`inbound_rules`"; "on the way")]
#[test_case("tags_assign_resources", r#"{"resources":[{"resourceType":"droplet"}]}"#, "`resource_type`"; "the kind")]
#[test_case("databases_update_firewall_rules", r#"{"rules":[{"Type":"tag","value":"a"}]}"#, "`type`"; "the kind beside")]
fn another_spelling_of_a_deciding_key_is_malformed(name: &str, body: &str, expected: &str) {
    let error = parse(body.as_bytes(), operation(name), &[]).unwrap_err().to_string();
    assert!(error.contains("another spelling") && error.contains(expected), "{error}");
}

#[test]
fn a_key_that_a_policy_speaks_of_may_not_be_respelled_anywhere() {
    let names = ["user_data"];
    assert!(parse(br#"{"user_data":1,"a":{"user_data":2}}"#, None, &names).is_ok());
    for body in [&br#"{"userData":1}"#[..], br#"{"a":[{"USER_DATA":1}]}"#] {
        assert!(parse(body, None, &names).unwrap_err().to_string().contains("write `user_data`"));
    }
}

#[test_case(r#"{"name":"c","node_pools":[{"labels":{"Name":"a","name":"b","Tags":"c","tags":1}}]}"#; "any spelling in a map")]
#[test_case(r#"{"name":"c","node_pools":[{"labels":{"a":{"Size":1,"size":2}}}]}"#; "and inside it")]
fn the_keys_of_a_free_form_map_are_the_clients_own(body: &str) {
    assert!(parse(body.as_bytes(), operation("kubernetes_create_cluster"), &["size"]).is_ok());
}

#[test]
fn a_key_of_a_map_may_still_not_stand_there_twice() {
    let body = br#"{"node_pools":[{"labels":{"a":1,"a":2}}]}"#;
    assert!(parse(body, operation("kubernetes_create_cluster"), &[]).is_err());
}

#[test_case("droplets_destroy_byTag", r#"{"tag_name":"b"}"#; "the parameter")]
#[test_case("droplets_destroy_byTag", r#"{"tagName":"b"}"#; "another spelling of it")]
#[test_case("volumes_delete_byName", r#"{"name":"b"}"#; "one of two")]
#[test_case("dropletActions_post_byTag", r#"{"type":"reboot","tag_name":"b"}"#; "beside the body's own")]
fn what_the_query_decides_may_not_stand_in_the_body(name: &str, body: &str) {
    let error = parse(body.as_bytes(), operation(name), &[]).unwrap_err().to_string();
    assert!(error.contains("belongs in the query"), "{error}");
}

#[test_case("droplets_create", r#"{"tags":"a"}"#, "single value in place of a list"; "a string for a list")]
#[test_case("droplets_create", r#"{"tags":{"0":"a"}}"#, "object in place of a list"; "an object for a list")]
#[test_case("droplets_create", r#"{"tags":[["a"]]}"#, "list in place of a name"; "a list in a list")]
#[test_case("droplets_create", r#"{"tags":[{"name":"a"}]}"#, "object in place of a name"; "an object for a name")]
#[test_case("droplets_create", r#"{"tags":[true]}"#, "boolean"; "a boolean")]
#[test_case("droplets_create", r#"{"image":1.5}"#, "no exact integer"; "a float")]
#[test_case("droplets_create", r#"{"image":1.0}"#, "no exact integer"; "a float that is whole")]
#[test_case("droplets_create", r#"{"image":9007199254740993}"#, "no exact integer"; "an integer that floats round")]
#[test_case("droplets_create", r#"{"volumes":[{"uuid":"v"}]}"#, "object in place of a name"; "an object of another kind")]
#[test_case("droplets_create", r#"{"volumes":{"id":"v"}}"#, "object in place of a list"; "an object that is no list")]
#[test_case("autoscalepools_create", r#"{"droplet_template":"a"}"#, "single value in place of an object"; "a string for an object")]
#[test_case("autoscalepools_create", r#"{"droplet_template":[{"tags":[]}]}"#, "list in place of an object"; "a list for an object")]
#[test_case("projects_assign_resources", r#"{"resources":["droplet:1"]}"#, "is no URN"; "no urn")]
#[test_case("projects_assign_resources", r#"{"resources":["do:droplet:"]}"#, "is no URN"; "a urn without an id")]
#[test_case("projects_assign_resources", r#"{"resources":{"0":"do:droplet:1"}}"#, "object in place of a list"; "urns by number")]
#[test_case("tags_assign_resources", r#"{"resources":[{"resource_id":"1"}]}"#, "no plain word beside it"; "no kind")]
#[test_case("tags_assign_resources", r#"{"resources":[{"resource_id":"1","resource_type":1}]}"#, "no plain word beside it"; "a number for a kind")]
#[test_case("tags_assign_resources", r#"{"resources":["1"]}"#, "single value in place of an object"; "no object")]
fn other_types_than_the_apis_are_malformed(name: &str, body: &str, expected: &str) {
    let error = parse(body.as_bytes(), operation(name), &[]).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test_case("droplets_create", r#"{"name":null,"tags":null,"volumes":[null],"image":"debian-12-x64","size":""}"#; "what says nothing")]
#[test_case("droplets_create", r#"{"image":9007199254740992,"ssh_keys":[1,"a"]}"#; "integers and strings")]
#[test_case("firewalls_create", r#"{"inbound_rules":[null,{"sources":null}],"outbound_rules":null}"#; "null on the way")]
#[test_case("loadBalancers_create", r#"{"glb_settings":{"region_priorities":{"nyc3":1,"NYC3":2}}}"#; "a map beside")]
fn the_apis_own_types_pass(name: &str, body: &str) {
    assert!(parse(body.as_bytes(), operation(name), &[]).is_ok());
}

#[test]
fn messages_tell_the_place_and_no_value() {
    let error =
        parse(b"{\"secret\": \"hunter2\",\n \"secret\": \"hunter3\"}", None, &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "the body decides what this request does, and is not JSON that every server reads alike: the key `secret` \
         stands twice in one object at line 2 column 9"
    );
    let error = parse(br#"{"tags":["hunter2",["hunter3"]]}"#, operation("droplets_create"), &[]).unwrap_err();
    assert!(error.to_string().ends_with("has a list in place of a name or id at `/tags/1`"), "{error}");
    let long = format!("{{\"a{0}\":1,\"a{0}\":2}}", "\u{1b}".repeat(100).escape_default());
    let error = parse(long.replace("\\u{1b}", "\\u001b").as_bytes(), None, &[]).unwrap_err().to_string();
    assert!(error.len() < 700 && !error.contains('\u{1b}'), "{error}");
}

fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-zA-Z_ \\-\u{0}\u{17f}\u{20ac}]{0,6}",
        Just("tags".to_owned()),
        Just("type".to_owned())
    ];
    let number = prop_oneof![any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from)];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        text.clone().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let object = prop::collection::hash_map(text.clone(), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_read_is_what_another_reader_reads(document in json()) {
        let bytes = serde_json::to_vec(&document).unwrap();
        for operation in [None, operation("droplets_create"), operation("firewalls_update")] {
            if let Ok(read) = parse(&bytes, operation, &["size"]) {
                prop_assert_eq!(read, Some(serde_json::from_slice::<Value>(&bytes).unwrap()));
            }
        }
    }

    #[test]
    fn nothing_is_read_that_is_no_json(bytes in prop::collection::vec(any::<u8>(), 1..60)) {
        if parse(&bytes, None, &[]).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
        }
    }

    #[test]
    fn nothing_is_read_that_nearly_is_json(text in "[{}\\[\\]\",:a\\\\u01e.\\- ]{1,40}") {
        if parse(text.as_bytes(), None, &[]).is_ok() {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
    }
}
