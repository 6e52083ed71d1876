//! As much of an ELF file as tells what its program is made of, read within bounds: the file may be anybody's.

use std::{fs::File, io, os::unix::fs::FileExt};

/// More program headers than any linker writes.
const MAX_SEGMENTS: usize = 64;
/// More sections than a linked program has.
const MAX_SECTIONS: usize = 512;
/// More libraries, and entries around them, than a program names.
const MAX_DYNAMIC: usize = 1024;
/// The longest name of a library that is read.
const MAX_NAME: usize = 256;

const HEADER_LEN: usize = 64;
const SEGMENT_LEN: usize = 56;
const SECTION_LEN: usize = 64;
const DYNAMIC_LEN: usize = 16;

const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const PROGRAM_BITS: u32 = 1;
/// How the names of the sections begin that only unwinding needs.
const UNWINDING: [&[u8]; 2] = [b".eh_frame", b".gcc_except_table"];
const LONGEST_UNWOUND: usize = 17;
const ALLOCATED: u64 = 2;
const EXECUTABLE_SECTION: u64 = 4;

const NEEDED: u64 = 1;
const STRING_TABLE: u64 = 5;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;

/// Something that can be read anywhere.
pub trait ReadAt {
    /// Fills the buffer from this offset on, as far as there is something.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    }
}

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// The libraries that a program asks for, and where it says that they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Libraries {
    /// Their names.
    pub needed: Vec<String>,
    /// The directories that it looks in before the system's, with `$ORIGIN` as it stands there.
    pub search: Vec<String>,
}

/// A 64-bit little-endian ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// Where its constants are, the small parts first.
    pub data: Vec<Range>,
    /// What it is linked to.
    pub libraries: Libraries,
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    length: u64,
}

impl Elf {
    /// Reads it; none where it is no such file. What is beyond the bounds or does not fit together is left out.
    pub fn read(file: &(impl ReadAt + ?Sized)) -> Option<Self> {
        let header = bytes(file, 0, HEADER_LEN)?;
        // 64-bit, little-endian, of version 1.
        if !header.starts_with(b"\x7fELF\x02\x01\x01") {
            return None;
        }
        let segments = segments(file, &header);
        let mut data = sections(file, &header);
        if data.is_empty() {
            // Without a section table everything that is loaded may hold constants.
            let loaded = segments.iter().filter(|segment| segment.kind == LOAD);
            data = loaded.map(|segment| Range { offset: segment.offset, length: segment.length }).collect();
        }
        data.sort_by_key(|range| range.length);
        Some(Self { data, libraries: libraries(file, &segments) })
    }
}

fn segments(file: &(impl ReadAt + ?Sized), header: &[u8]) -> Vec<Segment> {
    let (Some(offset), Some(count)) = (u64_at(header, 32), u16_at(header, 56)) else { return Vec::new() };
    table(file, offset, usize::from(count).min(MAX_SEGMENTS), SEGMENT_LEN)
        .chunks_exact(SEGMENT_LEN)
        .filter_map(|entry| {
            Some(Segment {
                kind: u32_at(entry, 0)?,
                offset: u64_at(entry, 8)?,
                address: u64_at(entry, 16)?,
                length: u64_at(entry, 32)?,
            })
        })
        .collect()
}

/// The sections that a program's own constants are in: loaded, and neither code nor tables of the linker's and for
/// unwinding, which are as large.
fn sections(file: &(impl ReadAt + ?Sized), header: &[u8]) -> Vec<Range> {
    let (Some(offset), Some(count)) = (u64_at(header, 40), u16_at(header, 60)) else { return Vec::new() };
    let table = table(file, offset, usize::from(count).min(MAX_SECTIONS), SECTION_LEN);
    let names = u16_at(header, 62).map(usize::from).and_then(|at| table.chunks_exact(SECTION_LEN).nth(at));
    let names = names.and_then(|entry| u64_at(entry, 24));
    table
        .chunks_exact(SECTION_LEN)
        .filter_map(|entry| {
            let (name, kind, flags) = (u32_at(entry, 0)?, u32_at(entry, 4)?, u64_at(entry, 8)?);
            let is_data = kind == PROGRAM_BITS && flags & ALLOCATED != 0 && flags & EXECUTABLE_SECTION == 0;
            let range = Range { offset: u64_at(entry, 24)?, length: u64_at(entry, 32)? };
            if !is_data || range.length == 0 {
                return None;
            }
            let name =
                names.map(|names| some_bytes(file, names.saturating_add(name.into()), LONGEST_UNWOUND));
            let is_unwound =
                name.is_some_and(|name| UNWINDING.iter().any(|unwinding| name.starts_with(unwinding)));
            (!is_unwound).then_some(range)
        })
        .collect()
}

fn libraries(file: &(impl ReadAt + ?Sized), segments: &[Segment]) -> Libraries {
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == DYNAMIC) else {
        return Libraries::default();
    };
    let count = usize::try_from(dynamic.length).unwrap_or(usize::MAX) / DYNAMIC_LEN;
    let entries = table(file, dynamic.offset, count.min(MAX_DYNAMIC), DYNAMIC_LEN);
    let entries: Vec<(u64, u64)> = entries
        .chunks_exact(DYNAMIC_LEN)
        .filter_map(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    let value = |wanted: u64| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
    let Some(strings) = value(STRING_TABLE).and_then(|address| offset_of(segments, address)) else {
        return Libraries::default();
    };
    let name = |at: u64| {
        let text = some_bytes(file, strings.checked_add(at)?, MAX_NAME);
        let end = text.iter().position(|byte| *byte == 0)?;
        String::from_utf8(text.get(..end)?.to_vec()).ok()
    };
    let needed = entries.iter().filter(|(tag, _)| *tag == NEEDED).filter_map(|(_, at)| name(*at)).collect();
    // A RUNPATH puts an RPATH out of force.
    let search = value(RUNPATH).or_else(|| value(RPATH)).and_then(name).unwrap_or_default();
    let search = search.split(':').filter(|directory| !directory.is_empty()).map(str::to_owned).collect();
    Libraries { needed, search }
}

/// Where in the file an address of the loaded program lies.
fn offset_of(segments: &[Segment], address: u64) -> Option<u64> {
    segments.iter().filter(|segment| segment.kind == LOAD).find_map(|segment| {
        let into = address.checked_sub(segment.address)?;
        (into < segment.length).then(|| segment.offset.checked_add(into))?
    })
}

/// The entries of a table, as many as there are whole.
fn table(file: &(impl ReadAt + ?Sized), offset: u64, count: usize, length: usize) -> Vec<u8> {
    some_bytes(file, offset, count.saturating_mul(length))
}

fn bytes(file: &(impl ReadAt + ?Sized), offset: u64, length: usize) -> Option<Vec<u8>> {
    Some(some_bytes(file, offset, length)).filter(|read| read.len() == length)
}

/// As many of these bytes as there are.
pub(super) fn some_bytes(file: &(impl ReadAt + ?Sized), offset: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    buffer.truncate(filled);
    buffer
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
pub(super) mod tests;
