//! The name by which OpenSSL finds a CA certificate in a hashed directory: a hash of its canonical subject.

use super::der::{CONTEXT_0, INTEGER, OBJECT, SEQUENCE, SET, append, element, expect};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

const UTF8: u8 = 0x0c;

/// The hash of the subject of a certificate; None where its encoding is broken.
pub(super) fn of(certificate: &[u8]) -> Option<u32> {
    let canonical = canonical_name(subject(certificate)?)?;
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &canonical);
    hash.as_ref().first_chunk().copied().map(u32::from_le_bytes)
}

/// `Certificate { TBSCertificate { [0] version?, serial, signature, issuer, validity, subject, … }, … }`.
fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (fields, _) = expect(certificate, SEQUENCE)?;
    let fields = expect(fields, CONTEXT_0).map_or(fields, |(_, rest)| rest);
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

#[cfg(test)]
mod tests;
