//! Policies that are replaced while requests are under way.

use super::world::{HOST, Setting, TOKEN, World, empty, policies};
use std::time::{Duration, Instant};
use test_case::test_matrix;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

const WIDE: &str = r#"allow = ["api:read", "domain:create"]"#;
const NARROW: &str = r#"allow = ["api:read"]"#;

#[test_matrix([false, true])]
#[tokio::test]
async fn each_request_on_a_kept_connection_is_decided_by_what_is_in_force(is_http2: bool) {
    let world = World::start(Setting { policy: NARROW, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    let mut digests = Vec::new();
    for (policy, status) in [(NARROW, 403), (WIDE, 200), (NARROW, 403)] {
        let change = world.store.replace(policies(policy)).unwrap();
        digests.push(change.after.to_string());
        let request = client.request("POST", "/v2/domains").body(empty()).unwrap();
        assert_eq!(client.ask(request).await.status(), status);
    }
    assert_eq!(digests[0], digests[2]);
    assert_ne!(digests[0], digests[1]);
    // The one that was forwarded has two lines.
    let expected = [0, 1, 1, 2].map(|index| digests[index].clone());
    let recorded = world.records(4).await;
    let recorded: Vec<_> =
        recorded.iter().map(|record| record["tidegate.policy.digest"].as_str().unwrap()).collect();
    assert_eq!(recorded, expected);
}

/// The connection is read by hand, so that the request is held where the test wants it.
#[tokio::test]
async fn a_request_ends_under_the_policies_that_it_began_with() {
    let head = format!(
        "POST /v2/domains HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {TOKEN}\r\nx-test: echo\r\n\
         content-type: application/json\r\ncontent-length: 8\r\n\r\n"
    );
    let world = World::start(Setting { policy: WIDE, ..Setting::default() }).await;
    let (mut stream, _) = world.raw(false);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"{\"a\"").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.lines_at_upstream.lock().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the head did not reach the upstream");
        sleep(Duration::from_millis(5)).await;
    }
    let change = world.store.replace(policies(NARROW)).unwrap();
    stream.write_all(b":17}").await.unwrap();
    stream.write_all(format!("{head}{{\"b\":17}}").as_bytes()).await.unwrap();

    let mut answers = String::new();
    while !answers.contains("missing_scope") {
        let mut piece = [0; 4096];
        let read = timeout(Duration::from_secs(10), stream.read(&mut piece)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{answers}");
        answers.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    assert!(answers.starts_with("HTTP/1.1 201 "), "{answers}");
    assert!(answers.contains("{\"a\":17}\r\n") && answers.contains("\nHTTP/1.1 403 "), "{answers}");
    assert_eq!(world.upstream.seen().len(), 1);
    let (before, after) = (&*change.before, &*change.after);
    let recorded = world.records(3).await;
    for (record, digest) in recorded.iter().zip([before, before, after]) {
        assert_eq!(record["tidegate.policy.digest"], digest, "{record}");
    }
}
