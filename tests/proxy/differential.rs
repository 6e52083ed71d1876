//! What two parsers could read differently, in one table: each row is refused with its reason and recorded, and
//! nothing of it reaches the upstream. What only looks like such a row arrives byte for byte.
//!
//! The policy allows all that aliases can allow, so that it is never the policy that refuses.

#[path = "differential/protocols.rs"]
mod protocols;
#[path = "differential/raw.rs"]
mod raw;
#[path = "differential/row.rs"]
mod row;
#[path = "differential/table.rs"]
mod table;

use super::{
    upstream::Speaks,
    world::{HOST, Setting, World, empty},
};
use raw::{Reply, ask_http1, ask_http2};
use row::Row;
use serde_json::Value;
use table::{CONTROLS, rows};
use test_case::test_matrix;

const LIMIT: usize = 4096;

async fn world(speaks: Speaks) -> World {
    let policy = "allow = [\"api:read\", \"api:write\"]";
    World::start(Setting { speaks, policy, body_inspect: LIMIT, ..Setting::default() }).await
}

/// The record of a request that was just answered. Others stood there before.
async fn next_record(world: &World, count: usize) -> Result<Value, String> {
    for _ in 0..100 {
        let records = world.audit();
        if let [_, ..] = &records[count.min(records.len())..] {
            return Ok(records[count].clone());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err("no record".to_owned())
}

fn check(row: &Row, reply: &Reply, record: &Value) -> Result<(), String> {
    let expected = (Some(u64::from(row.status)), row.reason);
    let status = record["http.response.status_code"].as_u64();
    let answered = (status, record["tidegate.reason"].as_str().unwrap_or_default());
    if answered != expected {
        return Err(format!("{answered:?} in place of {expected:?}: {}", record["tidegate.detail"]));
    }
    if (record["tidegate.decision"].as_str(), record["tidegate.verdict"].as_str())
        != (Some("deny"), Some("refused"))
    {
        return Err(format!("another verdict: {record}"));
    }
    let line = format!("HTTP/1.1 {} ", row.status);
    let said = format!("x-tidegate-decision: deny; reason={}\r\n", row.reason);
    let is_whole =
        |text: &String| text.starts_with(&line) && text.contains(&said) && text.contains("\"request_id\":");
    if reply.text.as_ref().is_some_and(|text| !is_whole(text)) {
        return Err(format!("another answer: {:?}", reply.text));
    }
    Ok(())
}

#[test_matrix([Speaks::Http1, Speaks::Http2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_parsers_could_read_differently_goes_nowhere(speaks: Speaks) {
    let world = world(speaks).await;
    let mut wrong = Vec::new();
    let (mut tried, mut recorded) = (0, 0);
    for row in rows(LIMIT) {
        for is_http2 in [false, true] {
            let Some(bytes) = row.bytes(is_http2) else { continue };
            let reply =
                if is_http2 { ask_http2(&world, &bytes).await } else { ask_http1(&world, &bytes).await };
            let outcome = match reply {
                // Below HTTP, where there is no request yet that could be recorded.
                Ok(reply) if is_http2 && row.is_reset => match reply.is_answer {
                    false => Ok(()),
                    true => Err("an answer".to_owned()),
                },
                Ok(reply) => match next_record(&world, recorded).await {
                    Ok(record) => check(&row, &reply, &record),
                    Err(problem) => Err(problem),
                },
                Err(problem) => Err(problem),
            };
            if let Err(problem) = outcome {
                wrong.push(format!(
                    "{} over HTTP/{}: {problem}",
                    row.name,
                    if is_http2 { "2" } else { "1.1" }
                ));
            }
            recorded = world.audit().len();
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 200, "only {tried} requests");
    let seen = world.upstream.seen();
    assert!(seen.is_empty() && world.upstream.connections() == 0, "{seen:?}");
    // What comes next is read as it was sent.
    let mut client = world.client(true).await;
    let next = client.request("GET", "/v2/account").body(empty()).unwrap();
    assert_eq!(client.ask(next).await.status(), 200);
}

#[test_matrix([Speaks::Http1, Speaks::Http2])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_looks_so_arrives_byte_for_byte(speaks: Speaks) {
    let world = world(speaks).await;
    for (name, method, target, content_type, body) in CONTROLS {
        for is_http2 in [false, true] {
            let row = Row::plain(name, method, target, *content_type, body.map(<[u8]>::to_vec));
            let bytes = row.bytes(is_http2).unwrap();
            let reply =
                if is_http2 { ask_http2(&world, &bytes).await } else { ask_http1(&world, &bytes).await };
            let reply = reply.unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert!(
                reply.is_answer && reply.text.is_none_or(|text| text.starts_with("HTTP/1.1 200 ")),
                "{name}"
            );
            let seen = world.upstream.seen().pop().unwrap();
            assert_eq!(seen.uri.path_and_query().map(|target| target.as_str()), Some(*target), "{name}");
            assert_eq!(seen.body.as_deref(), Some(body.unwrap_or_default()), "{name}");
            let kind = seen.headers.get("content-type").map(|value| value.to_str().unwrap());
            assert_eq!(kind, *content_type, "{name}");
        }
    }
    assert_eq!(world.upstream.seen().len(), 2 * CONTROLS.len());
}

/// The head says what the body will be, and the client waits for a word before it sends it.
#[tokio::test]
async fn a_body_that_is_too_large_is_not_asked_for() {
    let world = world(Speaks::Http1).await;
    let head = format!(
        "POST /v2/droplets HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        LIMIT + 1
    );
    let answer = world.exchange(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(world.records(1).await[0]["tidegate.reason"], "body_too_large");
    assert_eq!(world.upstream.connections(), 0);
}
