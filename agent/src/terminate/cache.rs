//! The leaves in use: bounded, renewed before they end, and one mint per name at a time.

use super::{
    ca::{Error, Mint},
    leaf::Leaf,
};
use crate::host::HostName;
use rustls::sign::CertifiedKey;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// A workload can ask for any name below a protected domain; real ones are a handful.
const MAX_LEAVES: usize = 256;

/// The leaves of the authority that signs now.
pub(super) struct Cache(Mutex<Signing>);

struct Signing {
    authority: Arc<dyn Mint>,
    leaves: HashMap<HostName, Leaf>,
}

impl Cache {
    pub(super) fn new(authority: Arc<dyn Mint>) -> Self {
        Self(Mutex::new(Signing { authority, leaves: HashMap::new() }))
    }

    /// From here on this authority signs.
    pub(super) fn sign_with(&self, authority: Arc<dyn Mint>) {
        *self.lock() = Signing { authority, leaves: HashMap::new() };
    }

    /// No code panics while it holds the lock, and each leaves whole values behind.
    fn lock(&self) -> MutexGuard<'_, Signing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leaf for a name, minted if there is no fresh one.
    pub(super) fn leaf(&self, name: &HostName, now: SystemTime) -> Result<Arc<CertifiedKey>, Error> {
        // Minting takes a tenth of a millisecond, so whoever asks meanwhile waits under the lock and finds it done.
        let mut signing = self.lock();
        let Signing { authority, leaves } = &mut *signing;
        if let Some(leaf) = leaves.get(name).filter(|leaf| leaf.is_fresh(now)) {
            return Ok(leaf.certified.clone());
        }
        let leaf = Leaf::try_from(authority.mint(name, now)?)?;
        if leaves.len() >= MAX_LEAVES && !leaves.contains_key(name) {
            leaves.retain(|_, leaf| leaf.is_fresh(now));
        }
        if leaves.len() >= MAX_LEAVES {
            // Somebody makes names up: what he pushes out is minted again when it is asked for.
            leaves.clear();
        }
        let certified = leaf.certified.clone();
        leaves.insert(name.clone(), leaf);
        Ok(certified)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ca::Authority, *};
    use std::{thread, time::Duration};

    fn cache() -> Cache {
        let domain = HostName::parse("digitalocean.com").unwrap();
        Cache::new(Arc::new(Authority::ephemeral(&[domain]).unwrap()))
    }

    fn name(prefix: &str) -> HostName {
        HostName::parse(&format!("{prefix}.digitalocean.com")).unwrap()
    }

    #[test]
    fn a_leaf_is_minted_once_however_many_ask() {
        let cache = cache();
        let now = SystemTime::now();
        let leaves: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..16).map(|_| scope.spawn(|| cache.leaf(&name("api"), now).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
        assert!(!Arc::ptr_eq(&leaves[0], &cache.leaf(&name("registry"), now).unwrap()));
    }

    #[test]
    fn a_leaf_is_renewed_before_it_ends_and_after_the_clock_was_set_back() {
        let hour = Duration::from_hours(1);
        let cache = cache();
        let now = SystemTime::now();
        let first = cache.leaf(&name("api"), now).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.leaf(&name("api"), now + 22 * hour).unwrap()));
        let second = cache.leaf(&name("api"), now + 23 * hour).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&second, &cache.leaf(&name("api"), now).unwrap()));
    }

    #[test]
    fn a_new_authority_signs_from_its_turn_on() {
        let (cache, next) = (cache(), cache());
        let now = SystemTime::now();
        let first = cache.leaf(&name("api"), now).unwrap();
        cache.sign_with(next.lock().authority.clone());
        let second = cache.leaf(&name("api"), now).unwrap();
        assert_ne!(first.cert.last(), second.cert.last());
        assert_eq!(second.cert.last(), next.leaf(&name("api"), now).unwrap().cert.last());
    }

    #[test]
    fn made_up_names_do_not_fill_the_memory() {
        let cache = cache();
        let now = SystemTime::now();
        for number in 0..MAX_LEAVES + 10 {
            cache.leaf(&name(&number.to_string()), now).unwrap();
        }
        assert!(cache.lock().leaves.len() <= MAX_LEAVES);
    }

    #[test]
    fn an_authority_near_its_end_signs_no_more() {
        let cache = cache();
        let end = SystemTime::now() + Duration::from_hours(90 * 24);
        assert!(matches!(cache.leaf(&name("api"), end), Err(Error::Expired)));
        assert!(cache.leaf(&name("api"), end - Duration::from_hours(2)).is_ok());
    }
}
