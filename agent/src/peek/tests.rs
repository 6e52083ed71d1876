use super::*;
use crate::host::HostName;
use test_case::test_case;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep},
};

const HELLO: &[u8] = include_bytes!("../../../tests/fixtures/client_hello/curl-h2.bin");
const PATIENCE: Duration = Duration::from_millis(60);

/// Peeks at a stream on which these bytes were written and that stays open.
async fn peek_at(bytes: &[u8]) -> (Peeked, Rewind<DuplexStream>, DuplexStream) {
    let (mut far, near) = duplex(1 << 20);
    far.write_all(bytes).await.unwrap();
    let (peeked, rewind) = peek(near, PATIENCE).await;
    (peeked, rewind, far)
}

#[test_case(b"", Peeked::Silence; "nothing")]
#[test_case(b"SSH-2.0-x\r\n", Peeked::NotTls; "ssh")]
#[test_case(b"\x80\x2e", Peeked::NotTls; "two bytes that could become sslv2")]
#[test_case(b"\x16", Peeked::HelloTimeout; "one byte of tls")]
#[test_case(&HELLO[..HELLO.len() - 1], Peeked::HelloTimeout; "all but the last byte")]
#[test_case(b"\x16\x03\x01\x00\x04\x01\x01\x00\x00", Peeked::HelloTooLarge; "says it is too large")]
#[test_case(b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x02\x00\xff", Peeked::HelloTimeout; "small records")]
#[tokio::test]
async fn beginnings_are_told_apart(bytes: &[u8], expected: Peeked) {
    let (peeked, rewind, _far) = peek_at(bytes).await;
    assert_eq!(peeked, expected);
    assert_eq!(rewind.buffered(), bytes);
}

#[tokio::test]
async fn a_hello_is_read_however_it_is_cut_into_segments() {
    for segment_len in [1, 7, 300, HELLO.len()] {
        let (mut far, near) = duplex(64);
        let writer = async {
            for segment in HELLO.chunks(segment_len) {
                far.write_all(segment).await.unwrap();
                tokio::task::yield_now().await;
            }
            far.write_all(b"after").await.unwrap();
            drop(far);
        };
        let reader = async {
            let (peeked, mut rewind) = peek(near, Duration::from_secs(10)).await;
            let Peeked::Tls(hello) = peeked else { panic!("{peeked:?}") };
            assert_eq!(hello.sni, HostName::parse("api.digitalocean.com").ok());
            let mut all = Vec::new();
            rewind.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [HELLO, b"after"].concat());
        };
        tokio::join!(writer, reader);
    }
}

#[test_case(b""; "before anything")]
#[test_case(&HELLO[..100]; "inside the hello")]
#[tokio::test]
async fn an_end_is_closed(bytes: &[u8]) {
    let (mut far, near) = duplex(4096);
    far.write_all(bytes).await.unwrap();
    drop(far);
    assert_eq!(peek(near, PATIENCE).await.0, Peeked::Closed);
}

#[tokio::test]
async fn malformed_says_what_is_wrong() {
    let (peeked, ..) = peek_at(b"\x16\x03\x01\x00\x00").await;
    assert!(matches!(peeked, Peeked::HelloMalformed(problem) if problem.contains("empty")), "{peeked:?}");
    assert_eq!(peeked.reason(), Some(Reason::HelloMalformed));
}

#[tokio::test]
async fn records_of_one_byte_end_at_the_bound() {
    let flood =
        [b"\x16\x03\x01\x00\x04\x01\x00\xff\xff".to_vec(), b"\x16\x03\x01\x00\x01\x00".repeat(20_000)]
            .concat();
    let (peeked, rewind, _far) = peek_at(&flood).await;
    assert_eq!(peeked, Peeked::HelloTooLarge);
    assert!(rewind.buffered().len() < 2 * MAX_PEEK_LEN);
}

#[tokio::test]
async fn a_drip_of_bytes_does_not_extend_the_time() {
    let (mut far, near) = duplex(4096);
    let drip = tokio::spawn(async move {
        for byte in HELLO {
            sleep(PATIENCE / 3).await;
            if far.write_u8(*byte).await.is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    assert_eq!(peek(near, PATIENCE).await.0, Peeked::HelloTimeout);
    // Had every byte its own time, it would be ten seconds.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    drip.abort();
}

#[tokio::test]
async fn more_is_read_until_the_end_of_a_head() {
    let head = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let ends = |bytes: &[u8]| bytes.ends_with(b"\r\n\r\n");
    let (peeked, mut rewind, mut far) = peek_at(&head[..10]).await;
    assert_eq!(peeked, Peeked::NotTls);
    assert_eq!(more(&mut rewind, ends, 1000, PATIENCE).await, More::Timeout);
    far.write_all(&head[10..]).await.unwrap();
    assert_eq!(more(&mut rewind, ends, 1000, PATIENCE).await, More::Found);
    assert_eq!(rewind.buffered(), head);
    assert_eq!(more(&mut rewind, |_| false, head.len(), PATIENCE).await, More::TooLarge);
    drop(far);
    assert_eq!(more(&mut rewind, |_| false, 1000, PATIENCE).await, More::Closed);
}
