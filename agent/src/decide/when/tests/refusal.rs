//! What is no condition, and what is said of it.

use super::*;
use test_case::test_case;

fn refused(text: &str, operations: &str) -> String {
    compile(text, operations).unwrap_err().to_string().replace(" of the condition)", ")")
}

#[test]
fn every_mistake_is_told() {
    let rows = [
        (
            "request.body.sise == 'x'",
            "no body of `droplets_create` has `request.body.sise`; did you mean `size`? (column 1)",
        ),
        ("request.body.banana == 'x'", "no body of `droplets_create` has `request.body.banana` (column 1)"),
        ("request.boddy.size == 'x'", "`request` has no `boddy`; did you mean `body`? (column 1)"),
        ("reqest.method == 'x'", "unknown variable `reqest`; did you mean `request`? (column 1)"),
        (
            "banana",
            "unknown variable `banana`; there are `now`, `process`, `request`, `resource`, `token`, `workload` (column 1)",
        ),
        (
            "request.body.backup_policy.huor == 1",
            "no body of `droplets_create` has `request.body.backup_policy.huor`; there are `hour`, `plan`, `retention_period_days`, `weekday`, `window_length_hours` (column 1)",
        ),
        (
            "request.body.size.name == 'x'",
            "`request.body.size` is a string and has no field `name` (column 1)",
        ),
        (
            "request.body.tags.name == 'x'",
            "`request.body.tags` is a list and has no field `name`; look at its elements with `all`, `exists` or an index (column 1)",
        ),
        ("request", "`request` is no value by itself; name one in it, such as `request.body` (column 1)"),
        (
            "request.query == 'x'",
            "`request.query` is no value by itself; name one in it, such as `request.query.…` (column 1)",
        ),
        (
            "has(request.headers)",
            "`request.headers` is no value by itself; name one in it, such as `request.headers.accept` (column 5)",
        ),
        (
            "resource == []",
            "`resource` is no value by itself; name one in it, such as `resource.account_or_organization_urn` (column 1)",
        ),
        (
            "request.headers.authorization == 'x'",
            "`request.headers` has no `authorization`; there are `accept`, `accept_language`, `content_type`, `user_agent`, `x_request_id` (column 1)",
        ),
        (
            "request.headers.cookie == 'x'",
            "`request.headers` has no `cookie`; there are `accept`, `accept_language`, `content_type`, `user_agent`, `x_request_id` (column 1)",
        ),
        (
            "request.headers['Authorization'] == 'x'",
            "`request.headers` has no `authorization`; there are `accept`, `accept_language`, `content_type`, `user_agent`, `x_request_id`",
        ),
        ("resource.dropplet.size() > 0", "`resource` has no `dropplet`; did you mean `droplet`? (column 1)"),
        (
            "process.exe == 'x'",
            "`process` has no `exe`; there are `cgroup`, `executable`, `pid`, `uid` (column 1)",
        ),
        (
            "process.name == 'x'",
            "`process` has no `name`; there are `cgroup`, `executable`, `pid`, `uid` (column 1)",
        ),
        ("token.fingerprint == 'x'", "`token` has no `fingerprint`; there are `type` (column 1)"),
        ("now > 3", "`now` is no value by itself; name one in it, such as `now.date` (column 1)"),
        ("now.our == 1", "`now` has no `our`; did you mean `hour`? (column 1)"),
        (
            "request.body.backup_policy.hour.startsWith('x')",
            "`startsWith` takes a string, and `request.body.backup_policy.hour` is an int (column 1)",
        ),
        ("request.body.size.startsWith(3)", "`startsWith` takes a string, and `3` is an int"),
        (
            "request.method.startsWith('x', 'y')",
            r#"`startsWith` is called as in `text.startsWith("…")` (column 16)"#,
        ),
        (
            "startsWith(request.method, 'x')",
            r#"`startsWith` is called as in `text.startsWith("…")` (column 1)"#,
        ),
        (
            "request.method.startswith('x')",
            "unknown function `startswith`; did you mean `startsWith`? (column 16)",
        ),
        (
            "request.method.banana()",
            "unknown function `banana`; there are `size`, `startsWith`, `endsWith`, `contains`, `lowerAscii`, `int`, `string`, `all`, `exists`, `exists_one`, `filter`, `has`, `map` (column 16)",
        ),
        (
            "request.method.matches('x')",
            "conditions have no regular expressions; use `startsWith`, `endsWith` or `contains` in place of `matches` (column 16)",
        ),
        (
            "matches(request.method, 'x')",
            "conditions have no regular expressions; use `startsWith`, `endsWith` or `contains` in place of `matches` (column 1)",
        ),
        (
            "request.body.tags.all(t)",
            "`all` is called with other arguments, as in `list.all(x, x == 1)` (column 19)",
        ),
        (
            "request.method.has()",
            "`has` is called with other arguments, as in `has(request.body.field)` (column 16)",
        ),
        ("has(request)", "`has` takes a field, as in `has(request.body.size)` (column 5)"),
        ("has(request.method == 'x')", "`has` takes a field, as in `has(request.body.size)` (column 20)"),
        ("size() > 1", "`size` is called as in `size(value)` (column 1)"),
        (
            "request.body.region == 1",
            "cannot compare `request.body.region`, a string, with `1`, an int (column 1)",
        ),
        (
            "request.body.region > 1",
            "cannot compare `request.body.region`, a string, with `1`, an int (column 1)",
        ),
        ("1 == 'a'", r#"cannot compare `1`, an int, with `"a"`, a string"#),
        (
            "request.body.backup_policy.hour == 'a'",
            r#"cannot compare `request.body.backup_policy.hour`, an int, with `"a"`, a string (column 1)"#,
        ),
        ("request.body.region in 'nyc3'", r#"`in` takes a list, and `"nyc3"` is a string"#),
        ("1 in ['a', 'b']", "cannot compare `1`, an int, with an element, a string"),
        (
            "request.body.region in [1, 2]",
            "cannot compare `request.body.region`, a string, with an element, an int (column 1)",
        ),
        (
            "request.body.tags > ['a']",
            "`>` takes a bool or an int or a double or a string, and `request.body.tags` is a list (column 1)",
        ),
        ("request.body.region", "the condition is a string; it has to be true or false"),
        ("1 + 1", "the condition is an int; it has to be true or false"),
        (
            "request.body.region && true",
            "`&&` takes a bool, and `request.body.region` is a string (column 1)",
        ),
        ("!request.body.region", "`!` takes a bool, and `request.body.region` is a string (column 2)"),
        ("true ? 1 : 'a'", "the condition is an int or a string; it has to be true or false"),
        (
            "request.body.region ? true : false",
            "`?` takes a bool, and `request.body.region` is a string (column 1)",
        ),
        ("1 + 'a' == 2", r#"`+` takes two of the same kind, and `1` is an int, `"a"` is a string"#),
        ("1 + 1.5 == 2.5", "`+` takes two of the same kind, and `1` is an int, `1.5` is a double"),
        ("1.5 % 2.0 == 1.0", "`%` takes an int, and `1.5` is a double"),
        (
            "request.body.region - 'a' == 'b'",
            "`-` takes an int or a double, and `request.body.region` is a string (column 1)",
        ),
        (
            "-request.body.region == 1",
            "`-` takes an int or a double, and `request.body.region` is a string (column 2)",
        ),
        ("{'a': 1}.size() == 1", "a condition cannot make a map with `{}`"),
        ("Droplet{name: 'x'} == 1", "a condition cannot make a `Droplet`"),
        ("b'abc' == 1", r#"a condition has no use for bytes, such as `b"…"`"#),
        (
            "request.body[request.method] == 'x'",
            "`request.body` is a map, whose fields have to be named with a literal string (column 1)",
        ),
        (
            "request.headers[request.method] == 'x'",
            "a name in `request.headers` has to be written out, as a literal string (column 1)",
        ),
        (
            "request.query[1] == 'x'",
            "a name in `request.query` has to be written out, as a literal string (column 1)",
        ),
        ("request.body.size[0] == 'x'", "`request.body.size` is a string, which has no elements (column 1)"),
        (
            "request.body.tags['a'] == 'x'",
            "`request.body.tags` is a list and has no field `a`; look at its elements with `all`, `exists` or an index",
        ),
        ("request.body.tags[1.5] == 'x'", "an index takes an int, and `1.5` is a double"),
        (
            "request.body.backup_policy.all(k, true)",
            "a macro such as `all` takes a list, and `request.body.backup_policy` is a map (column 1)",
        ),
        (
            "request.method.all(k, true)",
            "a macro such as `all` takes a list, and `request.method` is a string (column 1)",
        ),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "more than 2 macros such as `all` stand in one another"),
        (
            "[1].all(a, banana)",
            "unknown variable `banana`; there are `now`, `process`, `request`, `resource`, `token`, `workload` (column 12)",
        ),
        (
            "[1].all(1, true)",
            "the first argument of a macro is a name of your choice, as in `list.all(x, x == 1)` (column 9)",
        ),
        ("[1].all(a, a == 'x')", r#"cannot compare `a`, an int, with `"x"`, a string (column 9)"#),
        ("[1].all(a, 1)", "`all` takes a bool, and `1` is an int"),
        ("[1].map(a, 1)", "the condition is a list; it has to be true or false"),
        ("[1].filter(a, 1) == []", "`filter` takes a bool, and `1` is an int"),
        ("[1].exists(a, a.b == 1)", "`a` is an int and has no field `b` (column 15)"),
        ("request.body.?size == 'x'", "unsupported syntax `.?` (column 13)"),
        ("request.body[?'size'] == 'x'", "unsupported syntax `?` (column 13)"),
        ("`request` == 1", "unexpected quoted identifier (column 1)"),
        ("1 +", "unexpected end, expected expression (column 4)"),
        ("a b", "unexpected `b`, expected end (column 3)"),
        ("(1", "expected `)` (column 3)"),
        ("'abc", "unterminated string literal (column 1)"),
        (r#""\ud800" == 'x'"#, "invalid unicode code point (column 1)"),
        ("9223372036854775808 == 1", "invalid int literal (column 1)"),
        ("1 = 1", "unexpected `=`, expected end (column 3)"),
        ("1 & 1", "unexpected single `&`, expected `&&` (column 3)"),
        ("request.body.tags.all(t, t == 'a'", "unexpected end, expected `)` (column 34)"),
        ("", "unexpected end, expected expression (column 1)"),
        ("// nothing", "unexpected end, expected expression (column 11)"),
        (
            "true\n&& banana",
            "unknown variable `banana`; there are `now`, `process`, `request`, `resource`, `token`, `workload` (line 2, column 4)",
        ),
        (
            "request.body.size == 'é' && reqest",
            "unknown variable `reqest`; did you mean `request`? (column 29)",
        ),
        ("if", "reserved identifier: if (column 1)"),
        (
            "request.if == 1",
            "`request` has no `if`; there are `body`, `headers`, `method`, `operation`, `path`, `query` (column 1)",
        ),
        (".request.method == 'x'", "unknown variable `.request`; did you mean `request`? (column 1)"),
        (
            "request.body.image == true",
            "cannot compare `request.body.image`, an int or a string, with `true`, a bool (column 1)",
        ),
        (
            "request.body.ssh_keys.exists(k, k == true)",
            "cannot compare `k`, an int or a string, with `true`, a bool (column 30)",
        ),
        (
            "[request.body.size].all(s, s.banana == 1)",
            "`s` is a string and has no field `banana` (column 28)",
        ),
        (r#""""abc" == 'x'"#, "unterminated string literal (column 1)"),
        ("1 < 'a' || true", r#"cannot compare `1`, an int, with `"a"`, a string"#),
        ("resource.droplet.all(d, d == 1)", "cannot compare `d`, a string, with `1`, an int (column 22)"),
        ("size(1) == 1", "`size` takes a string or a list or a map, and `1` is an int"),
        ("int(true) == 1", "`int` takes an int or a double or a string, and `true` is a bool"),
        ("string(1.5) == '1.5'", "`string` takes a bool or an int or a string, and `1.5` is a double"),
        ("request.method.size == 3", "`request.method` is a string and has no field `size` (column 1)"),
    ];
    for (text, message) in rows {
        assert_eq!(refused(text, "droplets_create"), message, "{text}");
    }
}

#[test_case("droplets_create", "no body of `droplets_create` has `request.body.grants` (column 1)"; "one")]
#[test_case("droplets_create apps_create", "no body of the operations that this concerns has `request.body.grants` (column 1)"; "several")]
#[test_case("droplets_list", "no operation that this concerns has a JSON body, so `request.body` is never there (column 1)"; "one without a body")]
#[test_case("", "no operation that this concerns has a JSON body, so `request.body` is never there (column 1)"; "none")]
fn a_field_is_looked_for_in_the_operations(operations: &str, message: &str) {
    assert_eq!(refused("request.body.grants.size() == 0", operations), message);
}

#[test]
fn a_field_of_one_operation_is_enough() {
    compile("request.body.grants.size() == 0", "droplets_create spacesKey_create").unwrap();
    // `size` is a string in one and an int in the other.
    compile("request.body.size == 'x'", "droplets_create databases_update_connectionPool").unwrap();
    compile("request.body.size == 1", "droplets_create databases_update_connectionPool").unwrap();
}
