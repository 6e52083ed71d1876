use super::{
    Guard, Patience,
    grammar::{Grammar, MAX_HEAD_BYTES, Position, Rule},
};
use proptest::prelude::*;
use std::time::Duration;
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Patience = Patience { head: Duration::from_secs(10), idle: Duration::from_secs(60) };

/// What the grammar says of the whole input: how many bytes are sound, which rule broke, how many heads.
fn judge(input: &[u8]) -> (usize, Option<Rule>, u64) {
    let mut grammar = Grammar::default();
    let (sound, violation) = grammar.inspect(input);
    (sound, violation.map(|violation| violation.rule), grammar.requests())
}

/// The same, the input given in pieces.
fn judge_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (usize, Option<Rule>, u64) {
    let mut grammar = Grammar::default();
    let mut total = 0;
    for piece in pieces {
        let (sound, violation) = grammar.inspect(piece);
        total += sound;
        if let Some(violation) = violation {
            return (total, Some(violation.rule), grammar.requests());
        }
    }
    (total, None, grammar.requests())
}

#[test_case("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1; "smallest")]
#[test_case("GET / HTTP/1.0\r\n\r\n", 1; "old version needs no host")]
#[test_case("GET /a?b=%2F HTTP/1.1\r\nhost:a\r\nX: \t y\tz \r\nEmpty:\r\n\r\n", 1; "blanks around values")]
#[test_case("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1; "asterisk")]
#[test_case("GET https://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 1; "absolute form")]
#[test_case("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\n\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2; "body of a length, then another request")]
#[test_case("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2; "length zero")]
#[test_case("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\n\n\n\r\nA\r\n0123456789\r\n000\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2; "chunks, then another request")]
#[test_case("POST / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n", 1; "bytes beyond ascii in a value")]
fn sound_requests_pass_whole(input: &str, requests: u64) {
    assert_eq!(judge(input.as_bytes()), (input.len(), None, requests));
}

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

#[test_case("GET / HTTP/1.1\nHost: a\r\n\r\n", Rule::BareLf; "bare lf after the request line")]
#[test_case("GET / HTTP/1.1\r\nHost: a\n\r\n", Rule::BareLf; "bare lf after a field")]
#[test_case("GET / HTTP/1.1\r\nHost: a\r\n\n", Rule::BareLf; "bare lf at the end of the head")]
#[test_case("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Rule::BareCr; "bare cr in a field")]
#[test_case("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Rule::BareCr; "two cr")]
#[test_case("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::RequestLine; "empty line first")]
#[test_case("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::BareLf; "bare lf first")]
#[test_case(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::RequestLine; "blank first")]
#[test_case("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::RequestLine; "two blanks")]
#[test_case("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Rule::RequestLine; "blank after the version")]
#[test_case("GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", Rule::ControlCharacter; "tab in the request line")]
#[test_case("GET /\r\nHost: a\r\n\r\n", Rule::RequestLine; "no version")]
#[test_case("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Rule::RequestLine; "another version")]
#[test_case("GET / http/1.1\r\nHost: a\r\n\r\n", Rule::RequestLine; "version in lower case")]
#[test_case("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Rule::RequestLine; "method that is no token")]
#[test_case("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Rule::RequestLine; "preface of http 2")]
#[test_case("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target; "fragment")]
#[test_case("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target; "target beyond ascii")]
#[test_case("GET /a<b HTTP/1.1\r\nHost: a\r\n\r\n", Rule::Target; "target that is no uri")]
#[test_case("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Rule::Folding; "folding with a blank")]
#[test_case("GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", Rule::Folding; "folding before the first field")]
#[test_case("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Rule::FieldName; "blank before the colon")]
#[test_case("GET / HTTP/1.1\r\nHost\r\n\r\n", Rule::FieldName; "no colon")]
#[test_case("GET / HTTP/1.1\r\n: a\r\n\r\n", Rule::FieldName; "no name")]
#[test_case("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", Rule::ControlCharacter; "nul in a value")]
#[test_case("GET / HTTP/1.1\r\nHost: \x7f\r\n\r\n", Rule::ControlCharacter; "delete in a value")]
#[test_case("GET / HTTP/1.1\r\nX\0: a\r\n\r\n", Rule::ControlCharacter; "nul in a name")]
#[test_case("GET / HTTP/1.1\r\n\r\n", Rule::NoHost; "no host")]
#[test_case("GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n", Rule::RepeatedHost; "two hosts")]
#[test_case("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Rule::TransferEncoding; "chunked in http 1.0")]
fn ambiguous_heads_are_violations(input: &str, rule: Rule) {
    let (sound, broken, requests) = judge(input.as_bytes());
    assert_eq!((broken, requests), (Some(rule), 0));
    assert!(!input.as_bytes()[..sound].ends_with(b"\r\n\r\n"), "the head must not reach its end");
}

