//! What asks: h2load where it can, and clients of our own where it cannot.

pub(crate) mod h2load;
pub(crate) mod handshakes;
pub(crate) mod idle;
mod tls;

/// The token that every request carries, of the form that DigitalOcean gives out, and of no worth anywhere.
pub(crate) use tidegate_tests::client::TOKEN;
