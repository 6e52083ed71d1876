//! Limits: how much of what is allowed goes out, and how the rest is refused.

use super::{
    upstream::Speaks,
    world::{Answer, Client, Setting, TOKEN, World, body, empty, raw_for},
};
use http::{HeaderValue, header::AUTHORIZATION};
use serde_json::Value;
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use test_case::{test_case, test_matrix};
use tidegate::session::Treatment;

const OTHER_TOKEN: &str = "dop_v1_eeeeeeeeeeeeeeeeffffffffffffffff00000000000000001111111111111111";

async fn world(policy: &'static str) -> World {
    World::start(Setting { policy, ..Setting::default() }).await
}

async fn get(client: &mut Client, target: &str, test: &str) -> Answer {
    let request = client.request("GET", target).header("x-test", test).body(empty()).unwrap();
    client.ask(request).await
}

async fn create_domain(client: &mut Client) -> Answer {
    let request = client.request("POST", "/v2/domains").body(body(br#"{"name":"example.com"}"#)).unwrap();
    client.ask(request).await
}

fn number(answer: &Answer, name: &str) -> u64 {
    answer.head.headers[name].to_str().unwrap().parse().unwrap()
}

fn outcomes(records: &[Value]) -> Vec<&Value> {
    records.iter().filter(|record| record["tidegate.phase"] == "outcome").collect()
}

#[test_matrix([false, true], [Speaks::Http1, Speaks::Http2])]
#[tokio::test]
async fn what_is_over_the_limit_is_refused_as_the_api_does(is_http2: bool, speaks: Speaks) {
    let policy = r#"
        contact = "ops@example.com"
        allow = ["api:read", "domain:create"]
        [[limit]]
        scopes = ["domain:create"]
        rate = "2/hour"
        reason = "zones are for ever"
    "#;
    let world = World::start(Setting { policy, speaks, ..Setting::default() }).await;
    let mut client = world.client(is_http2).await;
    for _ in 0..2 {
        assert_eq!(create_domain(&mut client).await.status(), 200);
    }
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let answer = create_domain(&mut client).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.head.headers["content-type"], "application/json");
    assert_eq!(answer.head.headers["x-tidegate-decision"], "deny; reason=rate_limited");
    let after = number(&answer, "retry-after");
    assert!((3_590..=3_600).contains(&after), "{after}");
    assert_eq!((number(&answer, "ratelimit-limit"), number(&answer, "ratelimit-remaining")), (2, 0));
    let reset = number(&answer, "ratelimit-reset");
    assert!((before + after - 1..=before + after + 10).contains(&reset), "{reset} is not in {after} s");

    let records = world.records(5).await;
    let record = &records[4];
    assert_eq!(
        answer.json(),
        serde_json::json!({
            "id": "too_many_requests",
            "message": format!(
                "tidegate: workload \"run\" may not call domains_create (POST /v2/domains) yet: the limit of 2/hour for \
                 domain:create is used up (zones are for ever); try again in {after} seconds; policy \"test\", rule \
                 limit[0]; contact ops@example.com"
            ),
            "request_id": record["tidegate.request.id"],
        })
    );
    for (key, value) in [
        ("tidegate.phase", "outcome"),
        ("tidegate.decision", "deny"),
        ("tidegate.verdict", "refused"),
        ("tidegate.reason", "rate_limited"),
        ("tidegate.rule", "limit[0]"),
        ("tidegate.operation", "domains_create"),
    ] {
        assert_eq!(record[key], value, "{key}");
    }
    assert_eq!(record["http.response.status_code"], 429);
    assert_eq!(record["tidegate.scopes.required"], serde_json::json!(["domain:create"]));

    // What the limit does not count goes on, on the same connection.
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 200);
    assert_eq!(world.upstream.seen().len(), 3);
}

