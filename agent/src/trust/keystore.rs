//! Java's keystores: reads the certificates that one trusts, and writes one that trusts more.
//!
//! What is written is always of the older kind, JKS: since 8u60 every Java tells the two kinds apart by their first
//! bytes, whatever kind it was told to expect.

mod pkcs12;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION: u32 = 2;
const KEY: u32 = 1;
const TRUSTED: u32 = 2;
const X509: &[u8] = b"X.509";
/// JKS has it between the password and the content of what it hashes.
const SALT: &[u8] = b"Mighty Aphrodite";

/// Why the certificates of a keystore cannot be had.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Error {
    #[error("it is neither a JKS nor a PKCS#12 keystore")]
    Format,
    #[error("it ends too early, or is broken otherwise")]
    Broken,
    #[error("it is encrypted in an outdated way (`keytool -importkeystore` makes a newer one of it)")]
    Encryption,
    #[error("its password is not the one that is known")]
    Password,
}

/// A certificate that a keystore trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name: UTF-8, nearly (Java's own variant).
    pub(super) alias: Vec<u8>,
    /// Milliseconds since 1970.
    pub(super) date: u64,
    /// DER.
    pub(super) certificate: Vec<u8>,
}

/// The certificates that a keystore trusts. Its private keys stay where they are.
pub(super) fn read(content: &[u8], password: &str) -> Result<Vec<Entry>, Error> {
    match content.split_first_chunk() {
        Some((&MAGIC, rest)) => read_jks(rest).ok_or(Error::Broken),
        Some(([0x30, ..], _)) => pkcs12::read(content, password),
        _ => Err(Error::Format),
    }
}

fn read_jks(content: &[u8]) -> Option<Vec<Entry>> {
    let mut reader = Reader(content);
    if reader.number()? != VERSION {
        return None;
    }
    let count = reader.number()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let tag = reader.number()?;
        let alias = reader.text()?.to_vec();
        let date = u64::from_be_bytes(*reader.array()?);
        match tag {
            TRUSTED => {
                let is_x509 = reader.text()? == X509;
                let certificate = reader.bytes()?.to_vec();
                if is_x509 {
                    entries.push(Entry { alias, date, certificate });
                }
            }
            KEY => {
                reader.bytes()?;
                for _ in 0..reader.number()? {
                    reader.text()?;
                    reader.bytes()?;
                }
            }
            _ => return None,
        }
    }
    Some(entries)
}

/// A JKS keystore of these entries, whose integrity the password vouches for. None where an entry does not fit.
pub(super) fn write(entries: &[Entry], password: &str) -> Option<Vec<u8>> {
    let mut content = MAGIC.to_vec();
    content.extend(VERSION.to_be_bytes());
    content.extend(u32::try_from(entries.len()).ok()?.to_be_bytes());
    for Entry { alias, date, certificate } in entries {
        content.extend(TRUSTED.to_be_bytes());
        append_text(&mut content, alias)?;
        content.extend(date.to_be_bytes());
        append_text(&mut content, X509)?;
        content.extend(u32::try_from(certificate.len()).ok()?.to_be_bytes());
        content.extend(certificate);
    }
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    [&password, SALT, &content].into_iter().for_each(|part| hash.update(part));
    content.extend(hash.finish().as_ref());
    Some(content)
}

fn append_text(content: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    content.extend(u16::try_from(text.len()).ok()?.to_be_bytes());
    content.extend(text);
    Some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.take(N)?.first_chunk()
    }

    fn number(&mut self) -> Option<u32> {
        self.array().copied().map(u32::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(*self.array()?);
        self.take(length.into())
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }
}

#[cfg(test)]
mod tests;
