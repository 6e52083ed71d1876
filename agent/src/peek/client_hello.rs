//! The ClientHello parser.

use crate::host::HostName;

/// What a ClientHello says in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name: a claim, not a fact.
    pub sni: Option<HostName>,
    /// The protocols offered, in the client's order.
    pub alpn: Vec<Vec<u8>>,
    /// Whether an encrypted client hello (or grease that looks like one) is there.
    pub ech: bool,
}
