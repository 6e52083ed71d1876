//! PKCS#12 (RFC 7292) as Java writes it: without encryption, as JDKs ship it, or with that of PBES2, as keytool does.

use super::{Entry, Error};
use crate::trust::der::{CONTEXT_0, INTEGER, OBJECT, OCTETS, SEQUENCE, SET, element, expect};
use aws_lc_rs::{
    cipher::{
        AES_128, AES_128_KEY_LEN, AES_256, AES_256_KEY_LEN, Algorithm, DecryptionContext,
        PaddedBlockDecryptingKey, UnboundCipherKey,
    },
    iv::FixedLength,
    pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA384, PBKDF2_HMAC_SHA512},
};
use std::num::NonZeroU32;

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];
/// Oracle's attribute: without it Java trusts no certificate.
const TRUSTED_KEY_USAGE: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 1, 1];
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const HMACS: [(&[u8], pbkdf2::Algorithm); 4] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 7], PBKDF2_HMAC_SHA1),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9], PBKDF2_HMAC_SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 10], PBKDF2_HMAC_SHA384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 11], PBKDF2_HMAC_SHA512),
];
const AES_128_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 2];
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 1, 42];
const IMPLICIT_OCTETS: u8 = 0x80;
const BMP: u8 = 0x1e;
/// Java takes ten thousand; a file that asks for much more wants to waste time.
const MAX_ITERATIONS: u32 = 1_000_000;

/// The certificates that Java would trust.
pub(super) fn read(content: &[u8], password: &str) -> Result<Vec<Entry>, Error> {
    let safe = authenticated_safe(content).ok_or(Error::Broken)?;
    let mut entries = Vec::new();
    for part in all(safe) {
        let (kind, value) = part.and_then(content_info).ok_or(Error::Broken)?;
        if kind == DATA {
            let bags = expect(value, OCTETS).ok_or(Error::Broken)?.0;
            read_bags(bags, &mut entries).ok_or(Error::Broken)?;
        } else if kind == ENCRYPTED_DATA {
            let bags = decrypt(value, password)?;
            // With another key it is noise, some of which is padded rightly.
            read_bags(&bags, &mut entries).ok_or(Error::Password)?;
        }
    }
    Ok(entries)
}

/// `PFX { 3, ContentInfo { data, [0] { OCTET STRING { SEQUENCE OF ContentInfo } } }, … }`.
fn authenticated_safe(content: &[u8]) -> Option<&[u8]> {
    let (pfx, _) = expect(content, SEQUENCE)?;
    let (_, pfx) = expect(pfx, INTEGER)?;
    let (info, _) = expect(pfx, SEQUENCE)?;
    let (kind, value) = content_info(info)?;
    let (octets, _) = expect(value, OCTETS).filter(|_| kind == DATA)?;
    Some(expect(octets, SEQUENCE)?.0)
}

/// The type and the value of `{ OBJECT, [0] { … } }`.
fn content_info(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let (kind, rest) = expect(info, OBJECT)?;
    Some((kind, expect(rest, CONTEXT_0)?.0))
}

/// `SEQUENCE OF { bag type, [0] value, SET OF attributes }`.
fn read_bags(bags: &[u8], entries: &mut Vec<Entry>) -> Option<()> {
    let (bags, _) = expect(bags, SEQUENCE)?;
    for bag in all(bags) {
        let (kind, rest) = expect(bag?, OBJECT)?;
        let (value, rest) = expect(rest, CONTEXT_0)?;
        if kind != CERTIFICATE_BAG {
            continue;
        }
        let (certificate, _) = expect(value, SEQUENCE)?;
        let (kind, certificate) = content_info(certificate)?;
        let attributes = if rest.is_empty() { rest } else { expect(rest, SET)?.0 };
        let mut alias = Vec::new();
        let mut is_trusted = false;
        for attribute in all(attributes) {
            let (name, values) = expect(attribute?, OBJECT)?;
            is_trusted |= name == TRUSTED_KEY_USAGE;
            if name == FRIENDLY_NAME {
                let (name, _) = expect(expect(values, SET)?.0, BMP)?;
                let (units, _) = name.as_chunks();
                let units: Vec<u16> = units.iter().copied().map(u16::from_be_bytes).collect();
                alias = String::from_utf16_lossy(&units).into_bytes();
            }
        }
        if is_trusted && kind == X509_CERTIFICATE {
            let certificate = expect(certificate, OCTETS)?.0.to_vec();
            entries.push(Entry { alias, date: 0, certificate });
        }
    }
    Some(())
}