#[test_case("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Rule::TwoLengths; "length, then chunked")]
#[test_case("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", Rule::TwoLengths; "chunked, then length")]
#[test_case("Content-Length: 3\r\ncontent-length: 3\r\n\r\n", Rule::RepeatedContentLength; "the same length twice")]
#[test_case("Content-Length: 0\r\nContent-Length: 3\r\n\r\n", Rule::RepeatedContentLength; "two lengths")]
#[test_case("Content-Length: 3, 3\r\n\r\n", Rule::ContentLength; "list")]
#[test_case("Content-Length: +3\r\n\r\n", Rule::ContentLength; "plus sign")]
#[test_case("Content-Length: -1\r\n\r\n", Rule::ContentLength; "minus sign")]
#[test_case("Content-Length: 0x3\r\n\r\n", Rule::ContentLength; "hexadecimal length")]
#[test_case("Content-Length: 03\r\n\r\n", Rule::ContentLength; "leading zero")]
#[test_case("Content-Length:\r\n\r\n", Rule::ContentLength; "empty length")]
#[test_case("Content-Length: 3 3\r\n\r\n", Rule::ContentLength; "blank within")]
#[test_case("Content-Length: 18446744073709551616\r\n\r\n", Rule::ContentLength; "more than 64 bits")]
#[test_case("Content-Length: 18446744073709551615\r\n\r\n", Rule::ContentLength; "a marker value of the library")]
#[test_case("Transfer-Encoding: gzip, chunked\r\n\r\n", Rule::TransferEncoding; "another coding")]
#[test_case("Transfer-Encoding: identity\r\n\r\n", Rule::TransferEncoding; "identity")]
#[test_case("Transfer-Encoding: Chunked\r\n\r\n", Rule::TransferEncoding; "other case")]
#[test_case("Transfer-Encoding: chunked;q=1\r\n\r\n", Rule::TransferEncoding; "parameter")]
#[test_case("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Rule::TransferEncoding; "chunked twice")]
#[test_case("Transfer-Encoding: \x0bchunked\r\n\r\n", Rule::ControlCharacter; "vertical tab")]
fn ambiguous_lengths_are_violations(fields: &str, rule: Rule) {
    let (_, broken, requests) = judge(format!("{HEAD}{fields}").as_bytes());
    assert_eq!((broken, requests), (Some(rule), 0));
}

#[test_case("3\nabc\r\n0\r\n\r\n", 1, Rule::BareLf; "bare lf after the size")]
#[test_case("3\r\nabc\n0\r\n\r\n", 6, Rule::ChunkEnd; "bare lf after the data")]
#[test_case("3\r\nabcd\r\n0\r\n\r\n", 6, Rule::ChunkEnd; "longer than its size")]
#[test_case("3\r\nabc\r0\r\n\r\n", 7, Rule::ChunkEnd; "bare cr after the data")]
#[test_case("3\rabc\r\n0\r\n\r\n", 2, Rule::BareCr; "bare cr after the size")]
#[test_case("3;a=b\r\nabc\r\n0\r\n\r\n", 1, Rule::ChunkExtension; "extension")]
#[test_case("3 \r\nabc\r\n0\r\n\r\n", 1, Rule::ChunkSize; "blank after the size")]
#[test_case("\r\nabc\r\n0\r\n\r\n", 0, Rule::ChunkSize; "no size")]
#[test_case("0x3\r\nabc\r\n0\r\n\r\n", 1, Rule::ChunkSize; "prefix")]
#[test_case("-3\r\nabc\r\n0\r\n\r\n", 0, Rule::ChunkSize; "sign")]
#[test_case("00000000000000003\r\nabc\r\n", 16, Rule::ChunkSize; "seventeen digits")]
#[test_case("0\r\nX: y\r\n\r\n", 3, Rule::Trailers; "trailers")]
#[test_case("0\r\n\n", 3, Rule::Trailers; "bare lf at the end")]
#[test_case("0\r\n\rx", 4, Rule::BareCr; "bare cr at the end")]
fn ambiguous_chunks_are_violations(body: &str, sound: usize, rule: Rule) {
    let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    assert_eq!(judge(format!("{head}{body}").as_bytes()), (head.len() + sound, Some(rule), 1));
    let mut grammar = Grammar::default();
    let (_, violation) = grammar.inspect(format!("{head}{body}").as_bytes());
    let violation = violation.expect("a violation");
    assert!(violation.in_body);
    assert_eq!(violation.request_line, Some(("POST".to_owned(), "/".to_owned())));
}