#[test_case(false)]
#[test_case(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_requests_together_get_no_more_than_the_limit(is_http2: bool) {
    let world = world("allow = [\"api:read\"]\n[[limit]]\nrate = \"7/hour\"").await;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let connection = Arc::clone(&world.connection);
            tokio::spawn(async move {
                let mut client = Client::new(raw_for(connection, is_http2).0, is_http2).await;
                let mut statuses = Vec::new();
                for _ in 0..4 {
                    statuses.push(get(&mut client, "/v2/droplets", "").await.status());
                }
                statuses
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.extend(task.await.unwrap());
    }
    let count = |status: u16| statuses.iter().filter(|other| **other == status).count();
    assert_eq!((count(200), count(429)), (7, 33), "{statuses:?}");
    assert_eq!(world.upstream.seen().len(), 7);
    let records = world.records(40).await;
    let refused = records.iter().filter(|record| record["tidegate.verdict"] == "refused").count();
    assert_eq!(refused, 33);
}

#[tokio::test]
async fn a_share_is_counted_for_each_token() {
    // A hundredth is 2 a minute.
    let world = world("allow = [\"api:read\"]\n[[limit]]\nshare = \"1%\"").await;
    let mut client = world.client(false).await;
    let token = |token: &str| Some(HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    let mut statuses = Vec::new();
    for token in [token(TOKEN), token(OTHER_TOKEN), None] {
        for _ in 0..3 {
            let mut request = client.request("GET", "/v2/droplets").body(empty()).unwrap();
            request.headers_mut().remove(AUTHORIZATION);
            if let Some(token) = &token {
                request.headers_mut().insert(AUTHORIZATION, token.clone());
            }
            statuses.push(client.ask(request).await.status());
        }
    }
    assert_eq!(statuses, [200, 200, 429].repeat(3));
    let refused = get(&mut client, "/v2/droplets", "").await;
    let message = refused.json()["message"].to_string();
    assert!(message.contains("its 1% of the token's budget, 2/minute, is used up"), "{message}");
    assert_eq!(number(&refused, "ratelimit-limit"), 2);
    assert!((55..=60).contains(&number(&refused, "retry-after")));
}

#[test_case(Speaks::Http1)]
#[test_case(Speaks::Http2)]
#[tokio::test]
async fn what_the_api_says_of_the_budget_is_passed_on_recorded_and_the_base_of_a_share(speaks: Speaks) {
    let policy = "allow = [\"api:read\"]\n[[limit]]\nshare = \"1%\"";
    let world = World::start(Setting { policy, speaks, ..Setting::default() }).await;
    let mut client = world.client(true).await;
    let answer = get(&mut client, "/v2/droplets", "ratelimit=10000").await;
    for (name, value) in
        [("ratelimit-limit", 10_000), ("ratelimit-remaining", 9_999), ("ratelimit-reset", 1_700_000_000)]
    {
        assert_eq!(number(&answer, name), value);
    }
    let record = world.records(1).await.remove(0);
    assert_eq!(record["tidegate.ratelimit.limit"], 10_000);
    assert_eq!(record["tidegate.ratelimit.remaining"], 9_999);
    assert_eq!(record["tidegate.ratelimit.reset"], 1_700_000_000);
    let fingerprint = record["tidegate.token.fingerprint"].as_str().unwrap();
    let budget = world.connection.services.budgets.of(fingerprint).unwrap();
    assert_eq!((budget.limit, budget.remaining), (Some(10_000), Some(9_999)));

    // A hundredth of 500 a minute is 5.
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(get(&mut client, "/v2/droplets", "").await.status());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    for record in &world.records(6).await[1..] {
        assert!(
            record.as_object().unwrap().keys().all(|key| !key.starts_with("tidegate.ratelimit")),
            "{record}"
        );
    }
}

#[tokio::test]
async fn of_the_edge_and_of_other_hosts_no_budget_is_learnt() {
    let world = world(r#"allow = ["api:read"]"#).await;
    let mut client = world.client(false).await;
    assert_eq!(get(&mut client, "/v2/droplets", "edge").await.head.headers["ratelimit-limit"], "300");
    let neighbour = world.connection(|connection| connection.treatment = Treatment::Neighbour);
    let mut client = Client::new(raw_for(neighbour, false).0, false).await;
    assert_eq!(get(&mut client, "/v2/droplets", "ratelimit=10000").await.status(), 200);
    for record in world.records(2).await {
        assert_eq!(record.get("tidegate.ratelimit.limit"), None);
        let fingerprint = record["tidegate.token.fingerprint"].as_str().unwrap();
        assert_eq!(world.connection.services.budgets.of(fingerprint), None);
    }
}

#[tokio::test]
async fn a_dry_run_forwards_and_records_what_would_have_been_refused() {
    let policy = r#"
        allow = ["api:read"]
        [[limit]]
        rate = "1/hour"
        mode = "dry-run"
    "#;
    let world = world(policy).await;
    let mut client = world.client(true).await;
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 200);
    }
    let records = world.records(2).await;
    let facts = |record: &Value| {
        ["decision", "verdict", "reason", "rule"]
            .map(|key| record[format!("tidegate.{key}")].as_str().unwrap().to_owned())
    };
    assert_eq!(facts(&records[0]), ["allow", "forwarded", "scopes_allowed", "allow[0]"]);
    assert_eq!(facts(&records[1]), ["deny", "would_refuse", "rate_limited", "limit[0]"]);
    assert_eq!(world.upstream.seen().len(), 2);
}

