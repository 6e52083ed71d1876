//! What classifying and deciding a request costs, for 1,000 policies of 50 rules, and what they take of memory.
//!
//! `cargo bench -p tidegate --bench decide`

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a benchmark fails by panicking, and says what it measures"
)]

#[path = "decide/cases.rs"]
mod cases;
#[path = "decide/policy_text.rs"]
mod policy_text;

use cases::{Case, policy};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use policy_text::RULES;
use std::{fs, hint::black_box, sync::Arc};
use tidegate::{classify::Catalogue, decide::Policy};

const POLICIES: usize = 1_000;

/// Kilobytes that the process holds.
fn resident_kib() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").expect("a mounted /proc");
    let resident: usize = pages.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a number");
    resident * 4
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

    let cases = Case::all();
    // A policy that no request has used for 999 others has left the caches; the last one has not.
    for (group, kept) in [("classify_and_decide", POLICIES), ("classify_and_decide_warm", 1)] {
        let mut group = criterion.benchmark_group(group);
        for case in &cases {
            let policies = if case.conditions { &conditional } else { &plain };
            let mut next = policies.iter().take(kept).cycle();
            group.bench_function(case.name, |bencher| {
                bencher.iter_batched(
                    || next.next().expect("a cycle"),
                    // What a decision takes to be dropped is a part of what it costs.
                    |policy| drop(black_box(case.answer(policy))),
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
