use super::*;
use crate::{host::HostName, session::route::Names};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
};

fn watch() -> HostWatch {
    HostWatch::new(Names::new(&[HostName::parse("api.digitalocean.com").unwrap()]))
}

fn late() -> Inspection {
    let judge = |hello: &ClientHello| hello.sni.is_some().then_some(Reason::Silence);
    Inspection::Late(Box::new(judge), watch())
}

/// Runs a splice; gives the client's end, the server's end, and the splice's outcome.
async fn start(inspection: Inspection) -> (DuplexStream, TcpStream, tokio::task::JoinHandle<Spliced>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut upstream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (client, inner) = duplex(1 << 16);
    let splice = tokio::spawn(async move { splice(inner, &mut upstream, inspection).await });
    (client, server, splice)
}

/// What the server has received when the client has said `pieces` and ended, and how it ended.
async fn said(inspection: Inspection, pieces: &[&[u8]]) -> (Vec<u8>, End) {
    let (mut client, mut server, splice) = start(inspection).await;
    for piece in pieces {
        let _ = client.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    drop(client);
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    drop(server);
    (received, splice.await.unwrap().end)
}

#[tokio::test]
async fn bytes_pass_both_ways_unchanged_and_are_counted() {
    for inspection in [Inspection::None, Inspection::Http(watch()), late()] {
        let kind = format!("{inspection:?}");
        let (mut client, mut server, splice) = start(inspection).await;
        let sent: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let expected = sent.clone();
        let echo = tokio::spawn(async move {
            let mut received = vec![0; expected.len()];
            server.read_exact(&mut received).await.unwrap();
            server.write_all(&received).await.unwrap();
            assert_eq!(received, expected);
        });
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let mut back = vec![0; sent.len()];
        let (written, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut back));
        written.unwrap();
        read.unwrap();
        assert_eq!(back, sent, "{kind}");
        echo.await.unwrap();
        drop(client);
        let spliced = splice.await.unwrap();
        assert_eq!((spliced.bytes_in, spliced.bytes_out), (200_000, 200_000), "{kind}");
        assert!(matches!(spliced.end, End::Done), "{kind}: {:?}", spliced.end);
    }
}

#[tokio::test]
async fn a_request_for_a_protected_host_is_cut_off_before_it_leaves() {
    let first = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let second = b"GET / HTTP/1.1\r\nHost: api.digitalocean.com\r\n\r\n";
    let (received, end) = said(Inspection::Http(watch()), &[second]).await;
    assert_eq!((received.len(), matches!(end, End::Cut(Reason::PlainHttp))), (0, true), "{end:?}");
    let (received, end) = said(Inspection::Http(watch()), &[first, second]).await;
    assert!(!String::from_utf8_lossy(&received).contains("digitalocean"), "{received:?}");
    assert!(matches!(end, End::Cut(Reason::PlainHttp)), "{end:?}");
}

#[tokio::test]
async fn a_late_client_hello_is_judged_before_any_of_it_leaves() {
    let hello: &[u8] = include_bytes!("../../../../tests/fixtures/client_hello/curl-h2.bin");
    let (head, tail) = hello.split_at(100);
    let (received, end) = said(late(), &[head, tail]).await;
    assert_eq!(received, b"");
    assert!(matches!(end, End::Cut(Reason::Silence)), "{end:?}");
    let pass = Inspection::Late(Box::new(|_| None), watch());
    let (received, end) = said(pass, &[head, tail]).await;
    assert_eq!(received, hello);
    assert!(matches!(end, End::Done), "{end:?}");
}

#[tokio::test]
async fn half_a_late_client_hello_never_leaves() {
    let hello: &[u8] = include_bytes!("../../../../tests/fixtures/client_hello/curl-h2.bin");
    let (received, end) = said(late(), &[&hello[..100]]).await;
    assert_eq!(received, b"");
    assert!(matches!(end, End::Cut(Reason::HelloMalformed)), "{end:?}");
}

/// A socket, and its peer.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

#[tokio::test]
async fn what_the_kernel_passes_on_is_counted_too() {
    let ((mut client, inner), (mut upstream, mut server)) = (sockets().await, sockets().await);
    let mut inner = Rewind::new(inner);
    client.write_all(b"early").await.unwrap();
    inner.fill().await.unwrap();
    let splice = tokio::spawn(async move { splice(inner, &mut upstream, Inspection::None).await });
    const THERE: usize = 24 << 20;
    const BACK: usize = 16 << 20;
    let serving = tokio::spawn(async move {
        let mut received = vec![0; "early".len() + THERE];
        server.read_exact(&mut received).await.unwrap();
        server.write_all(&vec![7; BACK]).await.unwrap();
        received
    });
    client.write_all(&vec![9; THERE]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).await.unwrap();
    let received = serving.await.unwrap();
    assert!(received.starts_with(b"early\x09") && received.ends_with(b"\x09"));
    assert!(back.len() == BACK && back.iter().all(|byte| *byte == 7));
    let Spliced { bytes_in, bytes_out, end } = splice.await.unwrap();
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!((bytes_in, bytes_out), ((THERE + 5) as u64, BACK as u64));
}
