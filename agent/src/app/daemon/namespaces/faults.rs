//! The network namespaces of subjects that nobody listens in though somebody should: told once for each cause and not at
//! each attempt. Where the agent may not enter them, that is a matter of its health; what a subject can bring about in its
//! own is not.

use crate::{
    capture::netns::namespace::Identity,
    health::{self, Health, Part},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    sync::Arc,
};

/// What keeps listeners from namespaces.
pub(super) struct Faults {
    health: Arc<Health>,
    /// Of namespaces that cannot be entered, why.
    unentered: HashMap<Identity, String>,
    /// Of those in which there is no port for a listener, or no memory, why.
    unbound: HashMap<Identity, String>,
    /// Why processes are not told what namespace they live in.
    unseen: Option<String>,
}

impl Faults {
    pub(super) fn new(health: Arc<Health>) -> Self {
        let faults = Self { health, unentered: HashMap::new(), unbound: HashMap::new(), unseen: None };
        faults.tell();
        faults
    }

    /// A namespace has its listeners, as far as it has routes.
    pub(super) fn served(&mut self, identity: Identity) {
        self.unbound.remove(&identity);
        self.entered(identity);
    }

    /// A namespace cannot be entered, and why.
    pub(super) fn unentered(&mut self, identity: Identity, why: &io::Error) {
        self.unentered.insert(identity, told(why));
        self.tell();
    }

    /// A namespace takes no listener, and why.
    pub(super) fn unbound(&mut self, identity: Identity, why: &io::Error) {
        let why = told(why);
        if self.unbound.get(&identity) != Some(&why) {
            tracing::error!(why, "no listener in a network namespace of a subject; its connects are refused");
        }
        self.unbound.insert(identity, why);
        self.entered(identity);
    }

    /// Nobody tells what namespace a subject's process lives in, and why.
    pub(super) fn unseen(&mut self, why: &io::Error) {
        self.unseen = Some(told(why));
        self.tell();
    }

    /// All processes were looked at: these namespaces are inhabited, and where a subject's process could not be looked
    /// at, why.
    pub(super) fn looked(&mut self, inhabited: &HashSet<Identity>, unseen: Option<&io::Error>) {
        self.unentered.retain(|identity, _| inhabited.contains(identity));
        self.unbound.retain(|identity, _| inhabited.contains(identity));
        self.unseen = unseen.map(told);
        self.tell();
    }

    fn entered(&mut self, identity: Identity) {
        if self.unentered.remove(&identity).is_some() {
            self.tell();
        }
    }

    fn tell(&self) {
        let causes: BTreeSet<&str> =
            self.unentered.values().chain(&self.unseen).map(String::as_str).collect();
        if causes.is_empty() {
            return self.health.report(Part::Networks, Ok(()));
        }
        let causes: Vec<&str> = causes.into_iter().collect();
        let causes = causes.join("; ");
        let why =
            format!("network namespaces of subjects cannot be entered; their connects are refused: {causes}");
        self.health.report(Part::Networks, Err(why));
    }
}

fn told(why: &io::Error) -> String {
    let told = health::told(why);
    if why.kind() != io::ErrorKind::PermissionDenied {
        return told;
    }
    format!("{told}: give the agent CAP_SYS_ADMIN and CAP_SYS_PTRACE, which entering them takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_until_it_is_over() {
        let health = Arc::new(Health::new(&[Part::Networks]));
        let whys = || health.problems().into_iter().map(|problem| problem.why).collect::<Vec<_>>();
        let mut faults = Faults::new(Arc::clone(&health));
        assert_eq!(whys(), [""; 0]);
        let (one, other) = ((1, 1), (1, 2));
        let broken = io::Error::other("broken");
        faults.unentered(one, &broken);
        faults.unentered(other, &broken);
        let told = whys();
        assert!(matches!(&told[..], [why] if why.ends_with(": broken")), "{told:?}");
        faults.unbound(one, &broken);
        assert_eq!(whys(), told, "the other one is there still");
        faults.looked(&HashSet::from([one]), None);
        assert_eq!(whys(), [""; 0], "nobody lives there any more");

        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        faults.unseen(&denied);
        faults.looked(&HashSet::new(), Some(&denied));
        assert!(
            matches!(&whys()[..], [why] if why.contains("give the agent CAP_SYS_ADMIN and CAP_SYS_PTRACE"))
        );
        faults.looked(&HashSet::new(), None);
        assert_eq!(whys(), [""; 0]);
    }
}