#[test]
fn a_head_of_64_kib_passes_and_one_byte_more_does_not() {
    let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
    for (extra, broken) in [(0, None), (1, Some(Rule::HeadTooLarge))] {
        let filler = "x".repeat(MAX_HEAD_BYTES - frame + extra);
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {filler}\r\n\r\n");
        assert_eq!(judge(input.as_bytes()).1, broken);
    }
}

#[test]
fn more_than_100_fields_are_a_violation() {
    for (fields, broken) in [(99, None), (100, Some(Rule::HeadTooLarge))] {
        let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(fields));
        assert_eq!(judge(input.as_bytes()).1, broken, "{fields}");
    }
}

#[test]
fn after_a_violation_nothing_is_sound() {
    let mut grammar = Grammar::default();
    assert!(grammar.inspect(b"\n").1.is_some());
    let (sound, violation) = grammar.inspect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(sound, 0);
    assert!(violation.is_some());
}

#[test]
fn every_prefix_of_a_sound_request_is_incomplete_until_its_end() {
    let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    let input = format!("{head}3\r\nabc\r\n0\r\n\r\n");
    for end in 0..input.len() {
        let mut grammar = Grammar::default();
        assert_eq!(grammar.inspect(&input.as_bytes()[..end]), (end, None));
        let position = match end {
            0 => Position::Idle,
            _ if end < head.len() => Position::Head,
            _ => Position::Body,
        };
        assert_eq!(grammar.position(), position, "after {end} bytes");
    }
}

/// Requests near the grammar's borders: pieces that are each sound or broken somewhere, in any order.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /b HTTP/1.1\r\nHost: a\r\n",
        "Content-Length: 4\r\n",
        "Content-Length: 4, 4\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Host: b\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "abcd",
        "4\r\nabcd\r\n",
        "0\r\n\r\n",
        ";x",
        "X: y\r\n",
        "\0",
    ]);
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn the_answer_does_not_depend_on_the_split(input in streams(), cuts in prop::collection::vec(0usize..200, 0..6)) {
        let whole = judge(&input);
        prop_assert_eq!(judge_pieces(input.chunks(1)), whole);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.sort_unstable();
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([input.len()]);
        prop_assert_eq!(judge_pieces(starts.zip(ends).map(|(start, end)| &input[start..end])), whole);
    }

    #[test]
    fn any_bytes_are_judged_the_same_in_one_piece_and_byte_by_byte(input in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(judge_pieces(input.chunks(1)), judge(&input));
    }

    #[test]
    fn the_guard_passes_on_exactly_the_sound_bytes_and_no_part_of_a_head(input in streams(), size in 1usize..40) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let passed = runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(size);
            let sent = input.clone();
            let writer = tokio::spawn(async move {
                // The guard's side goes away at a violation, so that not everything need be taken.
                let _ = client.write_all(&sent).await;
            });
            let mut guard = Guard::new(server, PATIENCE);
            let mut passed = Vec::new();
            guard.read_to_end(&mut passed).await.unwrap();
            let broken = guard.watch().violation().map(|violation| violation.rule);
            drop(guard);
            writer.await.unwrap();
            (passed, broken)
        });
        let mut grammar = Grammar::default();
        let (sound, violation) = grammar.inspect(&input);
        let passed_on = input[..sound - grammar.unfinished()].to_vec();
        prop_assert_eq!(passed, (passed_on, violation.map(|violation| violation.rule)));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_before_the_first_head_ends_the_stream_without_a_violation() {
    let (_client, server) = tokio::io::duplex(64);
    let mut guard = Guard::new(server, PATIENCE);
    let began = tokio::time::Instant::now();
    assert_eq!(guard.read(&mut [0; 16]).await.unwrap(), 0);
    assert_eq!(began.elapsed().as_secs(), 10);
    assert!(guard.watch().violation().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_a_violation_however_often_a_byte_comes() {
    let (mut client, server) = tokio::io::duplex(64);
    let mut guard = Guard::new(server, PATIENCE);
    let trickle = tokio::spawn(async move {
        for byte in b"GET / HTTP/1.1\r\nHost: a" {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        client
    });
    let began = tokio::time::Instant::now();
    let mut passed = Vec::new();
    guard.read_to_end(&mut passed).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(guard.watch().violation().map(|violation| violation.rule), Some(Rule::HeadTimeout));
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_longer_than_a_new_one() {
    let (mut client, server) = tokio::io::duplex(64);
    let mut guard = Guard::new(server, PATIENCE);
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let began = tokio::time::Instant::now();
    let mut passed = Vec::new();
    guard.read_to_end(&mut passed).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 60);
    assert!(guard.watch().violation().is_none());
}
