//! Certificate authorities of the tests' own, so that no test depends on the machine's trust.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::path::Path;

/// A certificate authority that lives as long as the test.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate, and those between it and the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Leaf {
    /// What a PEM file holds.
    ///
    /// # Errors
    /// When it cannot be read, or lacks one of both.
    pub fn read(file: &Path) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(file)?.collect::<Result<_, _>>();
        let chain = chain.with_context(|| format!("the certificates of {}", file.display()))?;
        let key =
            PrivateKeyDer::from_pem_file(file).with_context(|| format!("the key of {}", file.display()))?;
        Ok(Self { chain, key })
    }
}

impl Authority {
    /// A new authority with this common name.
    ///
    /// # Errors
    /// When a key or certificate cannot be made.
    pub fn new(common_name: &str) -> Result<Self> {
        let key = KeyPair::generate().context("generating the authority's key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).context("signing the authority's certificate")?;
        Ok(Self { pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// What signs in its name.
    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The certificate to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these names or addresses.
    ///
    /// # Errors
    /// When a name is not a DNS name or the key cannot be made.
    pub fn issue(&self, names: &[String]) -> Result<Leaf> {
        let key = KeyPair::generate().context("generating a leaf's key")?;
        let mut params = CertificateParams::new(names).context("reading a leaf's names")?;
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("", String::as_str));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python from 3.13 on refuses a leaf without it.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).context("signing a leaf")?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|problem| anyhow::anyhow!("encoding a leaf's key: {problem}"))?;
        Ok(Leaf { chain: vec![certificate.der().clone()], key })
    }
}
