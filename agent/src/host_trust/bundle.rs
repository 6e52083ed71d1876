//! A bundle: the system's certificates and the local CA's, for programs that are given a file.

use super::{Error, failed, rooted::Root};
use crate::terminate::certificate;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{fs, path::Path};

/// Where distributions keep theirs: Debian and Alpine, Fedora, openSUSE, and the usual link.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificates of the first bundle below `root`, and behind them those of the local CA that are not among them.
/// Also answers how many the system had.
///
/// # Errors
/// When the system's bundle cannot be read.
pub fn merged(root: &Path, anchors: &[CertificateDer<'_>]) -> Result<(String, usize), Error> {
    let root = Root::open(root)?;
    let mut certificates = Vec::new();
    if let Some(path) = BUNDLES.iter().find_map(|path| root.resolve(Path::new(path))) {
        let text = fs::read(&path).map_err(failed("read", &path))?;
        // A block that is broken is worth nothing to its readers, and no reason to do without the others.
        certificates = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect();
    }
    certificates.retain(|certificate| !anchors.contains(certificate));
    let count = certificates.len();
    certificates.extend(anchors.iter().map(|anchor| anchor.clone().into_owned()));
    Ok((certificates.iter().map(certificate::pem).collect(), count))
}

/// Puts a bundle where everybody may read it, whole.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, bundle: &str) -> Result<(), Error> {
    super::rooted::write(path, bundle.as_bytes(), 0o644)
}
