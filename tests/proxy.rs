//! Do the stages compose? One process, loopback, no root: requests of either protocol through the session to
//! an upstream of either protocol, and the record of every one of them.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the helpers of tests fail as tests do"
)]

#[path = "proxy/body.rs"]
mod body;
#[path = "proxy/decision.rs"]
mod decision;
#[path = "proxy/differential.rs"]
mod differential;
#[path = "proxy/failure.rs"]
mod failure;
#[path = "proxy/filter.rs"]
mod filter;
#[path = "proxy/frames.rs"]
mod frames;
#[path = "proxy/grammar.rs"]
mod grammar;
#[path = "proxy/limits.rs"]
mod limits;
#[path = "proxy/matrix.rs"]
mod matrix;
#[path = "proxy/own_proxy.rs"]
mod own_proxy;
#[path = "proxy/pieces.rs"]
mod pieces;
#[path = "proxy/pool.rs"]
mod pool;
#[path = "proxy/reload.rs"]
mod reload;
#[path = "proxy/telemetry.rs"]
mod telemetry;
#[path = "proxy/upstream.rs"]
mod upstream;
#[path = "proxy/world.rs"]
mod world;