#[tokio::test]
async fn an_enforced_limit_holds_what_a_dry_run_forwards() {
    let policy = r#"
        mode = "dry-run"
        [[limit]]
        rate = "1/hour"
        mode = "enforce"
    "#;
    let world = world(policy).await;
    let mut client = world.client(true).await;
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 200);
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 429);
    let records = world.records(2).await;
    assert_eq!(records[0]["tidegate.reason"], "missing_scope");
    assert_eq!(records[0]["tidegate.verdict"], "would_refuse");
    assert_eq!(records[1]["tidegate.reason"], "rate_limited");
    assert_eq!(records[1]["tidegate.verdict"], "refused");
}

#[tokio::test]
async fn what_is_refused_for_another_reason_does_not_count() {
    let world = world("allow = [\"api:read\", \"domain:create\"]\n[[limit]]\nrate = \"1/hour\"").await;
    let mut client = world.client(false).await;
    let request = client.request("DELETE", "/v2/droplets/1").body(empty()).unwrap();
    assert_eq!(client.ask(request).await.status(), 403);
    let request = client
        .request("POST", "/v2/domains")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body(b"_method=DELETE"))
        .unwrap();
    assert_eq!(client.ask(request).await.status(), 400);
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 200);
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 429);
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_count() {
    let policy = "allow = [\"api:read\", \"domain:create\"]\n[[limit]]\nrate = \"1/hour\"";
    let setting = Setting { policy, audit_path: Some("/dev/full"), ..Setting::default() };
    let world = World::start(setting).await;
    let mut client = world.client(false).await;
    for _ in 0..3 {
        assert_eq!(create_domain(&mut client).await.status(), 503);
    }
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 200);
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 429);
}

#[tokio::test]
async fn what_cannot_have_reached_the_upstream_does_not_count() {
    let world = world("allow = [\"api:read\"]\n[[limit]]\nrate = \"1/hour\"").await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let elsewhere = world.connection(|connection| connection.destination = unused);
    for _ in 0..2 {
        let mut lost = Client::new(raw_for(Arc::clone(&elsewhere), false).0, false).await;
        assert_eq!(get(&mut lost, "/v2/droplets", "").await.status(), 502);
    }
    let mut client = world.client(false).await;
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 200);
    assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), 429);
    let records = world.records(4).await;
    let reasons: Vec<&Value> =
        outcomes(&records).into_iter().map(|record| &record["tidegate.reason"]).collect();
    assert_eq!(reasons, ["upstream_unreachable", "upstream_unreachable", "scopes_allowed", "rate_limited"]);
}

#[tokio::test]
async fn what_may_have_reached_the_upstream_counts() {
    let policy = "allow = [\"api:read\"]\n[[limit]]\nrate = \"1/hour\"";
    let speaks = Speaks::Raw(Vec::new());
    let world = World::start(Setting { policy, speaks, ..Setting::default() }).await;
    for status in [502, 429] {
        let mut client = world.client(false).await;
        assert_eq!(get(&mut client, "/v2/droplets", "").await.status(), status);
    }
}
