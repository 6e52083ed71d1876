//! The local CA: a root and an intermediate, both constrained to the domains of the protected hosts.
//!
//! The root's key exists only until it has signed the intermediate; it is never written. What the constraint permits stands in both
//! certificates, since some verifiers ignore it in the one and some in the other.

use super::{
    certificate,
    key::Key,
    leaf::{self, Leaf, Minted},
};
use crate::{config::LeafKey, host::HostName};
use ::aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyUsagePurpose, NameConstraints, SerialNumber,
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};
use zeroize::Zeroizing;

/// How the subject of every root that tidegate makes begins, by which one is told from others.
pub const NAME: &str = "tidegate local CA";

/// How long an authority lives whose key is never stored: longer than any command runs, and no matter otherwise, since
/// the key dies with the process.
const EPHEMERAL_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// How far certificates are dated back, for clients whose clock is behind.
pub(super) const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// The only holder of a key that can sign for the protected hosts.
pub struct Authority {
    domains: Vec<HostName>,
    anchor: CertificateDer<'static>,
    anchor_pem: String,
    /// What is sent behind a leaf: the issuer's certificate first, the anchor not at all.
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer<'static, Key>,
    leaf_keys: leaf::Keys,
    not_after: SystemTime,
}

/// A new root and intermediate, and the intermediate's key: what is to be kept of them.
pub(super) struct Made {
    pub(super) root: CertificateDer<'static>,
    pub(super) intermediate: CertificateDer<'static>,
    /// PKCS#8.
    pub(super) key: Zeroizing<Vec<u8>>,
}

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Without a domain the constraint would permit every name.
    #[error("the local CA needs at least one domain")]
    NoDomain,
    /// The name is not below a domain of the constraint.
    #[error("`{name}` is outside of the local CA's domains")]
    Outside {
        /// The name.
        name: HostName,
    },
    /// The authority is too old to sign.
    #[error("the local CA has expired: run `tidegate ca rotate --now`")]
    Expired,
    /// What it signs would not be accepted.
    #[error("leaves that this CA signs are not valid: {0}")]
    Unfit(String),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The process that has the key gave none.
    #[error("no certificate is to be had: {0}")]
    Elsewhere(String),
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A key that was made cannot be used.
    #[error("cannot use a key that was just made")]
    Key(#[from] rustls::Error),
}

impl Authority {
    /// A new authority for names in these domains, with keys that are only in memory.
    ///
    /// # Errors
    /// When there is no domain, or a key or certificate cannot be made.
    pub fn ephemeral(domains: &[HostName]) -> Result<Self, Error> {
        Self::ephemeral_with(domains, LeafKey::Ecdsa)
    }

    pub(super) fn ephemeral_with(domains: &[HostName], leaf_key: LeafKey) -> Result<Self, Error> {
        let Made { root, intermediate, key } = make(domains, SystemTime::now(), EPHEMERAL_LIFETIME)?;
        Self::new(domains, vec![intermediate, root], Key::from_pkcs8(&key)?, leaf_key)
    }

    /// Of a chain, the issuer of leaves first and the anchor last, which may be one, and the issuer's key.
    pub(super) fn new(
        domains: &[HostName],
        mut chain: Vec<CertificateDer<'static>>,
        key: Key,
        leaf_key: LeafKey,
    ) -> Result<Self, Error> {
        let anchor = chain.last().cloned().ok_or(Error::NoDomain)?;
        let issuing = chain.first().cloned().ok_or(Error::NoDomain)?;
        let read = |der: &_| certificate::read(der).map_err(|error| Error::Unfit(error.to_string()));
        // Clients have a root themselves; whatever hangs from one that is not here, they may not have.
        if read(&anchor)?.is_self_issued {
            chain.pop();
        }
        let not_after = read(&issuing)?.not_after;
        Ok(Self {
            domains: domains.to_vec(),
            anchor_pem: certificate::pem(&anchor),
            anchor,
            chain,
            issuer: Issuer::from_ca_cert_der(&issuing, key)?,
            leaf_keys: leaf::Keys::new(leaf_key)?,
            not_after,
        })
    }

