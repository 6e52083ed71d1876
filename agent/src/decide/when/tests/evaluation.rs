//! What conditions answer.

use super::*;
use test_case::test_case;

const SIZE_OR_REGION: &str =
    r#"request.body.size.startsWith("gpu-") || !(request.body.region in ["nyc3", "ams3"])"#;

#[test_case(json!({"size": "gpu-h100x1-80gb", "region": "nyc3"}), "true"; "a size that is meant")]
#[test_case(json!({"size": "s-1vcpu-1gb", "region": "sfo3"}), "true"; "another region")]
#[test_case(json!({"size": "s-1vcpu-1gb", "region": "ams3"}), "false"; "neither")]
#[test_case(json!({"size": "gpu-h100x1-80gb"}), "true"; "a size that decides without a region")]
#[test_case(json!({"region": "sfo3"}), "true"; "a region that decides without a size")]
#[test_case(json!({"size": "s-1vcpu-1gb"}), "`request.body.region` is not given; test for it with `has`"; "no region")]
#[test_case(json!({"region": "nyc3"}), "`request.body.size` is not given; test for it with `has`"; "no size")]
#[test_case(json!({"size": 3, "region": "nyc3"}), "`request.body.size` is an int, and has to be a string"; "a number for a size")]
#[test_case(json!({"size": null, "region": "nyc3"}), "`request.body.size` is null, and has to be a string"; "null for a size")]
#[test_case(json!({"size": "s-1", "region": null}), "true"; "null for a region is in no list")]
fn sizes_and_regions_of_a_droplet(body: Json, expected: &str) {
    assert_eq!(Asked::with_body(body).asked(SIZE_OR_REGION), expected);
}

#[test_case(json!({"grants": [{"bucket": "mine", "permission": "read"}]}), "true"; "one that fits")]
#[test_case(json!({"grants": [{"bucket": "mine"}, {"bucket": "other"}]}), "false"; "one that does not")]
#[test_case(json!({"grants": [{"permission": "read"}, {"bucket": "other"}]}), "false"; "one that decides in spite of an error")]
#[test_case(json!({"grants": [{"bucket": "mine"}, {"permission": "fullaccess"}]}),
    "`g.bucket` is not given; test for it with `has`"; "one without a bucket")]
