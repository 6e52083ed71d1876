//! Session tickets that outlive a restart, so that clients need not shake hands anew.
//!
//! A ticket is `key name ‖ nonce ‖ ciphertext` of AES-256-GCM. The newest key seals, older ones still open; each seals
//! for half a day and opens for another, after which nothing can open its tickets.

use super::{ca, files};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use rustls::server::ProducesTickets;
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::{Duration, SystemTime},
};
use zeroize::{Zeroize, Zeroizing};

const FILE: &str = "tickets";
/// What the file begins with: what it is, and in which version.
const MAGIC: &[u8; 8] = b"tdgtkt01";
const NAME_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 32;
const RECORD_LENGTH: usize = 8 + NAME_LENGTH + SECRET_LENGTH;
/// How long a key seals tickets, and how long a client may keep one.
const SEALS: Duration = Duration::from_hours(12);
/// How long a key opens tickets.
const OPENS: Duration = Duration::from_hours(24);
/// Far more than ever open at once.
const MAX_KEYS: usize = 8;

/// Seals and opens session tickets.
pub struct Tickets {
    path: Option<PathBuf>,
    /// The newest first.
    keys: RwLock<Vec<TicketKey>>,
}

struct TicketKey {
    made: SystemTime,
    name: [u8; NAME_LENGTH],
    secret: Zeroizing<[u8; SECRET_LENGTH]>,
    sealing: RandomizedNonceKey,
}

impl TicketKey {
    fn generate(now: SystemTime) -> Result<Self, ca::Error> {
        let (mut name, mut secret) = ([0; NAME_LENGTH], Zeroizing::new([0; SECRET_LENGTH]));
        rand::fill(&mut name).map_err(|_| ca::Error::Random)?;
        rand::fill(&mut *secret).map_err(|_| ca::Error::Random)?;
        Self::new(now, name, secret).ok_or(ca::Error::Random)
    }

    fn new(
        made: SystemTime,
        name: [u8; NAME_LENGTH],
        secret: Zeroizing<[u8; SECRET_LENGTH]>,
    ) -> Option<Self> {
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, &*secret).ok()?;
        Some(Self { made, name, secret, sealing })
    }

    /// A clock that was set back must not prolong anything.
    fn is_younger(&self, age: Duration, now: SystemTime) -> bool {
        now.duration_since(self.made).is_ok_and(|lived| lived < age)
    }
}

impl Tickets {
    /// With keys that end with the process.
    pub(super) fn in_memory(now: SystemTime) -> Result<Self, ca::Error> {
        Ok(Self { path: None, keys: RwLock::new(vec![TicketKey::generate(now)?]) })
    }

    /// With keys that lie in the CA's directory.
    pub(super) fn kept(directory: &Path, now: SystemTime) -> Result<Self, ca::Error> {
        let path = directory.join(FILE);
        let keys = match files::read_private(&path) {
            Ok(content) => decode(&content).unwrap_or_else(|| {
                tracing::warn!(path = %path.display(), "the session tickets' keys are damaged; new ones take their place");
                Vec::new()
            }),
            Err(error) if files::is_missing(&error) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the session tickets' keys are not used; new ones take their place");
                Vec::new()
            }
        };
        let tickets = Self { path: Some(path), keys: RwLock::new(keys) };
        tickets.roll(now)?;
        Ok(tickets)
    }

    /// The keys of another process of the agent, as [`Self::handed_over`] gives them.
    ///
    /// # Errors
    /// When they are something else.
    pub fn received(keys: &[u8]) -> Result<Self, ca::Error> {
        let keys = decode(keys).ok_or_else(|| ca::Error::Elsewhere("no tickets' keys".to_owned()))?;
        Ok(Self { path: None, keys: RwLock::new(keys) })
    }

    /// From now on these, of the same process, seal and open.
    pub fn follow(&self, received: Self) {
        let received = received.keys.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = received;
    }

    /// All keys, for another process of the agent.
    pub fn handed_over(&self) -> Zeroizing<Vec<u8>> {
        encode(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes the keys that are kept in the CA's directory.
    pub(super) fn forget(directory: &Path) -> Result<(), files::Error> {
        let path = directory.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(files::failed("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes a new key when the newest has sealed long enough, and forgets those that open nothing any more; whether that
    /// was done.
    ///
    /// # Errors
    /// When the system gives no random bytes; the keys stay then.
    pub fn roll(&self, now: SystemTime) -> Result<bool, ca::Error> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let is_gone = self.path.as_ref().is_some_and(|path| !path.exists());
        let is_current = keys.first().is_some_and(|newest| newest.is_younger(SEALS, now));
        if is_current && !is_gone {
            return Ok(false);
        }
        let new = TicketKey::generate(now)?;
        if is_gone {
            // A rotation for a stolen key has taken them away.
            keys.clear();
        }
        keys.retain(|key| key.is_younger(OPENS, now));
        keys.insert(0, new);
        keys.truncate(MAX_KEYS);
        if let Some(path) = &self.path
            && let Err(error) = files::replace(path, &encode(&keys))
        {
            tracing::warn!(%error, "session tickets will not outlive a restart");
        }
        Ok(true)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(SEALS.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.first()?;
        let mut sealed = plain.to_vec();
        let nonce = key.sealing.seal_in_place_append_tag(Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LENGTH>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        // The name is no secret: it stands in clear in every ticket.
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.sealing.open_in_place(nonce, Aad::from(key.name), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("path", &self.path).finish_non_exhaustive()
    }
}

fn encode(keys: &[TicketKey]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAGIC.len() + keys.len() * RECORD_LENGTH));
    bytes.extend_from_slice(MAGIC);
    for key in keys {
        let made = key.made.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        bytes.extend_from_slice(&made.to_be_bytes());
        bytes.extend_from_slice(&key.name);
        bytes.extend_from_slice(&*key.secret);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<TicketKey>> {
    let records = bytes.strip_prefix(MAGIC)?;
    if records.len() % RECORD_LENGTH != 0 || records.len() > MAX_KEYS * RECORD_LENGTH {
        return None;
    }
    let keys = records.chunks_exact(RECORD_LENGTH).map(|record| {
        let (made, rest) = record.split_first_chunk::<8>()?;
        let (name, secret) = rest.split_first_chunk::<NAME_LENGTH>()?;
        let mut secret = *secret.first_chunk::<SECRET_LENGTH>()?;
        let kept = Zeroizing::new(secret);
        secret.zeroize();
        let made = Duration::from_secs(u64::from_be_bytes(*made));
        TicketKey::new(SystemTime::UNIX_EPOCH.checked_add(made)?, *name, kept)
    });
    keys.collect()
}

#[cfg(test)]
mod tests;
