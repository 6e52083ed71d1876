//! An authority that the user brings: an existing intermediate or root, in files or as a systemd credential.

use super::Error;
use crate::{
    config::{BroughtCa, LeafKey},
    host::HostName,
    terminate::{
        ca::Authority,
        certificate,
        files::{self, Allowed},
        key::Key,
    },
};
use rcgen::PublicKeyData;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};
use zeroize::Zeroize;

/// The name of the credential, as in `LoadCredential=ca-key:…`.
const CREDENTIAL: &str = "ca-key";

/// A chain and its key, which belong together.
pub(super) struct Brought {
    file: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: Key,
}

fn problem(files: &BroughtCa, problem: impl Into<String>) -> Error {
    Error::Brought { certificate: files.certificate.clone(), problem: problem.into() }
}

/// The certificates: the one that signs first.
pub(super) fn chain(files: &BroughtCa) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = fs::read(&files.certificate).map_err(files::failed("read", &files.certificate))?;
    match certificate::all_of_pem(&text) {
        Some(chain) if !chain.is_empty() => Ok(chain),
        Some(_) => {
            Err(problem(files, "holds no certificate; write the CA's, and behind it those above it, in PEM"))
        }
        None => Err(problem(files, "is not PEM; convert it with `openssl x509 -inform DER`")),
    }
}

/// Reads chain and key. `credentials`: the directory of the unit's credentials.
pub(super) fn load(files: &BroughtCa, credentials: Option<&Path>) -> Result<Brought, Error> {
    let chain = chain(files)?;
    let key = match (&files.key, credentials.map(|directory| directory.join(CREDENTIAL))) {
        (Some(path), _) => read_key(path, Allowed::Owner)?,
        (None, Some(path)) => read_key(&path, Allowed::GroupReads)?,
        (None, None) => {
            let missing = format!(
                "has no key: name it in `ca.key`, or give the unit `LoadCredential={CREDENTIAL}:FILE`"
            );
            return Err(problem(files, missing));
        }
    };
    let key = key.map_err(|path| problem(files, format!("has no usable key in `{}`", path.display())))?;
    Ok(Brought { file: files.certificate.clone(), chain, key })
}

/// The key in the file; its path where there is none that can sign.
fn read_key(path: &Path, allowed: Allowed) -> Result<Result<Key, PathBuf>, Error> {
    let text = files::read_secret(path, allowed)?;
    let Ok(mut der) = PrivateKeyDer::from_pem_slice(&text) else { return Ok(Err(path.to_owned())) };
    let key = Key::from_der(&der);
    der.zeroize();
    Ok(key.map_err(|_| path.to_owned()))
}

impl Brought {
    /// The certificate that signs.
    pub(super) fn issuing(&self) -> &CertificateDer<'static> {
        // A chain that was read is never empty.
        self.chain.first().unwrap_or(&EMPTY)
    }

    /// Checks that it can sign for these domains now, and lets it.
    pub(super) fn authority(
        self,
        domains: &[HostName],
        leaf_key: LeafKey,
        now: SystemTime,
    ) -> Result<Authority, Error> {
        let problem = |problem: String| Error::Brought { certificate: self.file.clone(), problem };
        let unreadable = |_| problem("holds a certificate that cannot be read".to_owned());
        let facts = certificate::read(self.issuing()).map_err(unreadable)?;
        if self.key.subject_public_key_info() != facts.public_key {
            let order = "does not begin with the certificate of its key; put the one that signs leaves first";
            return Err(problem(order.to_owned()));
        }
        if !facts.is_ca {
            return Err(problem(
                "is not a CA's (basicConstraints, keyCertSign); bring one that may sign".to_owned(),
            ));
        }
        if !facts.is_for_servers {
            return Err(problem("may not sign for servers (extendedKeyUsage lacks serverAuth)".to_owned()));
        }
        if now < facts.not_before || facts.not_after <= now {
            return Err(problem("is not valid at this time; renew it, or set the clock".to_owned()));
        }
        if !facts.permits(domains) {
            let names = facts.permitted.unwrap_or_default().join(", ");
            let names = format!("is constrained to {names}, and `hosts` lies elsewhere; bring one for those");
            return Err(problem(names));
        }
        if facts.permitted.is_none() {
            tracing::warn!(
                file = %self.file.display(),
                "the CA is not constrained to the protected domains: whoever gets its key can pass for every host"
            );
        }
        let authority = Authority::new(domains, self.chain.clone(), self.key, leaf_key)?;
        authority.prove(now).map_err(|error| problem(format!("cannot be used: {error}")))?;
        Ok(authority)
    }
}

static EMPTY: CertificateDer<'static> = CertificateDer::from_slice(&[]);
