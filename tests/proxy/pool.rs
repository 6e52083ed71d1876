//! Which requests share an upstream connection, and which never do.

use super::{
    upstream::Speaks,
    world::{Client, Setting, World, empty, raw_for},
};
use std::{sync::Arc, time::Duration};
use test_case::test_case;

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
        world.connection(|connection| connection.principal.workload = "other".into()),
        world.connection(|connection| connection.netns_cookie = 2),
    ];
    assert_eq!(ask(world.connection.clone()).await, 200);
    for (index, connection) in others.into_iter().enumerate() {
        assert_eq!(ask(connection).await, 200);
        assert_eq!(world.upstream.connections(), index + 2);
    }
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
