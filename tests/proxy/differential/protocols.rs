//! The part of the table that only one of the protocols can carry.

use super::row::{
    AUTHORITY, BODY, Field, MALFORMED, METHOD, PATH, Refusal, Row, SIZE, added, fields, raw, replaced,
};

pub(super) fn framing(limit: usize) -> Vec<Row> {
    let post = |name, rest: &str, refusal| {
        let head = "POST /v2/droplets HTTP/1.1\r\nHost: H\r\nContent-Type: application/json\r\n";
        raw(name, &format!("{head}{rest}"), refusal)
    };
    let refused = [
        ("length and chunked", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}"),
        ("two lengths", "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
        ("one length twice", "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunked and more", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("compressed for the transfer", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("an underscore for a hyphen", "Content_Length: 9\r\nContent-Length: 2\r\n\r\n{}"),
        ("a blank in a name", "Content-Length : 2\r\n\r\n{}"),
    ];
    let mut rows: Vec<Row> = refused.iter().map(|(name, rest)| post(name, rest, MALFORMED)).collect();
    let chunks = [
        ("trailers", "2\r\n{}\r\n0\r\nX-Http-Method: DELETE\r\n\r\n"),
        ("a chunk with an extension", "2;x=y\r\n{}\r\n0\r\n\r\n"),
        ("a chunk that is longer than it says", "2\r\n{} \r\n0\r\n\r\n"),
        ("a bare line feed between chunks", "2\n{}\r\n0\r\n\r\n"),
    ];
    let chunked = |rest: &str| format!("Transfer-Encoding: chunked\r\n\r\n{rest}");
    rows.extend(chunks.iter().map(|(name, rest)| post(name, &chunked(rest), MALFORMED)));
    let large = format!("{:x}\r\n{}\r\n0\r\n\r\n", limit + 1, " ".repeat(limit + 1));
    rows.push(post("a chunk that is too large", &chunked(&large), SIZE));
    let pieces = format!("{}0\r\n\r\n", format!("80\r\n{}\r\n", " ".repeat(128)).repeat(limit / 128 + 1));
    rows.push(post("chunks that are too large together", &chunked(&pieces), SIZE));
    rows.push(post("said to be too large", "Content-Length: 99999999999\r\n\r\n", SIZE));
    rows.push(post("asked for, then refused", "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nnull", BODY));
    let upgrade = "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    rows.push(raw(
        "a change of protocol",
        &format!("GET /v2/account HTTP/1.1\r\nHost: H\r\n{upgrade}"),
        METHOD,
    ));
    rows.push(raw("a star", "OPTIONS * HTTP/1.1\r\nHost: H\r\n\r\n", PATH));
    rows
}

pub(super) fn authorities() -> Vec<Row> {
    const API: &str = "https://api.digitalocean.com/v2/account";
    let refused: [(&'static str, &str, &str, Refusal); 17] = [
        ("two hosts", "/v2/account", "Host: H\r\nHost: evil.example", MALFORMED),
        ("one host twice", "/v2/account", "Host: H\r\nHost: H", MALFORMED),
        ("no host", "/v2/account", "Accept: */*", MALFORMED),
        ("an empty host", "/v2/account", "Host: ", MALFORMED),
        ("another host", "/v2/account", "Host: evil.example", AUTHORITY),
        ("a neighbour's host", "/v2/account", "Host: cloud.digitalocean.com", AUTHORITY),
        ("a longer host", "/v2/account", "Host: api.digitalocean.com.evil.example", AUTHORITY),
        ("another port", "/v2/account", "Host: api.digitalocean.com:444", AUTHORITY),
        ("two names in one host", "/v2/account", "Host: api.digitalocean.com, evil.example", MALFORMED),
        ("a user before the host", "/v2/account", "Host: evil.example@api.digitalocean.com", MALFORMED),
        ("a path behind the host", "/v2/account", "Host: api.digitalocean.com/v2", MALFORMED),
        ("an address", "/v2/account", "Host: 127.0.0.1", MALFORMED),
        ("a target of another host", "https://evil.example/v2/account", "Host: H", AUTHORITY),
        ("a target and another host", API, "Host: evil.example", AUTHORITY),
        ("a target of another scheme", "http://api.digitalocean.com/v2/account", "Host: H", AUTHORITY),
        ("a target with a user", "https://a@api.digitalocean.com/v2/account", "Host: H", MALFORMED),
        ("a target that is no path", "v2/account", "Host: H", MALFORMED),
    ];
    let with = |(name, target, host, refusal)| {
        raw(name, &format!("GET {target} HTTP/1.1\r\n{host}\r\n\r\n"), refusal)
    };
    let mut rows: Vec<Row> = refused.into_iter().map(with).collect();
    let tunnel = |target| format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    rows.push(raw("a tunnel", &tunnel("api.digitalocean.com:443"), AUTHORITY));
    rows.push(raw("a tunnel elsewhere", &tunnel("evil.example:443"), AUTHORITY));
    rows
}

pub(super) fn pseudo_headers() -> Vec<Row> {
    const TUNNEL: Field = (":method", "CONNECT");
    const HOST: Field = (":authority", "api.digitalocean.com");
    vec![
        replaced("another authority", (":authority", "evil.example"), AUTHORITY),
        replaced("an authority with a user", (":authority", "a@api.digitalocean.com"), MALFORMED),
        replaced("no authority", (":authority", "(none)"), MALFORMED),
        replaced("another scheme", (":scheme", "http"), MALFORMED),
        replaced("a path without a slash", (":path", "v2/account"), MALFORMED).resetting(),
        replaced("an empty path", (":path", ""), MALFORMED).resetting(),
        replaced("a star", (":path", "*"), PATH),
        replaced("a path that is a URL", (":path", "https://evil.example/v2/account"), MALFORMED).resetting(),
        replaced("a path with a line break", (":path", "/v2/account HTTP/1.1\r\nX: y"), MALFORMED)
            .resetting(),
        replaced("no path", (":path", "(none)"), MALFORMED).resetting(),
        replaced("no method", (":method", "(none)"), MALFORMED).resetting(),
        replaced("a method with a blank", (":method", "GET /v2/droplets"), MALFORMED).resetting(),
        added("two paths", (":path", "/v2/droplets"), MALFORMED).resetting(),
        added("two methods", (":method", "DELETE"), MALFORMED).resetting(),
        added("two authorities", (":authority", "evil.example"), MALFORMED).resetting(),
        added("another host", ("host", "evil.example"), AUTHORITY),
        added("an unknown pseudo-header", (":foo", "a"), MALFORMED).resetting(),
        added("an answer's pseudo-header", (":status", "200"), MALFORMED).resetting(),
        added("capitals in a name", ("X-A", "b"), MALFORMED).resetting(),
        added("a colon in a name", ("x: a\r\nhost", "b"), MALFORMED).resetting(),
        added("a field of the connection", ("connection", "x"), MALFORMED).resetting(),
        added("keep-alive", ("keep-alive", "1"), MALFORMED).resetting(),
        added("a transfer encoding", ("transfer-encoding", "chunked"), MALFORMED).resetting(),
        added("an upgrade", ("upgrade", "websocket"), MALFORMED).resetting(),
        added("te other than trailers", ("te", "gzip"), MALFORMED).resetting(),
        fields("a tunnel", vec![TUNNEL, (":authority", "api.digitalocean.com:443")], AUTHORITY),
        fields("a tunnel to the host itself", vec![TUNNEL, HOST], METHOD),
        added("an extended tunnel", (":protocol", "websocket"), MALFORMED).resetting(),
        fields(
            "a pseudo-header behind a field",
            vec![(":method", "GET"), (":scheme", "https"), HOST, ("a", "b"), (":path", "/v2/account")],
            MALFORMED,
        )
        .resetting(),
    ]
}
