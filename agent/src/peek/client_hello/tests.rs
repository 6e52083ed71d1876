use super::*;
use proptest::prelude::*;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    server::Acceptor,
};
use std::{fs, path::Path, sync::Arc};
use test_case::test_case;

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/client_hello/", $name, ".bin"))
    };
}

const FIXTURES: [(&str, &[u8]); 10] = [
    ("curl-h2", recorded!("curl-h2")),
    ("curl-http1", recorded!("curl-http1")),
    ("node", recorded!("node")),
    ("node-h2", recorded!("node-h2")),
    ("openssl", recorded!("openssl")),
    ("openssl-no-sni", recorded!("openssl-no-sni")),
    ("openssl-tls12", recorded!("openssl-tls12")),
    ("python", recorded!("python")),
    ("rustls-x25519mlkem768", recorded!("rustls-x25519mlkem768")),
    ("wget-gnutls", recorded!("wget-gnutls")),
];

const RECORD_HEADER_LEN: usize = 5;

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn complete(bytes: &[u8]) -> ClientHello {
    let answer = parse(bytes);
    let Parse::Complete(hello) = answer else { panic!("{answer:?}") };
    hello
}

/// `content` behind its length in `length_len` bytes.
fn vector(length_len: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - length_len..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

fn sni_of(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> =
        entries.iter().flat_map(|(kind, name)| [&[*kind][..], &vector(2, name)].concat()).collect();
    extension(EXTENSION_SERVER_NAME, &vector(2, &list))
}

fn sni(name: &str) -> Vec<u8> {
    sni_of(&[(0, name.as_bytes())])
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|name| vector(1, name.as_bytes())).collect();
    extension(EXTENSION_ALPN, &vector(2, &list))
}

/// A handshake message: a ClientHello of TLS 1.2 with these bytes behind its compression methods.
fn message(tail: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(vector(1, &[9; 32]));
    body.extend(vector(2, &[0x13, 0x01]));
    body.extend(vector(1, &[0]));
    body.extend(tail);
    [&[CLIENT_HELLO][..], &vector(3, &body)].concat()
}

fn with_extensions(extensions: &[Vec<u8>]) -> Vec<u8> {
    message(&vector(2, &extensions.concat()))
}

fn records(message: &[u8], fragment_len: usize) -> Vec<u8> {
    message
        .chunks(fragment_len)
        .flat_map(|fragment| [&[HANDSHAKE_RECORD, 3, 1][..], &vector(2, fragment)].concat())
        .collect()
}

fn record(message: &[u8]) -> Vec<u8> {
    records(message, MAX_RECORD_LEN)
}

fn rustls_hello() -> Vec<u8> {
    let provider = aws_lc_rs::default_provider();
    let provider = CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768], ..provider };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = "api.digitalocean.com".try_into().unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
#[ignore = "writes a fixture: see tests/fixtures/client_hello/record.py"]
fn records_the_hello_of_rustls() {
    let folder = std::env::var_os("TIDEGATE_FIXTURES").expect("TIDEGATE_FIXTURES names the folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::write(root.join(folder).join("rustls-x25519mlkem768.bin"), rustls_hello()).unwrap();
}

#[test_case("curl-h2", &["h2", "http/1.1"])]
#[test_case("curl-http1", &["http/1.1"])]
#[test_case("node", &[])]
#[test_case("node-h2", &["h2", "http/1.1"])]
#[test_case("openssl", &[])]
#[test_case("openssl-tls12", &["http/1.1"])]
#[test_case("python", &["http/1.1"])]
#[test_case("rustls-x25519mlkem768", &["h2", "http/1.1"])]
fn recorded_hellos_give_their_name_and_protocols(name: &str, alpn: &[&str]) {
    let (_, bytes) = FIXTURES.into_iter().find(|(fixture, _)| *fixture == name).unwrap();
    let alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    assert_eq!(complete(bytes), ClientHello { sni: Some(host("api.digitalocean.com")), alpn, ech: false });
}

#[test]
fn a_recorded_hello_without_a_name_has_none() {
    assert_eq!(complete(recorded!("openssl-no-sni")).sni, None);
}

#[test]
fn a_post_quantum_hello_is_longer_than_a_key_share_of_mlkem() {
    assert!(rustls_hello().len() > 1184);
    assert_eq!(complete(&rustls_hello()).sni, Some(host("api.digitalocean.com")));
}

#[test]
fn every_prefix_is_incomplete_and_then_the_answer_is_constant() {
    for (name, bytes) in FIXTURES {
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parse::Incomplete, "{name}, {end} bytes");
        }
        let whole = parse(bytes);
        assert!(matches!(whole, Parse::Complete(_)), "{name}");
        for follow in [&[0x17, 3, 3, 0, 9][..], &[HANDSHAKE_RECORD], b"GET / HTTP/1.1", &[0; 20_000]] {
            assert_eq!(parse(&[bytes, follow].concat()), whole, "{name}");
        }
    }
}

