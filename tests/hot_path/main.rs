//! `tidegate-hot-path TIMES`: classifies and decides each request so many times, for `cargo xtask hot-path`, which counts
//! the instructions of [`counted`] under valgrind, apart for each call of [`one_case`]. Without arguments: the requests in
//! the same order, with what each allocates.

#![expect(clippy::expect_used, reason = "a benchmark fails by panicking, and says what it measures")]

mod allocations;
#[path = "../../agent/benches/decide/cases.rs"]
mod cases;
#[path = "../../agent/benches/decide/policy_text.rs"]
mod policy_text;

use allocations::{Allocated, Counting};
use anyhow::{Context as _, Result, bail};
use cases::{Case, policy};
use std::{
    env,
    hint::black_box,
    io::{self, Write as _},
};
use tidegate::decide::Policy;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => tell_allocations(),
        [times] => {
            let times = times.parse().context("how many times")?;
            for case in Case::all() {
                let policy = policy(0, case.conditions);
                // What is made once and kept is none of a request's costs.
                warmed_up(&case, &policy);
                one_case(&case, &policy, times);
            }
            Ok(())
        }
        _ => bail!("usage: tidegate-hot-path [TIMES]"),
    }
}

/// valgrind writes down what it has counted after each call.
#[inline(never)]
fn one_case(case: &Case, policy: &Policy, times: usize) {
    for _ in 0..times {
        counted(case, policy);
    }
}

/// The one function whose instructions are counted, with all that it calls.
#[inline(never)]
fn counted(case: &Case, policy: &Policy) {
    drop(black_box(case.answer(black_box(policy))));
}

#[inline(never)]
fn warmed_up(case: &Case, policy: &Policy) {
    for _ in 0..2 {
        drop(black_box(black_box(case).answer(policy)));
    }
}

fn tell_allocations() -> Result<()> {
    let mut out = io::stdout().lock();
    for case in Case::all() {
        let policy = policy(0, case.conditions);
        warmed_up(&case, &policy);
        let before = Allocated::so_far();
        counted(&case, &policy);
        let Allocated { times, bytes } = Allocated::so_far().since(before);
        writeln!(out, "{} {times} {bytes}", case.name)?;
    }
    Ok(())
}
