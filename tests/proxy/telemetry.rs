//! What a client says of its trace, and a collector that no request waits for.

use super::world::{Setting, World, empty};
use std::time::{Duration, Instant};
use test_case::test_case;
use tidegate::config::{Otlp, otlp::Endpoint};
use tokio::net::TcpListener;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test_case(false, TRACEPARENT, true; "over http1")]
#[test_case(true, TRACEPARENT, true; "over http2")]
#[test_case(false, "00-4BF9-00-01", false; "not well-formed")]
#[tokio::test]
async fn the_clients_trace_is_recorded_and_passed_on_as_it_came(is_http2: bool, value: &str, recorded: bool) {
    let world = World::start(Setting::default()).await;
    let mut client = world.client(is_http2).await;
    let request = client.request("GET", "/v2/droplets").header("traceparent", value);
    let request = request.header("tracestate", "vendor=1").body(empty()).unwrap();
    assert_eq!(client.ask(request).await.status(), 200);
    let seen = world.upstream.seen().remove(0);
    assert_eq!(
        (&seen.headers["traceparent"], &seen.headers["tracestate"]),
        (&value.parse().unwrap(), &"vendor=1".parse().unwrap())
    );
    let record = world.records(1).await.remove(0);
    let told = ["trace_id", "span_id", "trace_flags"].map(|key| record[key].as_str());
    let expected = [Some("4bf92f3577b34da6a3ce929d0e0e4736"), Some("00f067aa0ba902b7"), Some("01")];
    assert_eq!(told, if recorded { expected } else { [None; 3] });
}

#[tokio::test]
async fn requests_do_not_wait_for_a_collector_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let otlp = Otlp {
        endpoint: Endpoint::parse(&format!("http://{}", silent.local_addr().unwrap())).unwrap(),
        headers: None,
        ca_file: None,
        timeout: Duration::from_secs(60),
        logs: true,
        traces: true,
    };
    let world = World::start(Setting { otlp: Some(otlp), ..Setting::default() }).await;
    let mut client = world.client(false).await;
    let began = Instant::now();
    for _ in 0..20 {
        let request = client.request("GET", "/v2/droplets").body(empty()).unwrap();
        assert_eq!(client.ask(request).await.status(), 200);
    }
    // The collector is asked at all.
    let asked = tokio::time::timeout(Duration::from_secs(10), silent.accept()).await;
    assert!(asked.is_ok_and(|accepted| accepted.is_ok()));
    for _ in 0..20 {
        let request = client.request("GET", "/v2/droplets").body(empty()).unwrap();
        assert_eq!(client.ask(request).await.status(), 200);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    world.records(40).await;
}
