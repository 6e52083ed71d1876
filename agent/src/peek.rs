//! Stage 3: the first bytes of a connection, read without consuming them.

pub mod client_hello;
pub mod rewind;
