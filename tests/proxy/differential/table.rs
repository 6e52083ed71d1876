//! The table: what both protocols can carry, and what must arrive.

use super::{
    protocols::{authorities, framing, pseudo_headers},
    row::{
        BODY, DROPLETS, JSON, KIND, MALFORMED, METHOD, OVERRIDE, PATH, QUERY, Row, SIZE, by_tag, get, json,
        raw, replaced, typed, with,
    },
};
use flate2::{Compression, write::GzEncoder};
use std::io::Write as _;

pub(super) fn rows(limit: usize) -> Vec<Row> {
    [
        paths(),
        queries(),
        documents(),
        types(limit),
        methods(),
        framing(limit),
        authorities(),
        pseudo_headers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn paths() -> Vec<Row> {
    let refused = [
        ("an escaped dot", "/v2/%2e/droplets"),
        ("escaped dots", "/v2/droplets/%2e%2e/account"),
        ("escaped dots, half", "/v2/droplets/.%2E/account"),
        ("dots", "/v2/droplets/../account"),
        ("a dot", "/v2/./droplets"),
        ("dots at the end", "/v2/droplets/.."),
        ("an escaped slash", "/v2%2fdroplets"),
        ("an escaped slash in an id", "/v2/droplets/1%2Factions"),
        ("an escaped slash and dots", "/v2/droplets/..%2faccount"),
        ("two slashes", "/v2//droplets"),
        ("two slashes in front", "//v2/droplets"),
        ("two slashes at the end", "/v2/droplets//"),
        ("a parameter", "/v2/droplets;x=1"),
        ("a parameter in the middle", "/v2;x/droplets"),
        ("dots with a parameter", "/v2/droplets/..;/account"),
        ("an escaped semicolon", "/v2/droplets/1%3bx"),
        ("an escaped backslash", "/v2/droplets%5c1"),
        ("an escaped NUL", "/v2/droplets/1%00"),
        ("an escaped NUL before a suffix", "/v2/droplets/1%00.json"),
        ("an overlong dot", "/v2/droplets/%c0%ae%c0%ae/account"),
        ("an overlong slash", "/v2/droplets%c0%af1"),
        ("an overlong slash of three bytes", "/v2/droplets%e0%80%af1"),
        ("a fullwidth slash", "/v2/droplets%ef%bc%8f1"),
        ("escaped twice", "/v2/droplets/%252e%252e/account"),
        ("half an escape", "/v2/droplets/1%2"),
        ("no escape", "/v2/droplets/1%zz"),
        ("an escape of another kind", "/v2/droplets/%u002e"),
        ("an escaped letter", "/v2/dropl%65ts"),
        ("an escaped question mark", "/v2/droplets%3fpage=1"),
        ("an escaped number sign", "/v2/droplets/1%23x"),
        ("an escaped line break", "/v2/droplets/1%0d%0aHost:%20x"),
        ("capitals", "/V2/Droplets"),
        ("a file name extension", "/v2/droplets.json"),
    ];
    let mut rows: Vec<Row> = refused.iter().map(|(name, target)| get(name, target, PATH)).collect();
    rows.push(get("a backslash", "/v2/droplets\\1", PATH));
    rows.push(get("a backslash and dots", "/v2/droplets\\..\\account", PATH));
    rows.push(get("a NUL", b"/v2/droplets/1\0", MALFORMED).resetting());
    rows.push(get("an overlong slash, unescaped", b"/v2/droplets\xc0\xaf1", MALFORMED).resetting());
    rows.push(raw("a letter of UTF-8", "GET /v2/droplets/\u{e9} HTTP/1.1\r\nHost: H\r\n\r\n", MALFORMED));
    rows.push(replaced("a letter of UTF-8", (":path", "/v2/droplets/\u{e9}"), PATH));
    rows.push(get("a tab", "/v2/droplets\t", MALFORMED).resetting());
    rows.push(get("a blank", "/v2/droplets 1", MALFORMED).resetting());
    rows
}

fn queries() -> Vec<Row> {
    let ambiguous = [
        ("a key twice", "tag_name=a&tag_name=b"),
        ("a key twice, one without a value", "tag_name=a&tag_name"),
        ("a key in capitals", "Tag_Name=a"),
        ("a key in two spellings", "tag_name=a&TAG_NAME=b"),
        ("a key in camel case", "tagName=a"),
        ("a key with a hyphen", "tag-name=a"),
        ("a key with brackets", "tag_name[]=a"),
        ("a key with escaped brackets", "tag_name%5B0%5D=a"),
        ("a key with an escape", "tag%5fname=a"),
        ("a key escaped twice", "tag%255fname=a"),
        ("a key with NUL", "tag_name%00x=a"),
        ("a key with a blank", "+tag_name=a"),
        ("a key with a dot", "tag.name=a"),
        ("a key behind a semicolon", "page=1;tag_name=a"),
        ("a semicolon in its value", "tag_name=a;b"),
        ("another key twice", "tag_name=a&page=1&page=2"),
        ("a value that is no UTF-8", "tag_name=a%83b"),
        ("an overlong letter in a value", "tag_name=%c1%a1"),
        ("NUL in a value", "tag_name=a%00b"),
    ];
    let mut rows: Vec<Row> = ambiguous.iter().map(|(name, query)| by_tag(name, query, QUERY)).collect();
    for (name, query) in [("half an escape", "tag_name=%4"), ("no escape", "tag_name=%zz")] {
        rows.push(by_tag(name, query, MALFORMED));
    }
    rows.push(get("a query that is no ASCII", b"/v2/droplets?name=\xff", MALFORMED).resetting());
    rows.push(get("a query with UTF-8", "/v2/droplets?name=\u{e9}", MALFORMED));
    for (name, query) in [
        ("a method in the query", "_method=GET"),
        ("a method in the query, escaped", "%5Fmethod=GET"),
        ("a method in the query, in brackets", "_method[]=GET"),
        ("a method in the query, behind a semicolon", "page=1;_METHOD=GET"),
    ] {
        rows.push(by_tag(name, query, OVERRIDE));
    }
    let target = format!("{DROPLETS}?tags[]=x");
    rows.push(
        Row::plain("what the body decides, in the query", "POST", &target, Some(JSON), Some(b"{}".to_vec()))
            .refused(QUERY),
    );
    rows
}

fn documents() -> Vec<Row> {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let wide = |units: &dyn Fn(u16) -> [u8; 2], mark: &[u8]| {
        [mark, &"{\"name\":\"a\"}".encode_utf16().flat_map(units).collect::<Vec<u8>>()].concat()
    };
    let texts = [
        ("a key twice", r#"{"tags":null,"tags":["x"]}"#),
        ("a key twice, alike", r#"{"name":"a","name":"a"}"#),
        ("a key twice, escaped", r#"{"tags":null,"\u0074ags":["x"]}"#),
        ("a key twice, in an object", r#"{"a":{"b":1,"b":2}}"#),
        ("a key twice, in a list", r#"{"volumes":["a",{"id":"1","id":"2"}]}"#),
        ("a key in capitals", r#"{"Tags":["x"]}"#),
        ("a key in two spellings", r#"{"tags":null,"TAGS":["x"]}"#),
        ("any key in two spellings", r#"{"a_b":1,"aB":2}"#),
        ("a key in camel case", r#"{"sshKeys":[1]}"#),
        ("a key with a hyphen", r#"{"vpc-uuid":"x"}"#),
        ("a key with a letter that folds", r#"{"ſsh_keys":[1]}"#),
        ("a key with a blank", r#"{"tags ":["x"]}"#),
        ("a key with NUL", r#"{"tags\u0000":["x"]}"#),
        ("a value with NUL", r#"{"name":"a\u0000b"}"#),
        ("not a number", r#"{"a":NaN}"#),
        ("infinity", r#"{"a":Infinity}"#),
        ("minus infinity", r#"{"a":-Infinity}"#),
        ("a number beyond a double", r#"{"a":1e400}"#),
        ("an integer beyond 64 bits", r#"{"a":100000000000000000000000}"#),
        ("an id that a double does not hold", r#"{"ssh_keys":[9007199254740993]}"#),
        ("an id that is no integer", r#"{"ssh_keys":[1.5]}"#),
        ("a leading zero", r#"{"a":01}"#),
        ("a plus sign", r#"{"a":+1}"#),
        ("hexadecimal", r#"{"a":0x1}"#),
        ("a second document", r#"{"name":"a"}{"name":"b"}"#),
        ("a second document, on a line", "{\"name\":\"a\"}\n{\"name\":\"b\"}"),
        ("something behind", r#"{"name":"a"} x"#),
        ("NUL behind", "{\"name\":\"a\"}\0"),
        ("a comma too many", r#"{"name":"a",}"#),
        ("a comment", r#"{"name":"a"/*,"tags":["x"]*/}"#),
        ("a line comment", "{\"name\":\"a\"} // x"),
        ("single quotes", "{'name':'a'}"),
        ("a bare key", r#"{name:"a"}"#),
        ("a line break in a text", "{\"name\":\"a\nb\"}"),
        ("an unknown escape", r#"{"name":"\x41"}"#),
        ("half a surrogate", r#"{"name":"\ud800"}"#),
        ("a broken document", r#"{"name":"a""#),
        ("a form feed", "\u{c}{\"name\":\"a\"}"),
        ("a guard before JSON", ")]}',\n{\"name\":\"a\"}"),
        ("a list", r#"[{"name":"a"}]"#),
        ("a text", r#""name""#),
        ("a number", "1"),
        ("null", "null"),
        ("nothing but blanks", "  "),
        ("a form", "name=a&tags[]=x"),
        ("an object for a list", r#"{"tags":{"0":"x"}}"#),
        ("a text for a list", r#"{"tags":"x"}"#),
        ("an object for a name", r#"{"vpc_uuid":{"id":"x"}}"#),
        ("a boolean for a name", r#"{"vpc_uuid":true}"#),
        ("a byte order mark", "\u{feff}{\"name\":\"a\"}"),
    ];
    let mut rows: Vec<Row> = texts.iter().map(|(name, text)| json(name, text)).collect();
    rows.push(json("65 lists deep", nested(64)));
    rows.push(json("2,000 lists deep", nested(2000)));
    rows.push(json("UTF-16, big end first", wide(&u16::to_be_bytes, &[])));
    rows.push(json("UTF-16, little end first", wide(&u16::to_le_bytes, &[])));
    rows.push(json("UTF-16 with a mark", wide(&u16::to_be_bytes, b"\xfe\xff")));
    rows.push(json("an overlong letter", b"{\"name\":\"\xc1\xa1\"}"));
    rows.push(json("an overlong quote", b"{\"name\":\"a\xc0\xa2,\"}"));
    rows.push(json("Latin-1", b"{\"name\":\"\xe9\"}"));
    rows.push(json("a surrogate in UTF-8", b"{\"name\":\"\xed\xa0\x80\"}"));
    rows
}

fn types(limit: usize) -> Vec<Row> {
    let gzip = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(br#"{"name":"a","tags":["x"]}"#).unwrap();
        encoder.finish().unwrap()
    };
    let plain = br#"{"name":"a"}"#;
    let large = vec![b' '; limit + 1];
    let mut rows = vec![
        typed("no type", &[], plain, KIND),
        typed("an empty type", &[("content-type", "")], plain, KIND),
        typed("two types", &[("content-type", JSON), ("content-type", "text/plain")], plain, MALFORMED),
        typed(
            "compressed and said to be",
            &[("content-type", JSON), ("content-encoding", "gzip")],
            &gzip,
            KIND,
        ),
        typed("compressed and not said to be", &[("content-type", JSON)], &gzip, BODY),
        typed(
            "of two encodings",
            &[("content-type", JSON), ("content-encoding", "identity, gzip")],
            plain,
            KIND,
        ),
        json("larger than what is read", &large).refused(SIZE),
    ];
    for kind in [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json, text/plain",
        "application/json;",
        "application/jsonp",
        "application/vnd.api+json",
        "application/xml",
    ] {
        rows.push(typed("another type", &[("content-type", kind)], plain, KIND));
    }
    for coding in ["deflate", "br", "zstd", "x-gzip", "unheard-of", "gzip, identity", ""] {
        rows.push(typed("encoded", &[("content-type", JSON), ("content-encoding", coding)], plain, KIND));
    }
    rows
}

fn methods() -> Vec<Row> {
    let headers = ["x-http-method-override", "x-http-method", "x-method-override", "x_http_method_override"];
    let mut rows: Vec<Row> =
        headers.iter().map(|header| with("a method in a header", (header, "DELETE"), OVERRIDE)).collect();
    for header in ["x-original-url", "x-rewrite-url", "x_original_url"] {
        rows.push(with("a path in a header", (header, "/v2/account"), MALFORMED));
    }
    let form = |kind, body: &str| {
        Row::plain("a method in a form", "POST", "/v2/domains", kind, Some(body.as_bytes().to_vec()))
            .refused(OVERRIDE)
    };
    rows.push(form(Some("application/x-www-form-urlencoded"), "name=a&_method=DELETE"));
    rows.push(form(Some("application/x-www-form-urlencoded; charset=utf-8"), "%5Fmethod=DELETE"));
    rows.push(form(None, "_method=DELETE"));
    rows.push(form(Some("multipart/form-data; boundary=x"), "--x--"));
    for method in ["TRACE", "PROPFIND", "PURGE", "get", "Delete", "LINK"] {
        let row = Row::plain("another method", method, "/v2/droplets", None, None);
        rows.push(row.refused(METHOD));
    }
    rows
}

type Control = (&'static str, &'static str, &'static str, Option<&'static str>, Option<&'static [u8]>);

/// Name, method, target, type, body.
pub(super) const CONTROLS: &[Control] = &[
    ("a tag with a blank", "DELETE", "/v2/droplets?tag_name=a%20b", None, None),
    ("a slash in a name that can hold one", "GET", "/v2/registry/r/repositories/a%2Fb/tags", None, None),
    ("escapes and signs", "GET", "/v2/droplets?name=%25%2e&x=a;b", None, None),
    ("a value that is like a key", "GET", "/v2/droplets?name=_method", None, None),
    (
        "blanks, escapes and letters of all kinds",
        "POST",
        DROPLETS,
        Some(JSON),
        Some("\t{ \"name\" : \"\\u0061\u{feff}\u{e9}\\ud83d\\ude00\" ,\r\n \"tags\":[ \"\\\"\" ] , \"x\":1.50e1}\n ".as_bytes()),
    ),
    ("one key in several objects", "POST", DROPLETS, Some(JSON), Some(br#"{"volumes":[{"id":"1"},{"id":"2"}],"a":{"id":1}}"#)),
    ("a character set", "POST", DROPLETS, Some("application/json; charset=UTF-8"), Some(br#"{"name":"a"}"#)),
    ("an empty object", "POST", DROPLETS, Some(JSON), Some(b"{}")),
    ("a type and no body", "POST", DROPLETS, Some(JSON), None),
    ("a body that decides nothing", "GET", "/v2/account", Some("text/plain"), Some(b"\xff\0{")),
    ("JSON that decides nothing", "POST", "/v2/domains", Some(JSON), Some(br#"{"name":"a","name":"b"}"#)),
];
