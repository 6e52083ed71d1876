//! What the agent does beside the hooks, so that they hold: it ends connections from before. Needs root.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking, too")]

#[path = "upkeep/connections.rs"]
mod connections;