#[test]
fn every_cut_into_two_records_gives_the_same_answer_and_prefixes() {
    let extensions = [sni("api.digitalocean.com"), alpn(&["h2"]), extension(EXTENSION_ECH, &[1])];
    let message = with_extensions(&extensions);
    let whole = parse(&record(&message));
    for cut in 1..message.len() {
        let bytes = [record(&message[..cut]), record(&message[cut..])].concat();
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Parse::Incomplete, "cut at {cut}, {end} bytes");
        }
        assert_eq!(parse(&bytes), whole, "cut at {cut}");
    }
    assert_eq!(parse(&records(&message, 1)), whole);
}

#[test_case(16 << 10; "one record's worth")]
#[test_case(40_000; "three records")]
#[test_case(65_000; "nearly all that a hello can be")]
fn large_hellos_are_read(padding_len: usize) {
    const PADDING: u16 = 21;
    let message = with_extensions(&[sni("a.example"), extension(PADDING, &vec![0; padding_len])]);
    let bytes = record(&message);
    assert_eq!(complete(&bytes).sni, Some(host("a.example")));
    assert_eq!(parse(&bytes[..bytes.len() - 1]), Parse::Incomplete);
}

#[test]
fn a_hello_that_says_it_is_too_long_is_too_large_at_once() {
    assert_eq!(parse(&record(&[CLIENT_HELLO, 1, 0, 0])), Parse::TooLarge);
    assert_eq!(parse(&record(&[CLIENT_HELLO, 0, 0xff, 0xff])), Parse::Incomplete);
}

#[test]
fn handshake_bytes_behind_the_hello_in_its_record_change_nothing() {
    let message = with_extensions(&[sni("a.example")]);
    assert_eq!(complete(&record(&[&message[..], &[1, 2, 3]].concat())).sni, Some(host("a.example")));
}

#[test_case(EXTENSION_ECH)]
#[test_case(EXTENSION_ESNI)]
fn encrypted_names_are_noticed(kind: u16) {
    let hello = complete(&record(&with_extensions(&[extension(kind, &[0; 40]), sni("outer.example")])));
    assert_eq!(hello, ClientHello { sni: Some(host("outer.example")), alpn: vec![], ech: true });
}

#[test_case(&[]; "no extensions at all")]
#[test_case(&[0, 0]; "an empty list of extensions")]
fn old_hellos_without_extensions_have_no_name(tail: &[u8]) {
    assert_eq!(complete(&record(&message(tail))), ClientHello { sni: None, alpn: vec![], ech: false });
}

#[test_case(0; "ssl 3")]
#[test_case(1; "tls 1.0")]
#[test_case(3; "tls 1.2")]
#[test_case(4; "tls 1.3 as nobody should write it")]
fn the_record_version_does_not_matter(minor: u8) {
    let mut bytes = record(&with_extensions(&[sni("a.example")]));
    bytes[2] = minor;
    assert_eq!(complete(&bytes).sni, Some(host("a.example")));
}

#[test]
fn case_is_folded() {
    let bytes = record(&with_extensions(&[sni("API.DigitalOcean.COM")]));
    assert_eq!(complete(&bytes).sni, Some(host("api.digitalocean.com")));
}

