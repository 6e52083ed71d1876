//! One generation of the kept CA, in a directory of its own that appears and goes as a whole.
//!
//! ```text
//! 0001-1a2b3c4d/           0700; the number, and the head of the root's fingerprint
//! ├── generation.json      when it was made and when its turn to sign begins
//! ├── root.pem             what clients must trust; its key was never written
//! ├── intermediate.pem     what signs leaves
//! └── key.der              0600, the intermediate's key in PKCS#8
//! ```

use super::Error;
use crate::{
    config::LeafKey,
    host::HostName,
    terminate::{
        ca::{self, Authority},
        certificate::{self, Facts, fingerprint},
        files,
        key::Key,
    },
};
use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const STATE: &str = "generation.json";
const ROOT: &str = "root.pem";
const INTERMEDIATE: &str = "intermediate.pem";
const KEY: &str = "key.der";

/// How directories begin that are not whole yet, or no more: a crash can leave them, and nothing reads them.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// How much of the fingerprint names a generation.
pub const ID_LENGTH: usize = 8;

/// A root and its intermediate.
#[derive(Clone, Debug)]
pub struct Generation {
    /// It comes before all with a higher one.
    pub number: u32,
    /// The head of the root's fingerprint.
    pub id: String,
    /// When it was made.
    pub made: SystemTime,
    /// From when on it signs, until a later one does.
    pub signs_from: SystemTime,
    /// What clients must trust.
    pub root: CertificateDer<'static>,
    /// What signs leaves.
    pub intermediate: CertificateDer<'static>,
    /// What the intermediate says of itself.
    pub facts: Facts,
    directory: PathBuf,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct State {
    made: u64,
    signs_from: u64,
}

/// The number in a generation's name, if it is one.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let (number, id) = name.split_once('-')?;
    let is_id = id.len() == ID_LENGTH && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_number = number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_id && is_number)
}

impl Generation {
    /// Makes one in `store`, all of it or nothing.
    pub(super) fn make(
        store: &Path,
        number: u32,
        domains: &[HostName],
        (now, signs_from): (SystemTime, SystemTime),
        lifetime: Duration,
    ) -> Result<Self, Error> {
        let made = ca::make(domains, now, lifetime)?;
        let mut id = fingerprint(&made.root);
        id.truncate(ID_LENGTH);
        let name = format!("{number:04}-{id}");
        let unfinished = store.join(format!("{UNFINISHED}{name}"));
        files::private_directory(&unfinished)?;
        let state = State { made: seconds(now), signs_from: seconds(signs_from) };
        let state = serde_json::to_vec_pretty(&state)
            .map_err(|source| Error::State { path: unfinished.join(STATE), source })?;
        files::write_new(&unfinished.join(STATE), &state)?;
        files::write_new(&unfinished.join(ROOT), certificate::pem(&made.root).as_bytes())?;
        files::write_new(&unfinished.join(INTERMEDIATE), certificate::pem(&made.intermediate).as_bytes())?;
        files::write_new(&unfinished.join(KEY), &made.key)?;
        let directory = store.join(name);
        files::publish(&unfinished, &directory)?;
        Self::load(&directory)
    }

    /// Reads what is public of it.
    pub(super) fn load(directory: &Path) -> Result<Self, Error> {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let damaged = |what: &str| Error::Damaged { directory: directory.to_owned(), what: what.to_owned() };
        let number = number_of(name).ok_or_else(|| damaged("its name"))?;
        files::check_directory(directory)?;
        let read = |file: &str| {
            files::read_private(&directory.join(file)).map_err(|error| {
                if files::is_missing(&error) { damaged(&format!("{file} is missing")) } else { error.into() }
            })
        };
        let state: State = serde_json::from_slice(&read(STATE)?).map_err(|_| damaged(STATE))?;
        let one = |file: &str| -> Result<CertificateDer<'static>, Error> {
            let certificates = certificate::all_of_pem(&read(file)?);
            let [certificate] =
                certificates.and_then(|list| list.try_into().ok()).ok_or_else(|| damaged(file))?;
            Ok(certificate)
        };
        let (root, intermediate) = (one(ROOT)?, one(INTERMEDIATE)?);
        let facts = certificate::read(&intermediate).map_err(|_| damaged(INTERMEDIATE))?;
        let mut id = fingerprint(&root);
        id.truncate(ID_LENGTH);
        if !name.ends_with(&id) {
            return Err(damaged("root.pem is another generation's"));
        }
        Ok(Self {
            number,
            id,
            made: time(state.made),
            signs_from: time(state.signs_from),
            root,
            intermediate,
            facts,
            directory: directory.to_owned(),
        })
    }

    /// Reads its key, so that it can sign.
    pub(super) fn authority(&self, domains: &[HostName], leaf_key: LeafKey) -> Result<Authority, Error> {
        let damaged =
            |what: &str| Error::Damaged { directory: self.directory.clone(), what: what.to_owned() };
        let bytes = files::read_private(&self.directory.join(KEY)).map_err(|error| {
            if files::is_missing(&error) { damaged("key.der is missing") } else { error.into() }
        })?;
        let key = Key::from_pkcs8(&bytes).map_err(|_| damaged("key.der is no key"))?;
        if key.subject_public_key_info() != self.facts.public_key {
            return Err(damaged("key.der is not the key of intermediate.pem"));
        }
        let chain = vec![self.intermediate.clone(), self.root.clone()];
        let authority = Authority::new(domains, chain, key, leaf_key)?;
        // A certificate in the past or future is for the caller to judge; here it is about what does not change.
        Ok(authority)
    }

    /// Forgets it, and its key with it.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let name = self.directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let unfinished = self.directory.with_file_name(format!("{UNFINISHED}{name}"));
        files::publish(&self.directory, &unfinished)?;
        sweep(&unfinished)
    }
}

/// Removes what a crash has left, or a removal has set aside.
pub(super) fn sweep(unfinished: &Path) -> Result<(), Error> {
    fs::remove_dir_all(unfinished).map_err(files::failed("remove", unfinished))?;
    Ok(files::sync_directory(unfinished.parent().unwrap_or(unfinished))?)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}
