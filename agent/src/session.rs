//! One connection through all stages: the only module that knows them all.

pub mod gate;
pub mod protected;
pub mod proxies;
pub mod route;
pub mod splice;
pub mod watch;

pub mod connection;
mod copy;
mod filtering;
pub mod http;
mod judge;
pub mod limiter;
mod outcome;
mod recorder;
pub mod refusal;
mod reply;
mod request;
mod waiting;

pub use connection::{Connection, Recalls, Services, Treatment};
pub use recorder::Recorder;
