//! The cryptography of TLS, with workloads and with the upstream.

use rustls::{
    CipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
};
use std::sync::Arc;

/// Everything that is safe, and AES-128-GCM with SHA-256 before the rest: what processors compute fastest, key schedule and
/// records alike, and what the CDNs of the API's kind prefer. Its 128 bits are no weaker than the key exchange beside them.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_suites_come_first_and_none_is_lost() {
        let suites: Vec<_> = provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        let first = [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ];
        assert_eq!(suites.get(..3), Some(&first[..]));
        assert_eq!(suites.len(), aws_lc_rs::default_provider().cipher_suites.len());
    }
}
