//! What classifying and deciding a request costs, for 1,000 policies of 50 rules, and what they take of memory.
//!
//! `cargo bench -p tidegate --bench decide`

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a benchmark fails by panicking, and says what it measures"
)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Value, json};
use std::{fmt::Write, fs, hint::black_box, path::Path, sync::Arc, time::SystemTime};
use tidegate::{
    classify::{Catalogue, Needs, classify},
    decide::{Caller, Decision, Policy, Request, decide, document},
};

const POLICIES: usize = 1_000;
const RULES: usize = 50;

/// A policy as a large team's might be. Of the rules that speak of a request, only the last lets it pass.
fn policy(number: usize, conditions: bool) -> Policy {
    let catalogue = Catalogue::embedded();
    let scopes: Vec<&str> = catalogue.scopes().map(|entry| entry.scope.as_str()).collect();
    let mut text = String::from(
        "allow = [\"api:read\", \"image:read\"]\ndeny = [\"database:view_credentials\", \"app:delete\"]\n",
    );
    for index in 0..RULES {
        let is_last = index + 10 >= RULES;
        let effect = if index % 5 == 0 { "deny" } else { "allow" };
        let scope = match index % 10 {
            0 => "kubernetes:delete",
            1 => "droplet:create",
            2 => "droplet:delete",
            3 => "image:create",
            _ => scopes.get((number * RULES + index) % scopes.len()).expect("within"),
        };
        writeln!(text, "[[rule]]\neffect = \"{effect}\"\nscopes = [\"{scope}\"]").expect("a string");
        if scope == "droplet:delete" {
            let droplet = if is_last { 3_164_444 } else { number };
            writeln!(text, "resources = {{ droplet = [\"{index}\", \"{droplet}\"] }}").expect("a string");
        }
        if conditions && scope == "droplet:create" {
            let region = if is_last { "nyc3".to_owned() } else { format!("ams{index}") };
            let condition =
                format!("request.body.size.startsWith(\"s-\") && request.body.region == \"{region}\"");
            writeln!(text, "when = '{condition}'").expect("a string");
        }
    }
    document::parse(&format!("p{number}"), &text, Path::new("p.toml"), catalogue).expect("a valid policy")
}

/// Kilobytes that the process holds.
fn resident_kib() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("a mounted /proc");
    let resident: usize = pages.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a number");
    resident * 4
}

fn answer(
    policy: &Policy,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Option<&Value>,
) -> Decision {
    let classified = classify(Catalogue::embedded(), method, uri, headers).expect("a canonical request");
    let route = classified.route.as_ref().expect("a known operation");
    let query = classified.query;
    let request = Request {
        path: classified.path.as_str(),
        query,
        needs: Needs::of(route, query, body).expect("a known action"),
        body,
        caller: Caller { workload: "ci", ..Caller::default() },
        now: SystemTime::UNIX_EPOCH,
        ..Request::new(method, headers, Some(route.operation))
    };
    decide(policy, &request)
}

fn benchmark(criterion: &mut Criterion) {
    let before = resident_kib();
    let _ = Catalogue::embedded().operations().len();
    let with_catalogue = resident_kib();
    let plain: Vec<Arc<Policy>> = (0..POLICIES).map(|number| Arc::new(policy(number, false))).collect();
    let with_policies = resident_kib();
    let conditional: Vec<Arc<Policy>> = (0..POLICIES).map(|number| Arc::new(policy(number, true))).collect();
    let with_conditions = resident_kib();
    eprintln!("memory: catalogue {} KiB", with_catalogue - before);
    eprintln!("memory: {POLICIES} policies of {RULES} rules {} KiB", with_policies - with_catalogue);
    eprintln!("memory: the same with conditions {} KiB", with_conditions - with_policies);

    let none = HeaderMap::new();
    let usual = usual_headers();
    let body = json!({"name": "a", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-12-x64"});
    let requests = [
        ("get", &plain, Method::GET, "/v2/droplets/3164444", &none, None),
        ("get_with_headers", &plain, Method::GET, "/v2/droplets/3164444", &usual, None),
        ("get_with_query", &plain, Method::GET, "/v2/droplets?page=2&per_page=200", &usual, None),
        ("delete_of_resource", &plain, Method::DELETE, "/v2/droplets/3164444", &usual, None),
        ("denied", &plain, Method::POST, "/v2/firewalls", &usual, None),
        ("create", &plain, Method::POST, "/v2/droplets", &usual, Some(&body)),
        ("create_with_conditions", &conditional, Method::POST, "/v2/droplets", &usual, Some(&body)),
    ];
    // A policy that no request has used for 999 others has left the caches; the last one has not.
    for (group, kept) in [("classify_and_decide", POLICIES), ("classify_and_decide_warm", 1)] {
        let mut group = criterion.benchmark_group(group);
        for (name, policies, method, path, headers, body) in &requests {
            let uri: Uri = path.parse().expect("a path");
            let mut next = policies.iter().take(kept).cycle();
            group.bench_function(*name, |bencher| {
                bencher.iter_batched(
                    || next.next().expect("a cycle"),
                    // What a decision takes to be dropped is a part of what it costs.
                    |policy| drop(black_box(answer(policy, method, &uri, headers, *body))),
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

/// What the API's own client libraries send.
fn usual_headers() -> HeaderMap {
    let headers = [
        ("host", "api.digitalocean.com"),
        ("user-agent", "azsdk-python-pydo/0.18.0 Python/3.13.5 (Linux-6.12)"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "application/json"),
        ("connection", "keep-alive"),
        ("content-type", "application/json"),
        ("content-length", "88"),
        ("x-request-id", "0b1f3a1e-5d8a-4d0e-9d53-5b1f7a2c7f10"),
        ("authorization", "Bearer dop_v1_0123456789abcdef"),
    ];
    let headers =
        headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    headers.into_iter().collect()
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
