//! The name by which OpenSSL finds a CA certificate in a hashed directory: a hash of its canonical subject.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls_pki_types::{CertificateDer, pem::PemObject};

const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const UTF8: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// Why a certificate has no hash.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(in crate::run) enum Error {
    #[error("it is not a PEM certificate")]
    Pem,
    #[error("its DER encoding is broken")]
    Der,
}

/// The hash of the subject of the first certificate in `pem`.
pub(in crate::run) fn of_pem(pem: &str) -> Result<u32, Error> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Error::Pem)?;
    let subject = subject(&certificate).ok_or(Error::Der)?;
    let canonical = canonical_name(subject).ok_or(Error::Der)?;
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &canonical);
    let head = hash.as_ref().first_chunk().ok_or(Error::Der)?;
    Ok(u32::from_le_bytes(*head))
}

/// `Certificate { TBSCertificate { [0] version?, serial, signature, issuer, validity, subject, … }, … }`.
fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (fields, _) = expect(certificate, SEQUENCE)?;
    let fields = expect(fields, VERSION).map_or(fields, |(_, rest)| rest);
    let (_, fields) = expect(fields, INTEGER)?;
    let (_, fields) = expect(fields, SEQUENCE)?;
    let (_, fields) = expect(fields, SEQUENCE)?;
    let (_, fields) = expect(fields, SEQUENCE)?;
    Some(expect(fields, SEQUENCE)?.0)
}

/// The relative names one after the other, without the sequence around them, each value in one form.
fn canonical_name(mut name: &[u8]) -> Option<Vec<u8>> {
    let mut canonical = Vec::new();
    while !name.is_empty() {
        let (mut attributes, rest) = expect(name, SET)?;
        let mut encoded = Vec::new();
        while !attributes.is_empty() {
            let (attribute, others) = expect(attributes, SEQUENCE)?;
            let (object, value) = expect(attribute, OBJECT)?;
            let (tag, value, _) = element(value)?;
            let mut pair = Vec::new();
            append(&mut pair, OBJECT, object);
            match text(tag, value) {
                Some(text) => append(&mut pair, UTF8, canonical_text(&text?).as_bytes()),
                None => append(&mut pair, tag, value),
            }
            let mut sequence = Vec::new();
            append(&mut sequence, SEQUENCE, &pair);
            encoded.push(sequence);
            attributes = others;
        }
        // DER orders the members of a set by their bytes, which may have changed.
        encoded.sort();
        append(&mut canonical, SET, &encoded.concat());
        name = rest;
    }
    Some(canonical)
}

/// None for a type that OpenSSL leaves as it is; `Some(None)` for a broken text.
fn text(tag: u8, value: &[u8]) -> Option<Option<String>> {
    const PRINTABLE: u8 = 0x13;
    const TELETEX: u8 = 0x14;
    const IA5: u8 = 0x16;
    const VISIBLE: u8 = 0x1a;
    const UNIVERSAL: u8 = 0x1c;
    const BMP: u8 = 0x1e;
    let wide = |size: usize| {
        let numbers =
            value.chunks(size).map(|chunk| chunk.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)));
        value.len().is_multiple_of(size).then(|| numbers.map(char::from_u32).collect())?
    };
    match tag {
        UTF8 => Some(String::from_utf8(value.to_vec()).ok()),
        // OpenSSL reads all of these as Latin-1.
        PRINTABLE | TELETEX | IA5 | VISIBLE => Some(Some(value.iter().copied().map(char::from).collect())),
        BMP => Some(wide(2)),
        UNIVERSAL => Some(wide(4)),
        _ => None,
    }
}

/// Lower case, and one blank between words, in ASCII only.
fn canonical_text(text: &str) -> String {
    let is_blank = |c: char| matches!(c, ' ' | '\t'..='\r');
    let words: Vec<_> = text.split(is_blank).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_ascii_lowercase()
}

fn append(to: &mut Vec<u8>, tag: u8, content: &[u8]) {
    to.push(tag);
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|&byte| byte == 0).collect();
    match significant.as_slice() {
        [] => to.push(0),
        [short @ 0..=0x7f] => to.push(*short),
        long => {
            to.push(0x80 | u8::try_from(long.len()).unwrap_or(0));
            to.extend_from_slice(long);
        }
    }
    to.extend_from_slice(content);
}

fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// One element: its tag, its content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81..=0x84 => {
            let (length, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), bytes)
        }
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests;
