use super::*;
use proptest::prelude::*;
use test_case::test_case;

fn to(host: &str, port: u16) -> ProxyRequest {
    let target = host.parse().map_or_else(
        |_| Target::Name(HostName::parse(host).unwrap()),
        |address: IpAddr| Target::Address(address),
    );
    ProxyRequest::Connect(Connect { target, port })
}

#[test_case("CONNECT API.example.com.:443 HTTP/1.1\r\n\r\n", "api.example.com", 443; "a name")]
#[test_case("CONNECT a.example:8443 HTTP/1.0\r\nHost: a.example:8443\r\nProxy-Authorization: Basic eDp5\r\n\r\n", "a.example", 8443; "fields")]
#[test_case("CONNECT 192.0.2.10:443 HTTP/1.1\r\n\r\n", "192.0.2.10", 443; "ipv4")]
#[test_case("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n", "2001:db8::1", 443; "ipv6")]
fn a_connect_names_a_host_and_a_port(head: &str, host: &str, port: u16) {
    assert_eq!(parse(head.as_bytes()), Ok(to(host, port)));
}

#[test_case("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n"; "absolute form")]
#[test_case("POST http://a.example/ HTTP/1.1\r\nContent-Length: 3\r\n\r\n"; "a body")]
#[test_case("GET http://a.example/ HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"; "a websocket")]
fn other_requests_are_the_proxys_business(head: &str) {
    assert_eq!(parse(head.as_bytes()), Ok(ProxyRequest::Other));
}

#[test_case("CONNECT a.example:443 HTTP/1.1\n\n"; "bare newlines")]
#[test_case("CONNECT a.example:443 HTTP/1.1\r\nX: y\nHost: b.example\r\n\r\n"; "a bare newline among the fields")]
#[test_case("CONNECT a.example:443 HTTP/1.1\r\nX: y\rHost: b.example\r\n\r\n"; "a bare carriage return")]
#[test_case("\r\nCONNECT a.example:443 HTTP/1.1\r\n\r\n"; "an empty line first")]
#[test_case(" CONNECT a.example:443 HTTP/1.1\r\n\r\n"; "a blank first")]
#[test_case("CONNECT  a.example:443 HTTP/1.1\r\n\r\n"; "two blanks")]
#[test_case("CONNECT\ta.example:443 HTTP/1.1\r\n\r\n"; "a tab")]
#[test_case("connect a.example:443 HTTP/1.1\r\n\r\n"; "lower case")]
#[test_case("CONNECT a.example HTTP/1.1\r\n\r\n"; "no port")]
#[test_case("CONNECT a.example:0 HTTP/1.1\r\n\r\n"; "port 0")]
#[test_case("CONNECT a.example:+443 HTTP/1.1\r\n\r\n"; "a sign")]
#[test_case("CONNECT a.example:65979 HTTP/1.1\r\n\r\n"; "a port beyond 16 bits")]
#[test_case("CONNECT http://a.example:443 HTTP/1.1\r\n\r\n"; "a scheme")]
#[test_case("CONNECT me@a.example:443 HTTP/1.1\r\n\r\n"; "a user")]
#[test_case("CONNECT 3221225994:443 HTTP/1.1\r\n\r\n"; "an address as one number")]
#[test_case("CONNECT 0300.0.2.10:443 HTTP/1.1\r\n\r\n"; "an octal address")]
#[test_case("CONNECT 2001:db8::1:443 HTTP/1.1\r\n\r\n"; "ipv6 without brackets")]
#[test_case("CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\n\r\n"; "a zone")]
#[test_case("CONNECT a.example:443 HTTP/2.0\r\n\r\n"; "another version")]
#[test_case("PRI * HTTP/2.0\r\n\r\n"; "http2")]
#[test_case("GET http://a.example/ HTTP/1.1\r\nUpgrade: H2C\r\n\r\n"; "a change to http2")]
#[test_case("CONNECT a.example:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n"; "a body")]
#[test_case("CONNECT a.example:443 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"; "a chunked body")]
#[test_case("CONNECT a.example:443 HTTP/1.1\r\nX: y\r\n folded\r\n\r\n"; "a folded field")]
#[test_case("CONNECT a.example:443 HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n"; "a blank before the colon")]
#[test_case("GET a\r\n\r\n"; "no version")]
#[test_case("\u{5}\u{1}\r\n\r\n"; "no http")]
fn what_could_be_read_otherwise_is_refused(head: &str) {
    assert!(parse(head.as_bytes()).is_err(), "{:?}", parse(head.as_bytes()));
}

#[test_case("GET / HTTP/1.1\r\nA: b\r\n\r\nrest", Some(24); "with what follows")]
#[test_case("GET / HTTP/1.1\n\nrest", Some(16); "bare newlines")]
#[test_case("GET / HTTP/1.1\r\n\nrest", Some(17); "mixed")]
#[test_case("GET / HTTP/1.1\r\n\r", None; "half an end")]
#[test_case("\r\n\r\n", Some(4); "empty lines")]
#[test_case("", None; "nothing")]
fn a_head_ends_with_the_first_empty_line(bytes: &str, expected: Option<usize>) {
    assert_eq!(head_len(bytes.as_bytes()), expected);
}

#[test_case("HTTP/1.1 200 Connection established\r\n\r\n", Some((200, None, true)); "a tunnel")]
#[test_case("HTTP/1.1 407 No\r\nContent-Length: 12\r\n\r\n", Some((407, Some(12), false)); "a length")]
#[test_case("HTTP/1.1 407\r\nContent-Length: 12\r\nProxy-Connection: Close\r\n\r\n", Some((407, Some(12), true)); "no words, and an end")]
#[test_case("HTTP/1.1 407 No\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Some((407, None, true)); "pieces")]
#[test_case("HTTP/1.1 407 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Some((407, None, true)); "two lengths")]
#[test_case("HTTP/1.0 403 No\r\nContent-Length: 1\r\n\r\n", Some((403, Some(1), true)); "http 1.0")]
#[test_case("HTTP/1.1 2000 OK\r\n\r\n", None; "four digits")]
#[test_case("HTTP/2 200 OK\r\n\r\n", None; "another version")]
#[test_case("220 ready\r\n\r\n", None; "no http")]
fn answers_tell_how_they_end(head: &str, expected: Option<(u16, Option<u64>, bool)>) {
    let answer = parse_answer(head.as_bytes());
    assert_eq!(answer.map(|answer| (answer.status, answer.body_len, answer.closes)), expected);
}

#[test]
fn no_prefix_of_a_head_is_taken_for_it() {
    let head = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    for length in 0..head.len() {
        assert_eq!(head_len(&head[..length]), None, "{length}");
        assert!(parse(&head[..length]).is_err(), "{length}");
    }
    assert_eq!(head_len(head), Some(head.len()));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (parse(&bytes), parse_answer(&bytes));
        prop_assert!(head_len(&bytes).is_none_or(|length| length <= bytes.len()));
    }

    #[test]
    fn no_line_break_slips_into_a_target(host in "[ -~\\r\\n\\t]{0,30}") {
        let head = format!("CONNECT {host}:443 HTTP/1.1\r\n\r\n");
        if let Ok(ProxyRequest::Connect(Connect { target: Target::Name(name), .. })) = parse(head.as_bytes()) {
            let host = host.to_ascii_lowercase();
            prop_assert_eq!(name.as_str(), host.strip_suffix('.').unwrap_or(&host));
        }
    }
}
