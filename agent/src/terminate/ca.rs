//! The local CA: a root and an intermediate, both constrained to the domains of the protected hosts.
//!
//! The root's key exists only until it has signed the intermediate. What the constraint permits stands in both
//! certificates, since some verifiers ignore it in the one and some in the other.

use super::leaf::{self, Leaf};
use crate::host::HostName;
use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};
use zeroize::Zeroize;

/// How long an authority lives whose key is never stored: longer than any command runs, and no matter otherwise, since
/// the key dies with the process.
const EPHEMERAL_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// How far certificates are dated back, for clients whose clock is behind.
pub(super) const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// The only holder of a key that can sign for the protected hosts.
pub struct Authority {
    domains: Vec<HostName>,
    root_pem: String,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
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
    #[error("the local CA has expired: restart tidegate")]
    Expired,
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random,
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
        if domains.is_empty() {
            return Err(Error::NoDomain);
        }
        let now = SystemTime::now();
        let not_after = now + EPHEMERAL_LIFETIME;
        // Several authorities can be trusted at once; verifiers and people tell them apart by name.
        let id = short_id()?;
        let root_params = ca_params(&format!("tidegate local CA {id}"), 1, domains, now, not_after)?;
        let mut params =
            ca_params(&format!("tidegate local CA {id} intermediate"), 0, domains, now, not_after)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

        let key = new_key()?;
        let mut root_key = new_key()?;
        let root = root_params.self_signed(&root_key)?;
        let intermediate = params.signed_by(&key, &Issuer::from_params(&root_params, &root_key))?;
        root_key.zeroize();
        drop(root_key);

        Ok(Self {
            domains: domains.to_vec(),
            root_pem: root.pem(),
            intermediate: intermediate.into(),
            issuer: Issuer::new(params, key),
            not_after,
        })
    }

    /// The root's certificate, which clients have to trust.
    pub fn trust_anchor_pem(&self) -> &str {
        &self.root_pem
    }

    /// Signs a leaf for one name.
    pub(super) fn mint(&self, name: &HostName, now: SystemTime) -> Result<Leaf, Error> {
        if !self.domains.iter().any(|domain| name.is_within(domain)) {
            return Err(Error::Outside { name: name.clone() });
        }
        leaf::sign(name, &self.issuer, &self.intermediate, now, self.not_after)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("domains", &self.domains).finish_non_exhaustive()
    }
}

pub(super) fn new_key() -> Result<KeyPair, Error> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
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
