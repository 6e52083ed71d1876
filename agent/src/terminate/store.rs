//! The CA over time: kept in a directory, brought by the user, or in memory only; who signs now, and whom clients must
//! trust for it.
//!
//! A kept CA is a row of generations. Each has a time from which it signs, and the last whose time has come is the one
//! that does. It is announced before, since programs read what they trust when they start, and trusted until its last
//! leaf has ended. The row is what lies in the directory, so that there is no second place to disagree with it:
//!
//! ```text
//! /var/lib/tidegate/ca/    0700
//! ├── lock                 held while the row is changed
//! ├── tickets              0600, the keys of session tickets
//! ├── 0001-1a2b3c4d/       signs until the next one's time
//! └── 0002-5e6f7a8b/
//! ```

mod brought;
mod generation;
mod row;

pub use generation::{Generation, ID_LENGTH};

use super::{
    ca::{self, Authority, CLOCK_SKEW},
    certificate, files, leaf,
    tickets::Tickets,
};
use crate::{
    config::{self, BroughtCa, LeafKey},
    host::HostName,
};
use row::Row;
use rustls_pki_types::CertificateDer;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How long a generation is valid.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// How long before its end the next one must have taken over, for machines that are seldom on.
const RESERVE: Duration = Duration::from_hours(14 * 24);

/// Why there is no CA to sign with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory cannot be used.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Nothing was made yet.
    #[error("there is no local CA in `{}` yet: `tidegate ca install` or the daemon's start makes one", .0.display())]
    None(PathBuf),
    /// A generation is not whole.
    #[error(
        "the local CA in `{}` is damaged ({what}): bring it back from a backup, or move it away and install the one that \
         is made instead; nothing was changed",
        directory.display()
    )]
    Damaged {
        /// The generation's directory.
        directory: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Its state cannot be encoded.
    #[error("cannot write `{}`", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Something cannot be signed or made.
    #[error("the local CA cannot be used")]
    Authority(#[from] ca::Error),
    /// The user's own CA cannot be used.
    #[error("`ca.certificate` `{}` {problem}", certificate.display())]
    Brought {
        /// The file.
        certificate: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// There is nothing to rotate.
    #[error(
        "the CA is your own: put a new one into the files of `ca.certificate` and `ca.key`; tidegate sees it within a minute"
    )]
    NotOurs,
    /// There is nothing on the disk.
    #[error(
        "the CA is in memory only (`ca.ephemeral`), so that no other process has to do with it; remove that key to keep one"
    )]
    InMemory,
    /// Another one waits for its time.
    #[error(
        "generation {number} ({id}) is announced already and signs later; use --now for one that signs at once"
    )]
    UnderWay {
        /// Its number.
        number: u32,
        /// Its id.
        id: String,
    },
}

/// Where the CA comes from.
pub struct Store {
    source: Source,
    domains: Vec<HostName>,
    leaf_key: LeafKey,
    directory: PathBuf,
}

enum Source {
    Memory(Arc<Authority>),
    Brought(BroughtCa),
    Kept { overlap: Duration },
}

/// Who signs, and whom clients must trust, at one time.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Signs leaves.
    pub authority: Arc<Authority>,
    /// What clients must trust: the signer's first.
    pub anchors: Vec<CertificateDer<'static>>,
    /// The issuer's certificate, by which a change of signers shows.
    signer: CertificateDer<'static>,
}

impl Standing {
    /// The anchors, PEM.
    pub fn anchors_pem(&self) -> String {
        self.anchors.iter().map(certificate::pem).collect()
    }
}

impl Store {
    /// The CA of the configuration, constrained to these domains. Nothing is read or made yet.
    ///
    /// # Errors
    /// When one that is only in memory cannot be made.
    pub fn open(settings: &config::Ca, domains: &[HostName]) -> Result<Self, Error> {
        let source = match &settings.brought {
            Some(brought) => Source::Brought(brought.clone()),
            None if settings.ephemeral => {
                let authority = Authority::ephemeral_with(domains, settings.leaf_key)?;
                Source::Memory(Arc::new(authority))
            }
            None => Source::Kept { overlap: settings.overlap },
        };
        let (domains, directory) = (domains.to_vec(), settings.dir.clone());
        Ok(Self { source, domains, leaf_key: settings.leaf_key, directory })
    }

