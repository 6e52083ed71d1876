//! What the agent does beside the hooks, so that they hold: it ends connections from before, and tells how it is.
//! Needs root.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking, too"
)]

#[path = "upkeep/connections.rs"]
mod connections;
#[path = "upkeep/status.rs"]
mod status;
