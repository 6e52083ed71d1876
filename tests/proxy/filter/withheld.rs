//! Answers that cannot be filtered, of which nothing is shown.

use super::{super::world, *};
use test_case::test_case;

#[test_case(200, &[("content-type", "text/yaml")], b"password: s3cr3t-of-the-database", "no JSON but `text/yaml`"; "yaml")]
#[test_case(200, &[("content-type", "text/html"), ("server", "cloudflare")], b"<p>s3cr3t-of-the-database</p>", "no JSON"; "a page")]
#[test_case(404, &[("content-type", "text/plain")], b"s3cr3t-of-the-database", "answer (404) is withheld"; "an error in words")]
#[test_case(200, &[], b"{}", "does not say its type"; "no type")]
#[test_case(206, &[JSON], b"{}", "a part of a document"; "a part")]
#[test_case(200, &[JSON, ("content-encoding", "br")], b"x", "encoding `br`"; "an unknown encoding")]
#[test_case(200, &[JSON, ("content-encoding", "gzip, gzip")], b"x", "encoding `gzip, gzip`"; "encoded twice")]
#[test_case(200, &[JSON, GZIP], b"{\"password\":\"s3cr3t-of-the-database\"}", "its compression is broken"; "not compressed")]
#[test_case(200, &[JSON], b"{\"a\":\"s3cr3t-of-the-database\"", "no whole JSON document: a comma or the end"; "half a document")]
#[test_case(200, &[JSON], b"{\"a\":1} {\"password\":\"s3cr3t-of-the-database\"}", "the end is missing at byte 8"; "two documents")]
#[test_case(200, &[JSON], b"{'password':'s3cr3t-of-the-database'}", "a name is missing at byte 1"; "other quotes")]
#[test_case(200, &[JSON], b"\xef\xbb\xbf{}", "a value is missing at byte 0"; "a byte order mark")]
#[tokio::test]
async fn what_cannot_be_filtered_is_withheld(
    status: u16,
    fields: &[(&'static str, &str)],
    body: &[u8],
    problem: &str,
) {
    for is_http2 in [false, true] {
        let world = start(Speaks::Http1, NO_CREDENTIALS).await;
        world.upstream.put(canned(status, fields, body));
        let mut client = world.client(is_http2).await;
        let answer = client.ask(asking(&client, "GET")).await;
        let records = world.records(1).await;
        assert_withheld(&answer, &records[0], problem);
        // The client's connection goes on.
        world.upstream.put(canned(200, &[JSON], b"{}"));
        assert_eq!(client.ask(asking(&client, "GET")).await.status(), 200);
    }
}

fn assert_withheld(answer: &Answer, record: &Value, problem: &str) {
    assert_nothing_shows(answer, std::slice::from_ref(record));
    assert_eq!((answer.status(), &answer.json()["id"]), (502, &"bad_gateway".into()));
    assert_eq!(answer.head.headers["x-tidegate-decision"], "allow; reason=unfilterable");
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(problem) && message.contains("database:view_credentials"), "{message}");
    assert!(!message.contains("carried out"), "{message}");
    assert_eq!(
        (&record["tidegate.reason"], &record["tidegate.verdict"]),
        (&"unfilterable".into(), &"forwarded".into())
    );
    assert_eq!(record["http.response.status_code"], 502);
    assert!(record["tidegate.detail"].as_str().unwrap().contains(problem));
    assert_eq!(record["tidegate.bytes.out"], answer.body.len());
    assert_eq!(record.get("tidegate.filtered"), None);
}

#[test_case(b"Content-Length: 100\r\n\r\n{\"password\":\"s3cr3t-of-the-database\"}", "it is not whole"; "shorter than its length")]
#[test_case(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "it is not whole"; "chunks without an end")]
#[test_case(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nDigest: x\r\n\r\n", "trailers follow it"; "trailers")]
#[test_case(b"Content-Length: 33554433\r\n\r\n{}", "larger than 32 MiB"; "a length past the limit")]
#[test_case(b"\r\n{\"password\":\"s3cr3t-of-the-database\"", "no whole JSON document"; "no length and no end")]
#[tokio::test]
async fn an_answer_that_is_not_whole_is_withheld(rest: &[u8], problem: &str) {
    let raw = [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", rest].concat();
    let world = start(Speaks::Raw(raw), NO_CREDENTIALS).await;
    let mut client = world.client(true).await;
    let answer = client.ask(asking(&client, "GET")).await;
    assert_withheld(&answer, &world.records(1).await[0], problem);
}

#[test_case(false; "as it is")]
#[test_case(true; "compressed")]
#[tokio::test]
async fn an_answer_that_grows_too_long_is_withheld(is_gzip: bool) {
    let world = start(Speaks::Http1, NO_CREDENTIALS).await;
    let body = [&b"{\"a\":\""[..], &vec![b'a'; 33 << 20], b"\"}"].concat();
    let answer = if is_gzip { canned(200, &[JSON, GZIP], &gzip(&body)) } else { canned(200, &[JSON], &body) };
    world.upstream.put(answer);
    let mut client = world.client(false).await;
    let answer = client.ask(asking(&client, "GET")).await;
    assert_withheld(&answer, &world.records(1).await[0], "larger than 32 MiB");
}

#[tokio::test]
async fn a_withheld_answer_to_a_write_says_that_it_was_carried_out() {
    let world = start(Speaks::Http1, NO_CREDENTIALS).await;
    world.upstream.put(canned(201, &[("content-type", "text/yaml")], b"x"));
    let mut client = world.client(false).await;
    let request = client.request("POST", "/v2/databases").header("x-test", "canned");
    let body = br#"{"name":"a","engine":"pg","num_nodes":1,"region":"nyc3","size":"db-s-1vcpu-1gb"}"#;
    let answer = client.ask(request.body(world::body(body)).unwrap()).await;
    assert_eq!(answer.status(), 502);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the request was carried out, but the upstream's answer (201)"), "{message}");
}
