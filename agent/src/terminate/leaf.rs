//! Leaf certificates: one name, one day.

use super::{
    ca::{self, CLOCK_SKEW, Error},
    key::Key,
};
use crate::{config::LeafKey, host::HostName};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};
use zeroize::Zeroizing;

/// How long a leaf is valid.
pub(super) const LIFETIME: Duration = Duration::from_hours(24);
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

/// A leaf as whoever signs it hands it over, to another process if need be.
#[derive(Deserialize, Serialize)]
pub struct Minted {
    /// The leaf's certificate and those above it, DER.
    chain: Vec<Vec<u8>>,
    /// PKCS#8.
    key: Zeroizing<Vec<u8>>,
    minted: SystemTime,
    not_after: SystemTime,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl TryFrom<Minted> for Leaf {
    type Error = Error;

    fn try_from(minted: Minted) -> Result<Self, Error> {
        let Minted { chain, key, minted, not_after } = minted;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let certified = CertifiedKey::new(chain, Key::from_pkcs8(&key)?.for_tls()?);
        Ok(Self { certified: Arc::new(certified), minted, not_after })
    }
}

/// Where the keys of leaves come from.
pub(super) enum Keys {
    /// Each leaf has its own.
    Ecdsa,
    /// All have this one: an RSA key takes a tenth of a second to find, for which no connection should wait.
    Rsa(Key),
}

impl Keys {
    pub(super) fn new(kind: LeafKey) -> Result<Self, Error> {
        match kind {
            LeafKey::Ecdsa => Ok(Self::Ecdsa),
            LeafKey::Rsa => Ok(Self::Rsa(Key::generate_rsa()?)),
        }
    }
}

/// Signs a leaf. Whether the CA may sign for the name is not asked here.
pub(super) fn sign(
    name: &HostName,
    issuer: &Issuer<'_, Key>,
    chain: &[CertificateDer<'static>],
    keys: &Keys,
    now: SystemTime,
    issuer_not_after: SystemTime,
) -> Result<Minted, Error> {
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

    let (new, key);
    match keys {
        Keys::Ecdsa => {
            new = Key::generate()?;
            key = &new;
        }
        Keys::Rsa(shared) => key = shared,
    }
    let own = params.signed_by(key, issuer)?;
    let chain = [own.der()].into_iter().chain(chain).map(|certificate| certificate.to_vec()).collect();
    Ok(Minted { chain, key: key.to_pkcs8(), minted: now, not_after })
}