/// `{ 0, { data, algorithm, [0] IMPLICIT OCTET STRING } }`.
fn decrypt(value: &[u8], password: &str) -> Result<Vec<u8>, Error> {
    let parts = || {
        let (encrypted, _) = expect(value, SEQUENCE)?;
        let (_, encrypted) = expect(encrypted, INTEGER)?;
        let (info, _) = expect(encrypted, SEQUENCE)?;
        let (_, info) = expect(info, OBJECT)?;
        let (algorithm, info) = expect(info, SEQUENCE)?;
        let (ciphertext, _) = expect(info, IMPLICIT_OCTETS)?;
        let (algorithm, parameters) = expect(algorithm, OBJECT)?;
        Some((algorithm, parameters, ciphertext))
    };
    let (algorithm, parameters, ciphertext) = parts().ok_or(Error::Broken)?;
    if algorithm != PBES2 {
        return Err(Error::Encryption);
    }
    let Scheme { hmac, salt, iterations, cipher, key_length, vector } =
        scheme(parameters).ok_or(Error::Encryption)?;
    let mut key = vec![0; key_length];
    pbkdf2::derive(hmac, iterations, salt, password.as_bytes(), &mut key);
    let decrypt = || {
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(cipher, &key)?)?;
        let mut text = ciphertext.to_vec();
        let length = key.decrypt(&mut text, DecryptionContext::Iv128(FixedLength::from(vector)))?.len();
        text.truncate(length);
        Ok(text)
    };
    decrypt().map_err(|_: aws_lc_rs::error::Unspecified| Error::Password)
}

struct Scheme<'a> {
    hmac: pbkdf2::Algorithm,
    salt: &'a [u8],
    iterations: NonZeroU32,
    cipher: &'static Algorithm,
    key_length: usize,
    vector: &'a [u8; 16],
}

/// `{ { PBKDF2, { salt, iterations, key length?, { hmac, … }? } }, { cipher, vector } }`.
fn scheme(parameters: &[u8]) -> Option<Scheme<'_>> {
    let (parameters, _) = expect(parameters, SEQUENCE)?;
    let (derivation, rest) = expect(parameters, SEQUENCE)?;
    let (encryption, _) = expect(rest, SEQUENCE)?;
    let (kind, derivation) = expect(derivation, OBJECT)?;
    let (derivation, _) = expect(derivation, SEQUENCE).filter(|_| kind == PBKDF2)?;
    let (salt, derivation) = expect(derivation, OCTETS)?;
    let (iterations, derivation) = expect(derivation, INTEGER)?;
    let iterations = iterations.iter().try_fold(0_u32, |sum, &byte| {
        sum.checked_mul(256)?.checked_add(byte.into()).filter(|&sum| sum <= MAX_ITERATIONS)
    })?;
    let derivation = expect(derivation, INTEGER).map_or(derivation, |(_, rest)| rest);
    let hmac = match expect(derivation, SEQUENCE) {
        None => PBKDF2_HMAC_SHA1,
        Some((algorithm, _)) => {
            let (object, _) = expect(algorithm, OBJECT)?;
            HMACS.iter().find(|(name, _)| *name == object)?.1
        }
    };
    let (object, vector) = expect(encryption, OBJECT)?;
    let (cipher, key_length) = match object {
        AES_128_CBC => (&AES_128, AES_128_KEY_LEN),
        AES_256_CBC => (&AES_256, AES_256_KEY_LEN),
        _ => return None,
    };
    let vector = expect(vector, OCTETS)?.0.try_into().ok()?;
    let iterations = NonZeroU32::new(iterations)?;
    Some(Scheme { hmac, salt, iterations, cipher, key_length, vector })
}

/// The contents of the elements that are sequences, one after the other; None once, where one is broken.
fn all(mut bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let found = element(bytes).filter(|(tag, ..)| *tag == SEQUENCE);
        bytes = found.map_or(&[], |(_, _, rest)| rest);
        Some(found.map(|(_, content, _)| content))
    })
}