#[test_case(with_extensions(&[sni("a.example"), sni("b.example")]); "two server name extensions")]
#[test_case(with_extensions(&[extension(99, &[]), extension(99, &[])]); "an unknown extension twice")]
#[test_case(with_extensions(&[sni_of(&[])]); "empty list of names")]
#[test_case(with_extensions(&[sni_of(&[(0, b"a.example"), (0, b"b.example")])]); "two names")]
#[test_case(with_extensions(&[sni_of(&[(0, b"a.example"), (1, b"x")])]); "a second name of another type")]
#[test_case(with_extensions(&[sni_of(&[(1, b"a.example")])]); "name of another type")]
#[test_case(with_extensions(&[sni("")]); "empty name")]
#[test_case(with_extensions(&[sni("a.example.")]); "root dot")]
#[test_case(with_extensions(&[sni("192.0.2.1")]); "ipv4 literal")]
#[test_case(with_extensions(&[sni("::1")]); "ipv6 literal")]
#[test_case(with_extensions(&[sni("a\0.example")]); "nul in the name")]
#[test_case(with_extensions(&[sni("ä.example")]); "not ascii")]
#[test_case(with_extensions(&[extension(EXTENSION_SERVER_NAME, &[])]); "server name without content")]
#[test_case(with_extensions(&[extension(EXTENSION_SERVER_NAME, &[0, 5, 0, 0, 2, b'a', b'b', 0])]); "bytes after names")]
#[test_case(with_extensions(&[extension(EXTENSION_ALPN, &[0, 0])]); "no protocol")]
#[test_case(with_extensions(&[extension(EXTENSION_ALPN, &[0, 1, 0])]); "empty protocol")]
#[test_case(with_extensions(&[extension(EXTENSION_ALPN, &[0, 3, 5, b'h', b'2'])]); "protocol past the end")]
#[test_case(message(&[0, 9, 0, 0]); "extensions past the end")]
#[test_case(message(&[0, 0, 7]); "bytes behind the extensions")]
#[test_case(message(&[0, 3, 0, 0, 0]); "cut extension header")]
#[test_case(vec![CLIENT_HELLO, 0, 0, 0]; "empty hello")]
#[test_case(vec![CLIENT_HELLO, 0, 0, 2, 2, 0]; "another major version")]
#[test_case(vec![2, 0, 0, 0]; "server hello")]
#[test_case(vec![0]; "hello request")]
fn broken_hellos_are_malformed(message: Vec<u8>) {
    let answer = parse(&record(&message));
    assert!(matches!(answer, Parse::Malformed(_)), "{answer:?}");
}

#[test_case(&[22, 3, 1, 0, 0]; "empty record")]
#[test_case(&[22, 3, 1, 0x40, 1]; "record too long")]
#[test_case(&[22, 3, 1, 0, 1, 1, 21]; "alert inside the hello")]
#[test_case(&[22, 3, 1, 0, 1, 1, 22, 2]; "second record of another major version")]
#[test_case(&[0x80, 0x2e, 1, 0, 2]; "sslv2")]
#[test_case(&[0x80, 0x2e, 1, 3, 1]; "sslv2 that offers tls")]
fn broken_records_are_malformed_at_their_last_byte(bytes: &[u8]) {
    assert_eq!(parse(&bytes[..bytes.len() - 1]), Parse::Incomplete);
    assert!(matches!(parse(bytes), Parse::Malformed(_)), "{:?}", parse(bytes));
}

#[test_case(b"G"; "http")]
#[test_case(b"\x16\x02"; "another major version")]
#[test_case(b"\x15\x03"; "an alert first")]
#[test_case(b"\x80\x00\x00"; "a remote procedure call")]
#[test_case(b"\x80\x2e\x01\x05"; "ssl version 5")]
#[test_case(b"\0"; "nul")]
fn other_protocols_are_not_tls(bytes: &[u8]) {
    assert_eq!(parse(bytes), Parse::NotTls);
}

/// What rustls makes of the bytes: the name that it would terminate for, if it goes on with them at all.
fn rustls_reads(bytes: &[u8]) -> Option<(Option<String>, Vec<Vec<u8>>)> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().map(|names| names.map(<[u8]>::to_vec).collect()).unwrap_or_default();
            return Some((hello.server_name().map(str::to_ascii_lowercase), alpn));
        }
    }
    None
}

fn agrees_with_rustls(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let (Parse::Complete(hello), Some((name, alpn))) = (parse(bytes), rustls_reads(bytes)) {
        prop_assert_eq!(hello.sni.as_ref().map(HostName::as_str), name.as_deref());
        prop_assert_eq!(hello.alpn, alpn);
    }
    Ok(())
}

#[test]
fn recorded_hellos_are_read_as_rustls_reads_them() {
    for (name, bytes) in FIXTURES {
        assert!(rustls_reads(bytes).is_some(), "{name}");
        agrees_with_rustls(bytes).unwrap();
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_get_an_answer(bytes: Vec<u8>, hello_like: bool) {
        let bytes = if hello_like { record(&[&[CLIENT_HELLO, 0, 0][..], &vector(1, &bytes)].concat()) } else { bytes };
        let answer = parse(&bytes);
        if let Some((_, prefix)) = bytes.split_last() {
            let before = parse(prefix);
            prop_assert!(before == Parse::Incomplete || before == answer);
        }
    }

    #[test]
    fn mutated_hellos_are_never_read_otherwise_than_by_rustls(
        fixture in 0..FIXTURES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = FIXTURES[fixture].1.to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        agrees_with_rustls(&bytes)?;
    }

    #[test]
    fn any_cut_into_records_gives_the_same_answer(fixture in 0..FIXTURES.len(), fragment_len in 1_usize..700) {
        let bytes = FIXTURES[fixture].1;
        prop_assert_eq!(parse(&records(&bytes[RECORD_HEADER_LEN..], fragment_len)), parse(bytes));
    }
}
