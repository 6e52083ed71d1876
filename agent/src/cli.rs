//! The command line.

pub mod scopes;
