//! Tar archives, of root's files alone.

use anyhow::{Result, ensure};
use std::fmt::Write as _;

const BLOCK: usize = 512;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// Without a slash at either end.
    pub(super) path: String,
    pub(super) mode: u32,
    /// None for a directory.
    pub(super) content: Option<Vec<u8>>,
}

impl Entry {
    pub(super) fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode, content: Some(content.into()) }
    }

    pub(super) fn directory(path: &str, mode: u32) -> Self {
        Self { path: path.to_owned(), mode, content: None }
    }
}

/// The archive of these entries, in POSIX' ustar format.
pub(super) fn tar(entries: &[Entry], seconds: u64) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend(header(entry, seconds)?);
        if let Some(content) = &entry.content {
            archive.extend(content);
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

/// The fields in their order, each with its width.
fn header(entry: &Entry, seconds: u64) -> Result<Vec<u8>> {
    let slash = if entry.content.is_some() { "" } else { "/" };
    let path = format!("{}{slash}", entry.path);
    let size = entry.content.as_ref().map_or(0, Vec::len);
    ensure!(path.len() <= 100, "`{path}` is longer than a header has room for");
    let kind = if entry.content.is_some() { "0" } else { "5" };
    let zero = octal(0, 7)?;
    let before = [path, octal(entry.mode.into(), 7)?, zero.clone(), zero.clone()].map(String::into_bytes);
    let numbers = [octal(size as u64, 11)?, octal(seconds, 11)?].map(String::into_bytes);
    // Name, mode, owner, group, size, time; checksum; kind, link, magic, names of owner and group, device, prefix.
    let mut header = Vec::with_capacity(BLOCK);
    for (field, width) in before.iter().zip([100, 8, 8, 8]).chain(numbers.iter().zip([12, 12])) {
        header.extend(field);
        header.resize(header.len() + width - field.len(), 0);
    }
    let rest = [
        (kind, 1),
        ("", 100),
        ("ustar\u{0}00", 8),
        ("root", 32),
        ("root", 32),
        (&zero, 8),
        (&zero, 8),
        ("", 167),
    ];
    let mut tail = Vec::new();
    for (field, width) in rest {
        tail.extend(field.as_bytes());
        tail.resize(tail.len() + width - field.len(), 0);
    }
    // The checksum counts as blanks itself.
    let sum: u64 = header.iter().chain(&tail).map(|byte| u64::from(*byte)).sum::<u64>() + 8 * u64::from(b' ');
    header.extend(octal(sum, 6)?.as_bytes());
    header.extend(*b"\0 ");
    header.extend(tail);
    Ok(header)
}

fn octal(number: u64, digits: usize) -> Result<String> {
    let mut text = String::new();
    write!(text, "{number:0digits$o}")?;
    ensure!(text.len() <= digits, "{number} is more than {digits} octal digits hold");
    Ok(text)
}
