//! Leaf certificates: one name, one day.

use super::ca::{self, CLOCK_SKEW, Error};
use crate::host::HostName;
use rcgen::{ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

const LIFETIME: Duration = Duration::from_hours(24);
/// How long before its end a leaf is no longer given out: longer than clocks differ.
const RENEWAL: Duration = Duration::from_hours(1);
/// The longest common name that X.509 allows.
const MAX_COMMON_NAME_LEN: usize = 64;

/// A leaf with its chain and key, and when it may be given out.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// The chain and key as rustls takes them.
    pub(super) certified: Arc<CertifiedKey>,
    minted: SystemTime,
    not_after: SystemTime,
}

impl Leaf {
    /// Whether a client whose clock is about right takes it.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        // A clock that was set back may stand before the certificate's first second.
        self.minted <= now + CLOCK_SKEW / 2 && now + RENEWAL < self.not_after
    }
}

/// Signs a leaf. Whether the CA may sign for the name is not asked here.
pub(super) fn sign(
    name: &HostName,
    issuer: &Issuer<'_, KeyPair>,
    intermediate: &CertificateDer<'static>,
    now: SystemTime,
    issuer_not_after: SystemTime,
) -> Result<Leaf, Error> {
    let not_after = issuer_not_after.min(now + LIFETIME);
    if now + RENEWAL >= not_after {
        return Err(Error::Expired);
    }
    let common_name =
        if name.as_str().len() <= MAX_COMMON_NAME_LEN { name.as_str() } else { "tidegate leaf" };
    let mut params = ca::params(common_name, now, not_after)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into()?)];

    let key = ca::new_key()?;
    let certificate = params.signed_by(&key, issuer)?;
    let chain = vec![certificate.into(), intermediate.clone()];
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let certified = CertifiedKey::from_der(chain, key.into(), &aws_lc_rs::default_provider())?;
    Ok(Leaf { certified: Arc::new(certified), minted: now, not_after })
}
