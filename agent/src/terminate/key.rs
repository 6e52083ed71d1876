//! Private keys, which are wiped from memory when they are no longer used.

use super::ca::Error;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize, SignatureAlgorithm,
    SigningKey,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{fmt, sync::Arc};
use zeroize::{Zeroize, Zeroizing};

/// A private key. The cryptographic library wipes what it holds of it, and this the encoded form.
pub(super) struct Key(KeyPair);

impl Key {
    /// A new key on P-256.
    pub(super) fn generate() -> Result<Self, Error> {
        Ok(Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// A new RSA key.
    pub(super) fn generate_rsa() -> Result<Self, Error> {
        Ok(Self(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?))
    }

    /// A key in PKCS#8, of any kind that can sign.
    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        Ok(Self(KeyPair::try_from(&PrivatePkcs8KeyDer::from(der))?))
    }

    /// A key in any of the encodings that PEM files have.
    pub(super) fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, Error> {
        Ok(Self(KeyPair::try_from(der)?))
    }

    /// PKCS#8.
    pub(super) fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// As TLS takes it.
    pub(super) fn for_tls(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, Error> {
        let der = self.to_pkcs8();
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der.as_slice()));
        Ok(any_supported_type(&der)?)
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_encoding_and_shows_nothing() {
        for key in [Key::generate().unwrap(), Key::generate_rsa().unwrap()] {
            let again = Key::from_pkcs8(&key.to_pkcs8()).unwrap();
            assert_eq!(again.subject_public_key_info(), key.subject_public_key_info());
            assert_eq!(format!("{key:?}"), "Key(..)");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let whole = Key::generate().unwrap().to_pkcs8();
        for length in 0..whole.len() {
            assert!(Key::from_pkcs8(&whole[..length]).is_err(), "{length}");
        }
    }
}
