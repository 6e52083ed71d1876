//! An audit record as its line of JSON: the one place where every string passes the redactor.

use super::{
    AuditRecord,
    redact::{Redactor, is_steering},
};
use serde::Serialize;
use serde_json::{Serializer, ser::Formatter};
use std::io::{self, Write};

impl AuditRecord {
    /// The record as one line with its end. Every string in it, whatever field it stands in, is redacted here and
    /// nowhere else; control characters are escaped, so that showing the log on a terminal is safe.
    ///
    /// # Errors
    /// Never for the types that a record has; the signature is that of the serializer.
    pub fn to_line(&self, redactor: &Redactor) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = Vec::with_capacity(2048);
        self.write_line(redactor, &mut line)?;
        Ok(line)
    }

    /// As [`Self::to_line`], behind what the buffer holds.
    ///
    /// # Errors
    /// As [`Self::to_line`].
    pub fn write_line(&self, redactor: &Redactor, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        self.serialize(&mut Serializer::with_formatter(&mut *buffer, Redacting { redactor, is_key: false }))?;
        buffer.push(b'\n');
        Ok(())
    }
}

/// JSON as serde_json writes it by default, but redacted.
struct Redacting<'a> {
    redactor: &'a Redactor,
    /// Whether a key comes. Those are the names of a record's fields, since no field of it is a map.
    is_key: bool,
}

impl Formatter for Redacting<'_> {
    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        self.is_key = true;
        if is_first { Ok(()) } else { writer.write_all(b",") }
    }

    fn end_object_key<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.is_key = false;
        Ok(())
    }

    /// Gets the parts of a string between the characters that JSON escapes; no secret has one of those inside.
    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if self.is_key {
            return writer.write_all(fragment.as_bytes());
        }
        let redacted = self.redactor.redact(fragment);
        let mut rest: &str = &redacted;
        // One look at all bytes at once spares nearly every string the look at its characters.
        if rest.bytes().fold(true, |is_plain, byte| is_plain & (b' '..b'\x7f').contains(&byte)) {
            return writer.write_all(rest.as_bytes());
        }
        while let Some(at) = rest.find(is_steering) {
            let (plain, steering) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = steering.chars();
            if let Some(char) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(char))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}
