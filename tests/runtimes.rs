//! Trust with no configuration: real runtimes, SDKs and tools under `tidegate run`, and what the CA is worth to a
//! thief. Needs root, and what `cargo xtask test` makes in `target/runtimes`.

#![expect(clippy::print_stdout, reason = "the table is what these tests are for")]

mod runtimes {
    pub(crate) mod matrix;
    pub(crate) mod programs;
    mod sdks;
    mod stolen;
}

use runtimes::{matrix::markdown, programs::RUNTIMES};

const DOCUMENT: &str = include_str!("../docs/runtimes.md");

#[test]
fn the_document_has_every_runtime_and_what_it_needs() {
    let table = markdown(&RUNTIMES);
    assert!(DOCUMENT.contains(&table), "docs/runtimes.md must hold:\n{table}");
}
