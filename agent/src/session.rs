//! One connection through all stages: the only module that knows them all.

pub mod connection;
pub mod http;
mod outcome;
mod recorder;
pub mod refusal;
mod reply;
mod request;

pub use connection::{Connection, Services, Treatment};
pub use recorder::Recorder;