#[test_case(json!({"grants": []}), "true"; "none")]
#[test_case(json!({"grants": "mine"}), "`request.body.grants` is a string, and has to be a list"; "no list")]
#[test_case(json!({"grants": ["mine"]}), "`g` is a string, and has to be a map"; "texts")]
#[test_case(json!({"name": "key"}), "`request.body.grants` is not given; test for it with `has`"; "no grants")]
fn keys_of_one_bucket(body: Json, expected: &str) {
    let asked = Asked::for_operation("spacesKey_create", body);
    assert_eq!(asked.asked(r#"request.body.grants.all(g, g.bucket == "mine")"#), expected);
    let not_empty = r#"request.body.grants.size() > 0 && request.body.grants.all(g, g.bucket == "mine")"#;
    let expected =
        if expected == "true" && asked.body == Some(json!({"grants": []})) { "false" } else { expected };
    assert_eq!(asked.asked(not_empty), expected);
}

/// `T`, `F` and `E`, an error.
fn side(letter: char) -> &'static str {
    match letter {
        'T' => "true",
        'F' => "false",
        _ => "request.body.backups",
    }
}

#[test]
fn one_side_that_decides_is_enough() {
    let rows = [
        ("TT", "TT"),
        ("TF", "FT"),
        ("FT", "FT"),
        ("FF", "FF"),
        ("TE", "ET"),
        ("ET", "ET"),
        ("FE", "FE"),
        ("EF", "FE"),
        ("EE", "EE"),
    ];
    for (sides, results) in rows {
        let mut letters = sides.chars().map(side);
        let (left, right) = (letters.next().unwrap(), letters.next().unwrap());
        for (operator, result) in ["&&", "||"].into_iter().zip(results.chars()) {
            let answer = Asked::default().asked(&format!("{left} {operator} {right}"));
            let expected = if result == 'E' {
                "`request.body.backups` is not given; test for it with `has`"
            } else {
                side(result)
            };
            assert_eq!(answer, expected, "{left} {operator} {right}");
        }
    }
}

#[test]
fn fields_are_there_or_not() {
    let body = json!({"size": "", "region": null, "backup_policy": {"plan": "daily"}, "tags": [], "ssh_keys": [1, "k"]});
    let given = Asked::with_body(body);
    let rows = [
        ("has(request.body)", "true", "false"),
        ("has(request.body.size)", "true", "false"),
        ("has(request.body.region)", "true", "false"),
        ("has(request.body.image)", "false", "false"),
        (
            "has(request.body.backup_policy.plan)",
            "true",
            "`request.body.backup_policy` is not given; test for it with `has`",
        ),
        (
            "has(request.body.backup_policy.hour)",
            "false",
            "`request.body.backup_policy` is not given; test for it with `has`",
        ),
        ("has(request.body.backup_policy) && has(request.body.backup_policy.hour)", "false", "false"),
        ("!has(request.body.image) || request.body.image == 'x'", "true", "true"),
        ("request.body.region == null", "true", "`request.body.region` is not given; test for it with `has`"),
        ("request.body['size'] == ''", "true", "`request.body.size` is not given; test for it with `has`"),
        ("request.body.tags.size() == 0", "true", "`request.body.tags` is not given; test for it with `has`"),
        (
            "request.body.ssh_keys[1] == 'k'",
            "true",
            "`request.body.ssh_keys` is not given; test for it with `has`",
        ),
        (
            "request.body.ssh_keys[2] == 'k'",
            "`request.body.ssh_keys` has no element of that number",
            "`request.body.ssh_keys` is not given; test for it with `has`",
        ),
        (
            "request.body.ssh_keys[0 - 1] == 'k'",
            "`request.body.ssh_keys` has no element of that number",
            "`request.body.ssh_keys` is not given; test for it with `has`",
        ),
        (
            "request.body.ssh_keys[0] < 2 && request.body.ssh_keys[1] < 'l'",
            "true",
            "`request.body.ssh_keys` is not given; test for it with `has`",
        ),
    ];
    for (text, with_body, without) in rows {
        assert_eq!(given.asked(text), with_body, "{text}");
        assert_eq!(Asked::default().asked(text), without, "{text}");
    }
}

#[test]
fn a_body_that_is_no_map_has_no_fields() {
    let message = "`request.body` is a list, and has to be a map";
    assert_eq!(Asked::with_body(json!([{"size": "x"}])).asked("request.body.size == 'x'"), message);
    assert_eq!(Asked::with_body(json!([])).asked("has(request.body.size)"), message);
}

#[test]
fn operators_and_functions_compute() {
    let body = json!({"name": "Web-1", "tags": ["a", "b", "c"], "image": 18_446_744_073_709_551_615_u64,
        "backup_policy": {"hour": 4, "retention_period_days": 1e3}, "names": ["é", ""], "user_data": "9"});
    let asked = Asked::with_body(body);
    let rows = [
        ("1 + 2 * 3 == 7 && 7 / 2 == 3 && -7 % 4 == -3 && 2 - 5 == -3", "true"),
        ("1.5 * 2.0 == 3.0 && 1u + 1u == 2u && -(1.5) < 0.0", "true"),
        ("request.body.backup_policy.hour + 1 == 5", "true"),
        ("request.body.backup_policy.hour == 4.0 && request.body.backup_policy.hour < 4.5", "true"),
        ("request.body.backup_policy.retention_period_days == 1000", "true"),
        ("request.body.image > 9223372036854775807 && request.body.image == 18446744073709551615u", "true"),
        ("9007199254740993 > 9007199254740992.0 && 1u == 1 && 1u == 1.0 && -1 < 0u", "true"),
        ("request.body.name.lowerAscii() == 'web-1' && request.body.name.endsWith('-1')", "true"),
        ("request.body.name.contains('b-') && !request.body.name.contains('B-')", "true"),
        ("request.body.name.size() == 5 && size(request.body.names[0]) == 1", "true"),
        ("request.body.name + '!' == 'Web-1!' && 'a' < 'b' && false < true", "true"),
        ("request.body.tags == ['a', 'b', 'c'] && request.body.tags != ['a']", "true"),
        ("request.body.tags + ['d'] == ['a', 'b', 'c', 'd']", "true"),
        ("'a' in request.body.tags && !('d' in request.body.tags) && !('x' in [])", "true"),
        ("request.body.tags.exists(t, t == 'c') && !request.body.tags.exists(t, t == 'd')", "true"),
        ("request.body.tags.exists_one(t, t > 'b') && !request.body.tags.exists_one(t, t > 'a')", "true"),
        ("request.body.tags.filter(t, t != 'b') == ['a', 'c']", "true"),
        ("request.body.tags.map(t, t + '!') == ['a!', 'b!', 'c!']", "true"),
        ("request.body.tags.map(t, t != 'b', t.size()) == [1, 1]", "true"),
        ("request.body.tags.all(t, request.body.tags.exists(u, u >= t))", "true"),
        ("[1, 2].all(request, request < 3) && request.method == 'POST'", "true"),
        ("request.body.backup_policy == request.body.backup_policy", "true"),
        ("string(4) == '4' && string(true) == 'true' && string('x') == 'x' && string(2u) == '2'", "true"),
        ("int('42') == 42 && int(4.9) == 4 && int(-4.9) == -4 && int(3u) == 3 && int(1) == 1", "true"),
        ("int(request.body.user_data) == 9", "true"),
        ("request.method == 'POST' ? request.body.name == 'Web-1' : request.body.region == 'x'", "true"),
        ("request.operation == 'droplets_create' && request.path == '/v2/droplets'", "true"),
        ("int(request.body.name) == 1", "`request.body.name` is no int"),
        ("int(request.body.image) == 1", "`request.body.image` is no int"),
        ("9223372036854775807 + 1 == 0", "the result of `+` is out of range"),
        ("1 / 0 == 0", "the result of `/` is out of range"),
        ("-request.body.backup_policy.hour == -4 && 5 % 0 == 0", "the result of `%` is out of range"),
        (
            "request.body.image + 1 == 0",
            "`+` takes two of the same kind, and `request.body.image` is a uint, `1` is an int",
        ),
        (
            "request.body.backup_policy.retention_period_days + 1 == 0",
            "`+` takes two of the same kind, and `request.body.backup_policy.retention_period_days` is a double, `1` is an int",
        ),
        (
            "request.body.image > 'a'",
            "`request.body.image` is a uint and `\"a\"` is a string: they have no order",
        ),
        (
            "request.body.image.size() == 1",
            "`request.body.image` is a uint, and has to be a string or a list or a map",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(asked.asked(text), expected, "{text}");
    }
}

#[test_case("a=1&tag_name=web", "true"; "the parameter")]
#[test_case("tag_name=w%65b", "true"; "with an escape in the value")]
#[test_case("tag%5Fname=web", "true"; "with an escape in the name")]
#[test_case("tag_name=web+1", "false"; "with a blank")]
#[test_case("tag_name=", "false"; "an empty one")]
#[test_case("tag_name", "false"; "one without a value")]
#[test_case("a=tag_name", "`request.query.tag_name` is not given; test for it with `has`"; "another")]
#[test_case("", "`request.query.tag_name` is not given; test for it with `has`"; "none")]
#[test_case("tag_name=web&tag_name=web", "`request.query.tag_name` is given twice"; "twice")]
#[test_case("tag_name=web&tag%5fname=db", "`request.query.tag_name` is given twice"; "twice in two spellings")]
#[test_case("tag_name=web&tag_name[]=db", AMBIGUOUS; "also as a list")]
#[test_case("tag_name%5B0%5D=web", AMBIGUOUS; "as a list")]
#[test_case("a=1;tag_name=web", AMBIGUOUS; "behind a semicolon")]
#[test_case("+tag_name=web", AMBIGUOUS; "behind a blank")]
#[test_case("tag_name=%ff", AMBIGUOUS; "bytes that are no text")]
#[test_case("tag_name=%+f", AMBIGUOUS; "a broken escape")]
#[test_case("tag_name=%f", AMBIGUOUS; "half an escape")]
fn a_query_has_one_reading(query: &str, expected: &str) {
    assert_eq!(Asked::with_query(query).asked("request.query.tag_name == 'web'"), expected);
}

const AMBIGUOUS: &str = "some servers read another `request.query.tag_name` than others";

#[test]
fn parameters_can_be_tested_for() {
    let text = "has(request.query.tag_name)";
    for (query, expected) in [("tag_name=x", "true"), ("tag_name", "true"), ("tag=x", "false"), ("", "false")]
    {
        assert_eq!(Asked::with_query(query).asked(text), expected, "{query}");
    }
    assert_eq!(Asked::with_query("tag_name[]=x").asked(text), AMBIGUOUS);
}

#[test]
fn headers_are_read_by_name() {
    let headers: [(&str, &[u8]); 5] = [
        ("user-agent", b"doctl/1.2"),
        ("accept", b"application/json"),
        ("accept", b"text/html"),
        ("x-request-id", b"\xff"),
        ("authorization", b"Bearer x"),
    ];
    let asked = Asked::with_headers(&headers);
    let rows = [
        ("request.headers.user_agent.startsWith('doctl/')", "true"),
        ("request.headers['User-Agent'] == 'doctl/1.2'", "true"),
        ("has(request.headers.user_agent) && !has(request.headers.content_type)", "true"),
        ("request.headers.accept == 'x'", "the header `accept` is given twice"),
        ("request.headers.x_request_id == 'x'", "the header `x-request-id` is no plain text"),
        (
            "request.headers.content_type == 'x'",
            "`request.headers.content_type` is not given; test for it with `has`",
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(asked.asked(text), expected, "{text}");
    }
}

#[test]
fn callers_are_told_apart() {
    let caller = Caller {
        pid: Some(7),
        uid: Some(1000),
        executable: Some("/usr/bin/doctl"),
        cgroup: Some("/ci.slice/a"),
        ..Asked::default().caller
    };
    let known = Asked { caller, ..Asked::default() };
    let rows = [
        (
            "process.uid == 1000 && process.pid > 1",
            "true",
            "`process.uid` is not given; test for it with `has`",
        ),
        (
            "process.executable.endsWith('/doctl')",
            "true",
            "`process.executable` is not given; test for it with `has`",
        ),
        (
            "process.cgroup.startsWith('/ci.slice/')",
            "true",
            "`process.cgroup` is not given; test for it with `has`",
        ),
        ("has(process.uid) && process.uid in [0, 1000]", "true", "false"),
        ("workload == 'ci' && token.type == 'dop'", "true", "true"),
    ];
    for (text, expected, unknown) in rows {
        assert_eq!(known.asked(text), expected, "{text}");
        assert_eq!(Asked::default().asked(text), unknown, "{text}");
    }
}

#[test]
fn resources_are_lists() {
    let asked =
        Asked { resources: vec![("droplet", "1"), ("tag", "web"), ("droplet", "2")], ..Asked::default() };
    let rows = [
        ("resource.droplet == ['1', '2'] && resource.tag.size() == 1", "true"),
        ("resource.droplet.all(d, d in ['1', '2', '3'])", "true"),
        ("'3' in resource.droplet", "false"),
        ("resource.domain == []", "true"),
        ("has(resource.domain)", "true"),
        ("resource['droplet'].size() == 2", "true"),
    ];
    for (text, expected) in rows {
        assert_eq!(asked.asked(text), expected, "{text}");
    }
}

const OFFICE_HOURS: &str = "now.weekday <= 5 && now.hour * 60 + now.minute >= 8 * 60 + 30 && now.hour < 18";

#[test_case(1_795_339_799, "false"; "sunday")]
#[test_case(1_795_422_599, "false"; "monday just before half past eight")]
#[test_case(1_795_422_600, "true"; "monday at half past eight")]
#[test_case(1_795_456_799, "true"; "monday just before six")]
#[test_case(1_795_456_800, "false"; "monday at six")]
fn a_window_of_time(unix: u64, expected: &str) {
    assert_eq!(Asked { unix, ..Asked::default() }.asked(OFFICE_HOURS), expected);
}

#[test]
fn now_is_utc() {
    let asked = Asked { unix: 1_795_339_799, ..Asked::default() };
    let text = "now.date == '2026-11-22' && now.hour == 9 && now.minute == 29 && now.weekday == 7 && now.unix == 1795339799";
    assert_eq!(asked.asked(text), "true");
    assert_eq!(
        Asked::default().asked("now.date == '1970-01-01' && now.weekday == 4 && now.unix == 0"),
        "true"
    );
    let far = Asked { unix: 1 << 40, ..Asked::default() };
    assert_eq!(far.asked("now.unix > 0"), "the clock stands outside the years that have a date");
}

const TOO_COSTLY: &str = "the body or query makes the condition take more than 100000 steps";

#[test]
fn long_bodies_do_not_take_long() {
    let long = "x".repeat(1 << 20);
    let many: Vec<Json> = (0..60_000).map(|number| json!(number)).collect();
    let body = json!({"tags": many, "name": long, "user_data": long, "ssh_keys": [long, long]});
    let asked = Asked::with_body(body);
    let rows = [
        ("request.body.tags.all(t, request.body.tags.exists(u, u == t))", TOO_COSTLY),
        ("request.body.tags.all(t, t != 'x')", TOO_COSTLY),
        ("true || request.body.tags.all(t, t != 'x')", "true"),
        ("request.body.tags.all(t, t != 'x') || true", TOO_COSTLY),
        ("request.body.tags.exists(t, request.body.tags.all(u, u != 'x')) || true", TOO_COSTLY),
        ("request.body.tags.map(t, request.body.name + request.body.user_data) == []", TOO_COSTLY),
        ("request.body.tags.exists(t, request.body.name.contains('y'))", TOO_COSTLY),
        ("request.body.tags.exists(t, request.body.name == request.body.user_data + 'x')", TOO_COSTLY),
        ("request.body.tags.exists(t, request.body.name.size() == 1)", TOO_COSTLY),
        ("request.body.tags.exists(t, t in request.body.tags + request.body.tags)", TOO_COSTLY),
        ("request.body.tags == request.body.tags && request.body.tags == request.body.tags", TOO_COSTLY),
        ("request.body.tags.size() == 60000 && request.body.name == request.body.user_data", "true"),
        ("request.body.name.contains('y')", "false"),
        ("'y' in request.body.tags", "false"),
    ];
    for (text, expected) in rows {
        let when = compile(text, asked.operation).unwrap();
        let begun = std::time::Instant::now();
        assert_eq!(asked.answer(&when), expected, "{text}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{text} took {:?}", begun.elapsed());
    }
}

#[test]
fn errors_never_repeat_values() {
    let secret = "dop_v1_secret";
    let body = json!({"size": secret, "name": {secret: secret}, "image": [secret], "tags": [secret], "user_data": secret});
    let asked =
        Asked { query: Some(format!("tag_name={secret}&tag_name={secret}")), ..Asked::with_body(body) };
    let texts = [
        "request.body.name == 'x' || request.body.name.startsWith('x')",
        "int(request.body.user_data) == 1",
        "request.body.image > 1",
        "request.body.tags.exists(t, int(t) == 1)",
        "request.body.size.contains('x') || request.body.image.lowerAscii() == 'x'",
        "request.body.tags[9] == 'x'",
        "request.query.tag_name == 'x'",
        "request.body.backups",
        "string(request.body.image) == 'x'",
    ];
    for text in texts {
        let answer = asked.asked(text);
        assert!(answer != "true" && answer != "false", "{text}");
        assert!(!answer.contains(secret), "{text}: {answer}");
    }
}