    /// Signs a leaf as a client would be shown it, and verifies that as a client would.
    pub(super) fn prove(&self, now: SystemTime) -> Result<(), Error> {
        let name = self.domains.first().ok_or(Error::NoDomain)?;
        let leaf = Leaf::try_from(self.mint(name, now)?)?;
        let unfit = |error: &dyn fmt::Display| Error::Unfit(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(self.anchor.clone()).map_err(|error| unfit(&error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| unfit(&error))?;
        let asked = ServerName::try_from(name.as_str()).map_err(|error| unfit(&error))?;
        let (leaf, chain) = leaf.certified.cert.split_first().ok_or(Error::NoDomain)?;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|error| unfit(&error))?;
        let now = UnixTime::since_unix_epoch(now);
        verifier.verify_server_cert(leaf, chain, &asked, &[], now).map_err(|error| unfit(&error))?;
        Ok(())
    }

    /// The certificate that clients have to trust, PEM.
    pub fn trust_anchor_pem(&self) -> &str {
        &self.anchor_pem
    }

    /// The certificate that clients have to trust.
    pub fn trust_anchor(&self) -> &CertificateDer<'static> {
        &self.anchor
    }

    /// Signs a leaf for one name.
    pub(super) fn mint(&self, name: &HostName, now: SystemTime) -> Result<Minted, Error> {
        if !self.domains.iter().any(|domain| name.is_within(domain)) {
            return Err(Error::Outside { name: name.clone() });
        }
        leaf::sign(name, &self.issuer, &self.chain, &self.leaf_keys, now, self.not_after)
    }
}

/// Whoever signs leaves: the authority itself, or the process that has its key.
pub trait Mint: Send + Sync {
    /// Signs a leaf.
    ///
    /// # Errors
    /// When the name is none of the authority's, or there is no certificate to be had.
    fn mint(&self, name: &HostName, now: SystemTime) -> Result<Minted, Error>;
}

impl Mint for Authority {
    fn mint(&self, name: &HostName, now: SystemTime) -> Result<Minted, Error> {
        Self::mint(self, name, now)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("domains", &self.domains).finish_non_exhaustive()
    }
}

/// Makes a root, and an intermediate that it signs. The root's key exists in here only.
pub(super) fn make(domains: &[HostName], now: SystemTime, lifetime: Duration) -> Result<Made, Error> {
    if domains.is_empty() {
        return Err(Error::NoDomain);
    }
    let not_after = now + lifetime;
    // Several authorities can be trusted at once; verifiers and people tell them apart by name.
    let id = short_id()?;
    let root_params = ca_params(&format!("{NAME} {id}"), 1, domains, now, not_after)?;
    let mut params = ca_params(&format!("{NAME} {id} intermediate"), 0, domains, now, not_after)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

    let (root_key, key) = (Key::generate()?, Key::generate()?);
    let root = root_params.self_signed(&root_key)?;
    let intermediate = params.signed_by(&key, &Issuer::from_params(&root_params, &root_key))?;
    Ok(Made { root: root.into(), intermediate: intermediate.into(), key: key.to_pkcs8() })
}

/// 126 random bits and a fixed first bit, so that it is positive and always equally long.
pub(super) fn new_serial() -> Result<SerialNumber, Error> {
    let mut bytes: [u8; 16] = random()?;
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

/// What every certificate of the CA has.
pub(super) fn params(
    common_name: &str,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, "tidegate");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(new_serial()?);
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = not_after.into();
    // Python 3.13 and OpenSSL's strict mode refuse a leaf without it.
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn ca_params(
    common_name: &str,
    path_len: u8,
    domains: &[HostName],
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, Error> {
    let mut params = params(common_name, now, not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: domains.iter().map(|name| GeneralSubtree::DnsName(name.to_string())).collect(),
        // A permitted DNS name says nothing of addresses, so those are excluded altogether.
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(Ipv4Addr::UNSPECIFIED.octets(), 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(Ipv6Addr::UNSPECIFIED.octets(), 0)),
        ],
    });
    Ok(params)
}

fn short_id() -> Result<String, Error> {
    let bytes: [u8; 4] = random()?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Error> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