    /// Who signs as the agent starts. Makes a CA where there is none for these domains.
    ///
    /// # Errors
    /// When what is there cannot be used; it stays as it is.
    pub fn start(&self, now: SystemTime) -> Result<Standing, Error> {
        if let Source::Kept { overlap } = self.source {
            let row = Row::lock(&self.directory)?;
            let generations = row.read()?;
            let newest = generations.last();
            if newest.is_none_or(|newest| !newest.facts.permits_exactly(&self.domains)) {
                let is_urgent = signing(&generations, now).is_none_or(|signing| {
                    !signing.facts.permits(&self.domains) || signing.facts.not_after <= now
                });
                let signs_from = if is_urgent { now } else { now + overlap };
                row.add(&generations, &self.domains, now, signs_from)?;
            }
        }
        self.look(now)
    }

    /// Who signs now; None where it is as it was. Announces a next generation in time, and removes those of which
    /// no leaf is valid any more.
    ///
    /// # Errors
    /// When what is there cannot be used; it stays as it is.
    pub fn refresh(&self, before: &Standing, now: SystemTime) -> Result<Option<Standing>, Error> {
        if let Source::Memory(_) = &self.source {
            return Ok(None);
        }
        let standing = match &self.source {
            Source::Kept { .. } => {
                let generations = self.upkeep(now)?;
                let signer = signing(&generations, now).map(|signing| &signing.intermediate);
                // Where the signer stays, its key need not be read again.
                if signer == Some(&before.signer) {
                    self.stand(&generations, before.authority.clone(), now)?
                } else {
                    self.look(now)?
                }
            }
            Source::Brought(_) | Source::Memory(_) => self.look(now)?,
        };
        let is_same = standing.signer == before.signer && standing.anchors == before.anchors;
        Ok((!is_same).then_some(standing))
    }

    fn upkeep(&self, now: SystemTime) -> Result<Vec<Generation>, Error> {
        let Source::Kept { overlap } = self.source else { return Ok(Vec::new()) };
        let row = Row::lock(&self.directory)?;
        let mut generations = row.read()?;
        for (index, generation) in generations.iter().enumerate() {
            let later = generations.iter().skip(index + 1);
            let mut ends =
                later.filter_map(|later| later.signs_from.checked_add(leaf::LIFETIME + CLOCK_SKEW));
            if ends.any(|end| end <= now) {
                tracing::info!(
                    generation = generation.number,
                    id = generation.id,
                    "its leaves have ended; removed"
                );
                generation.remove()?;
            }
        }
        generations = row.read()?;
        let newest = generations.last().ok_or_else(|| Error::None(self.directory.clone()))?;
        if newest.facts.not_after <= now + RESERVE + overlap {
            let latest =
                signing(&generations, now).map_or(now, |signing| signing.facts.not_after - leaf::LIFETIME);
            let signs_from = (now + overlap).min(latest).max(now);
            row.add(&generations, &self.domains, now, signs_from)?;
            generations = row.read()?;
        }
        Ok(generations)
    }

    /// Who signs now, by what is there.
    fn look(&self, now: SystemTime) -> Result<Standing, Error> {
        match &self.source {
            Source::Memory(authority) => {
                let anchor = authority.trust_anchor().clone();
                Ok(Standing { authority: authority.clone(), anchors: vec![anchor.clone()], signer: anchor })
            }
            Source::Brought(files) => {
                let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
                let brought = brought::load(files, credentials.as_deref())?;
                let signer = brought.issuing().clone();
                let authority = Arc::new(brought.authority(&self.domains, self.leaf_key, now)?);
                let anchors = vec![authority.trust_anchor().clone()];
                Ok(Standing { authority, anchors, signer })
            }
            Source::Kept { .. } => {
                let generations = self.generations()?;
                let none = || Error::None(self.directory.clone());
                let signing = signing(&generations, now).ok_or_else(none)?;
                let authority = signing.authority(&self.domains, self.leaf_key)?;
                authority.prove(now)?;
                self.stand(&generations, Arc::new(authority), now)
            }
        }
    }

