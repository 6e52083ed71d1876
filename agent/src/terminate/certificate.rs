//! What a certificate says, as far as an authority's use and its display need it.

use crate::host::HostName;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, time::ASN1Time};

/// What stands in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is.
    pub subject: String,
    /// Before, it is not valid.
    pub not_before: SystemTime,
    /// After, it is not valid.
    pub not_after: SystemTime,
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// Whether it may be shown by servers, or sign for those that are.
    pub is_for_servers: bool,
    /// Whether it is its own issuer.
    pub is_self_issued: bool,
    /// The names that it may vouch for, with all below them; None where it may for all.
    pub permitted: Option<Vec<String>>,
    /// The public key, encoded.
    pub(super) public_key: Vec<u8>,
}

/// Why a certificate cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it is no X.509 certificate")]
pub struct Unreadable;

/// Reads a certificate.
///
/// # Errors
/// When its encoding is broken.
pub fn read(der: &CertificateDer<'_>) -> Result<Facts, Unreadable> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| Unreadable)?;
    if !rest.is_empty() {
        return Err(Unreadable);
    }
    let constraints = certificate.basic_constraints().map_err(|_| Unreadable)?;
    let usage = certificate.key_usage().map_err(|_| Unreadable)?;
    let may_sign = usage.is_none_or(|usage| usage.value.key_cert_sign());
    let purposes = certificate.extended_key_usage().map_err(|_| Unreadable)?;
    Ok(Facts {
        subject: certificate.subject().to_string(),
        not_before: system_time(certificate.validity().not_before),
        not_after: system_time(certificate.validity().not_after),
        is_ca: may_sign && constraints.is_some_and(|constraints| constraints.value.ca),
        is_for_servers: purposes.is_none_or(|purposes| purposes.value.server_auth || purposes.value.any),
        is_self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        permitted: permitted(&certificate)?,
        public_key: certificate.public_key().raw.to_vec(),
    })
}

impl Facts {
    /// Whether it may vouch for these names, and for no others than those below them.
    pub fn permits_exactly(&self, domains: &[HostName]) -> bool {
        let Some(permitted) = &self.permitted else { return false };
        domains.len() == permitted.len()
            && domains.iter().all(|domain| permitted.iter().any(|name| name == domain.as_str()))
    }

    /// Whether it may vouch for all of these names.
    pub fn permits(&self, domains: &[HostName]) -> bool {
        let Some(permitted) = &self.permitted else { return true };
        let permitted: Vec<HostName> =
            permitted.iter().filter_map(|name| HostName::parse(name).ok()).collect();
        domains.iter().all(|domain| permitted.iter().any(|name| domain.is_within(name)))
    }
}

fn permitted(certificate: &X509Certificate<'_>) -> Result<Option<Vec<String>>, Unreadable> {
    let Some(extension) = certificate.name_constraints().map_err(|_| Unreadable)? else { return Ok(None) };
    let Some(subtrees) = &extension.value.permitted_subtrees else { return Ok(None) };
    let names = subtrees.iter().filter_map(|subtree| {
        if let GeneralName::DNSName(name) = &subtree.base { Some((*name).to_owned()) } else { None }
    });
    let names: Vec<String> = names.collect();
    // Where no subtree is of names of hosts, those are not constrained.
    Ok((!names.is_empty()).then_some(names))
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The certificate in PEM.
pub fn pem(der: &CertificateDer<'_>) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while let Some((line, after)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// The certificates of a PEM text; None where one of them is broken.
pub fn all_of_pem(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().ok()
}

/// The SHA-256 of the certificate, in lower case hexadecimal.
pub fn fingerprint(der: &CertificateDer<'_>) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, der).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminate::ca;

    fn made() -> ca::Made {
        let domain = HostName::parse("digitalocean.com").unwrap();
        ca::make(&[domain], SystemTime::now(), Duration::from_hours(1)).unwrap()
    }

    #[test]
    fn a_certificate_says_what_it_may() {
        let made = made();
        let (root, intermediate) = (read(&made.root).unwrap(), read(&made.intermediate).unwrap());
        for facts in [&root, &intermediate] {
            assert!(facts.is_ca && facts.is_for_servers);
            assert_eq!(facts.permitted.as_deref(), Some(&["digitalocean.com".to_owned()][..]));
        }
        assert!(root.is_self_issued && !intermediate.is_self_issued);
        assert!(root.subject.contains(ca::NAME), "{}", root.subject);
        let names = |list: &[&str]| -> Vec<HostName> {
            list.iter().map(|name| HostName::parse(name).unwrap()).collect()
        };
        assert!(root.permits_exactly(&names(&["digitalocean.com"])));
        assert!(!root.permits_exactly(&names(&["api.digitalocean.com"])));
        assert!(root.permits(&names(&["api.digitalocean.com", "digitalocean.com"])));
        assert!(!root.permits(&names(&["example.org"])));
    }

    #[test]
    fn every_prefix_is_unreadable_and_so_is_what_follows_it() {
        let der = made().intermediate;
        for length in 0..der.len() {
            assert_eq!(read(&der[..length].to_vec().into()), Err(Unreadable), "{length}");
        }
        assert_eq!(read(&[&der[..], b"x"].concat().into()), Err(Unreadable));
    }

    #[test]
    fn pem_goes_both_ways_and_fingerprints_are_those_of_openssl() {
        let der = made().root;
        let text = pem(&der);
        assert!(text.lines().all(|line| line.len() <= 64));
        assert_eq!(all_of_pem(text.as_bytes()), Some(vec![der.clone()]));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.pem");
        std::fs::write(&file, text).unwrap();
        let output = std::process::Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(file)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let told = told.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
        assert_eq!(fingerprint(&der), told);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, at in 0_usize..600, change: u8) {
            let _ = read(&bytes.into());
            let mut der = made().intermediate.to_vec();
            if let Some(byte) = der.get_mut(at) {
                *byte = change;
            }
            let _ = read(&der.into());
        }
    }
}
