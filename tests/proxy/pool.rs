//! Which requests share an upstream connection, and which never do.

use super::{
    upstream::Speaks,
    world::{Client, Setting, World, empty, raw_for},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use test_case::test_case;
use tidegate::forward::Via;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

async fn ask(connection: Arc<tidegate::session::Connection>) -> u16 {
    let mut client = Client::new(raw_for(connection, false).0, false).await;
    let request = client.request("GET", "/v2/account").body(empty()).unwrap();
    client.ask(request).await.status()
}

#[test_case(Speaks::Http1)]
#[test_case(Speaks::Http2)]
#[tokio::test]
async fn a_connection_that_was_prepared_carries_the_first_request(speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    world.connection.services.forwarder.prepare(&world.connection.key()).await.unwrap();
    assert_eq!(world.upstream.connections(), 1);
    assert_eq!(ask(world.connection.clone()).await, 200);
    assert_eq!(ask(world.connection.clone()).await, 200);
    assert_eq!(world.upstream.connections(), 1);
}

#[test_case(Speaks::Http1)]
#[test_case(Speaks::Http2)]
#[tokio::test]
async fn workloads_and_namespaces_never_share_a_connection(speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    let others = [
        world.connection(|connection| connection.principal.name = "other".into()),
        world.connection(|connection| connection.netns_cookie = 2),
    ];
    assert_eq!(ask(world.connection.clone()).await, 200);
    for (index, connection) in others.into_iter().enumerate() {
        assert_eq!(ask(connection).await, 200);
        assert_eq!(world.upstream.connections(), index + 2);
    }
}

const CONNECT: &str = "CONNECT api.digitalocean.com:443 HTTP/1.1\r\n\r\n";
/// As another client, or one with other credentials, would say it; of the same length.
const OTHER_CONNECT: &str = "CONNECT api.digitalocean.com:443 HTTP/1.0\r\n\r\n";

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A forward proxy that answers each request so, and after [`ESTABLISHED`] leads to `upstream`; with how many there were.
async fn forward_proxy(answer: &'static str, upstream: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            tokio::spawn(async move {
                let mut head = vec![0; CONNECT.len()];
                client.read_exact(&mut head).await.unwrap();
                assert!(head == CONNECT.as_bytes() || head == OTHER_CONNECT.as_bytes());
                client.write_all(answer.as_bytes()).await.unwrap();
                if answer != ESTABLISHED {
                    return;
                }
                let mut server = TcpStream::connect(upstream).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, count)
}

#[test_case(Speaks::Http1)]
#[test_case(Speaks::Http2)]
#[tokio::test]
async fn a_tunnel_is_asked_for_again_as_the_client_did_and_shared_only_then(speaks: Speaks) {
    let world = World::start(Setting { speaks, ..Setting::default() }).await;
    let (proxy, tunnels) = forward_proxy(ESTABLISHED, world.upstream.address).await;
    let via = |head: &'static str| {
        world.connection(|connection| {
            connection.destination = proxy;
            connection.via = Some(Arc::new(Via::new(head.into(), 443)));
        })
    };
    for (connection, tunnels_so_far, connections) in [
        (via(CONNECT), 1, 1),
        (via(CONNECT), 1, 1),
        (via(OTHER_CONNECT), 2, 2),
        (world.connection.clone(), 2, 3),
    ] {
        assert_eq!(ask(connection).await, 200);
        assert_eq!((tunnels.load(Relaxed), world.upstream.connections()), (tunnels_so_far, connections));
    }
}

#[test_case("HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "proxy_refused"; "a refusal")]
#[test_case("HTTP/1.1 200 OK\r\n\r\nhello", "upstream_failed"; "a far end that speaks first")]
#[test_case("220 ready\r\n\r\n", "upstream_failed"; "no proxy")]
#[tokio::test]
async fn without_a_tunnel_there_is_no_other_way(answer: &'static str, reason: &str) {
    let world = World::start(Setting::default()).await;
    let (proxy, _) = forward_proxy(answer, world.upstream.address).await;
    let connection = world.connection(|connection| {
        connection.destination = proxy;
        connection.via = Some(Arc::new(Via::new(CONNECT.into(), 443)));
    });
    assert_eq!(ask(connection).await, 502);
    assert_eq!(world.upstream.connections(), 0);
    assert_eq!(world.records(1).await[0]["tidegate.reason"], reason);
}

#[tokio::test]
async fn preparing_tells_an_upstream_that_is_not_the_host() {
    let world = World::start(Setting { certified: "evil.example", ..Setting::default() }).await;
    let error = world.connection.services.forwarder.prepare(&world.connection.key()).await.unwrap_err();
    assert_eq!(error.reason().code(), "upstream_not_host");
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_is_not_used_again() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let world = World::start(Setting { speaks: Speaks::Raw(answer), ..Setting::default() }).await;
    for _ in 0..10 {
        assert_eq!(ask(world.connection.clone()).await, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.upstream.connections(), 10);
    world.records(10).await;
}

#[tokio::test]
async fn a_failed_dial_is_not_repeated_by_those_who_waited_for_it() {
    let world = World::start(Setting { certified: "evil.example", ..Setting::default() }).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..50 {
        asking.spawn(ask(world.connection.clone()));
    }
    assert!(asking.join_all().await.iter().all(|status| *status == 502));
    assert!(world.upstream.connections() < 10, "{} dials", world.upstream.connections());
    world.records(50).await;
}