    fn stand(
        &self,
        generations: &[Generation],
        authority: Arc<Authority>,
        now: SystemTime,
    ) -> Result<Standing, Error> {
        let signing = signing(generations, now).ok_or_else(|| Error::None(self.directory.clone()))?;
        let others = generations.iter().filter(|other| other.number != signing.number);
        let anchors = std::iter::once(signing).chain(others).map(|generation| generation.root.clone());
        Ok(Standing { authority, anchors: anchors.collect(), signer: signing.intermediate.clone() })
    }

    /// The kept generations, the oldest first, without their keys; none of another CA.
    ///
    /// # Errors
    /// When there is none, or one is damaged.
    pub fn generations(&self) -> Result<Vec<Generation>, Error> {
        let Source::Kept { .. } = self.source else { return Ok(Vec::new()) };
        let generations = match Row::watch(&self.directory)? {
            Some(row) => row.read()?,
            None => Vec::new(),
        };
        if generations.is_empty() { Err(Error::None(self.directory.clone())) } else { Ok(generations) }
    }

    /// What clients must trust, without a look at any key. The signer's is the first.
    ///
    /// # Errors
    /// When there is no CA that other processes could trust.
    pub fn anchors(&self, now: SystemTime) -> Result<Vec<CertificateDer<'static>>, Error> {
        match &self.source {
            Source::Memory(_) => Err(Error::InMemory),
            Source::Brought(files) => Ok(brought::chain(files)?.last().cloned().into_iter().collect()),
            Source::Kept { .. } => {
                let generations = self.generations()?;
                let signing = signing(&generations, now).map(|signing| signing.number);
                let (first, others): (Vec<_>, Vec<_>) =
                    generations.into_iter().partition(|generation| Some(generation.number) == signing);
                Ok(first.into_iter().chain(others).map(|generation| generation.root).collect())
            }
        }
    }

    /// Makes the next generation. It signs after the overlap; `at_once` it signs now, and the others are trusted
    /// no more: for a key that somebody else may have.
    ///
    /// # Errors
    /// When the CA is not kept here, or a next one is announced already.
    pub fn rotate(&self, now: SystemTime, at_once: bool) -> Result<Generation, Error> {
        let overlap = match &self.source {
            Source::Memory(_) => return Err(Error::InMemory),
            Source::Brought(_) => return Err(Error::NotOurs),
            Source::Kept { overlap } => *overlap,
        };
        let row = Row::lock(&self.directory)?;
        let generations = row.read()?;
        if at_once {
            let made = row.add(&generations, &self.domains, now, now)?;
            for generation in &generations {
                generation.remove()?;
            }
            // Whoever has read the CA's key may have read these.
            Tickets::forget(&self.directory)?;
            return Ok(made);
        }
        match generations.last() {
            Some(Generation { number, id, signs_from, .. }) if *signs_from > now => {
                Err(Error::UnderWay { number: *number, id: id.clone() })
            }
            Some(_) => row.add(&generations, &self.domains, now, now + overlap),
            None => row.add(&generations, &self.domains, now, now),
        }
    }

    /// Session tickets; where a CA is kept or brought, those of an earlier start count.
    ///
    /// # Errors
    /// When their keys cannot be kept or made.
    pub fn tickets(&self, now: SystemTime) -> Result<Tickets, Error> {
        match self.source {
            Source::Memory(_) => Ok(Tickets::in_memory(now)?),
            Source::Brought(_) | Source::Kept { .. } => {
                files::private_directory(&self.directory)?;
                Ok(Tickets::kept(&self.directory, now)?)
            }
        }
    }

    /// The directories in which a change of the CA shows.
    pub fn watched(&self) -> Vec<&Path> {
        let parent = |path| Path::parent(path).unwrap_or(Path::new("/"));
        match &self.source {
            Source::Memory(_) => Vec::new(),
            Source::Brought(files) => {
                let key = files.key.as_deref().map(parent);
                std::iter::once(parent(&files.certificate)).chain(key).collect()
            }
            Source::Kept { .. } => vec![&self.directory],
        }
    }
}

/// The last generation whose time has come; where the clock was set back before all of them, the first.
pub fn signing(generations: &[Generation], now: SystemTime) -> Option<&Generation> {
    generations.iter().rfind(|generation| generation.signs_from <= now).or(generations.first())
}

#[cfg(test)]
mod tests;
