//! Any text as a condition, with any body: neither compiling nor evaluating panics or takes long, and a condition
//! that was compiled is the same when it is compiled again.
//!
//! An input is the condition, the body and the query, with lines of `--` between them; what is missing is empty.

#![no_main]

use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::time::SystemTime;
use tidegate::{
    classify::{Catalogue, Needs, Operation},
    decide::{Caller, Request, when::When},
};

fuzz_target!(|input: &str| {
    let mut parts = input.splitn(3, "\n--\n");
    let mut part = || parts.next().unwrap_or_default();
    let (text, body, query) = (part(), part(), part());
    let catalogue = Catalogue::embedded();
    let operations: Vec<&Operation> = ["droplets_create", "spacesKey_create", "apps_create", "droplets_list"]
        .iter()
        .map(|name| catalogue.operation(name).expect("the catalogue has it"))
        .collect();
    let Ok(when) = When::compile(text, catalogue, &operations) else { return };
    assert_eq!(Ok(&when), When::compile(when.text(), catalogue, &operations).as_ref());

    let body: Option<Value> = serde_json::from_str(body).ok();
    let (headers, caller) =
        (HeaderMap::new(), Caller { workload: "w", token_type: "dop", ..Caller::default() });
    for operation in [operations.first().copied(), None] {
        let needs = Needs::default();
        let (now, query) = (SystemTime::UNIX_EPOCH, Some(query));
        let (method, path, body) = (&Method::POST, "/v2/droplets", body.as_ref());
        let known = Request::new(method, &headers, operation);
        let request = Request { path, query, needs, body, caller, now, ..known };
        let answer = when.holds(&request);
        assert_eq!(answer, when.holds(&request), "the same request has the same answer");
        assert!(
            body.is_none() || when.reads_body() || answer == when.holds(&Request { body: None, ..request })
        );
    }
});
