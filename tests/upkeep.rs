//! What the agent does beside the hooks, so that they hold: it ends connections from before, and tells how it is.
//! Needs root.

#[path = "upkeep/connections.rs"]
mod connections;
#[path = "upkeep/status.rs"]
mod status;
