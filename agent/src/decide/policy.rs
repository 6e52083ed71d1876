//! The validated policy.

/// A policy, loaded and checked against the catalogue.
#[derive(Debug)]
pub struct Policy {
    /// Its name: the file's, without `.toml`.
    pub name: String,
}
