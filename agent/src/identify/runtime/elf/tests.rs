use super::*;
use proptest::prelude::*;
use test_case::test_case;

/// An ELF file with these constants in a section, these libraries, and this search path.
pub(in crate::identify::runtime) fn made(constants: &[u8], needed: &[&str], runpath: &str) -> Vec<u8> {
    let mut strings = vec![0];
    let mut dynamic: Vec<(u64, u64)> = Vec::new();
    for name in needed {
        dynamic.push((NEEDED, strings.len() as u64));
        strings.extend(name.bytes().chain([0]));
    }
    if !runpath.is_empty() {
        dynamic.push((RUNPATH, strings.len() as u64));
        strings.extend(runpath.bytes().chain([0]));
    }
    let strings_at = (HEADER_LEN + 2 * SEGMENT_LEN) as u64;
    let dynamic_at = strings_at + strings.len() as u64;
    // What is loaded lies in memory elsewhere than in the file.
    const BASE: u64 = 0x40_0000;
    dynamic.extend([(STRING_TABLE, BASE + strings_at), (0, 0)]);
    let dynamic: Vec<u8> =
        dynamic.iter().flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()].concat()).collect();
    let constants_at = dynamic_at + dynamic.len() as u64;
    let sections_at = constants_at + constants.len() as u64;

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([3_u16.to_le_bytes(), 62_u16.to_le_bytes()].concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([0, HEADER_LEN as u64, sections_at].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    let sizes = [HEADER_LEN as u16, SEGMENT_LEN as u16, 2, SECTION_LEN as u16, 2, 0];
    file.extend(sizes.map(u16::to_le_bytes).concat());
    let segment = |kind: u32, offset: u64, length: u64| {
        let head = [kind.to_le_bytes(), 4_u32.to_le_bytes()].concat();
        let rest = [offset, BASE + offset, BASE + offset, length, length, 8].map(u64::to_le_bytes).concat();
        [head, rest].concat()
    };
    file.extend(segment(LOAD, 0, sections_at));
    file.extend(segment(DYNAMIC, dynamic_at, dynamic.len() as u64));
    file.extend(strings);
    file.extend(dynamic);
    file.extend(constants);
    let section = |kind: u32, flags: u64, offset: u64, length: u64| {
        let head = [0_u32.to_le_bytes(), kind.to_le_bytes()].concat();
        let middle = [flags, BASE + offset, offset, length].map(u64::to_le_bytes).concat();
        [head, middle, [0; 24].to_vec()].concat()
    };
    file.extend(section(0, 0, 0, 0));
    file.extend(section(1, ALLOCATED, constants_at, constants.len() as u64));
    file
}

#[test]
fn constants_and_libraries_are_found() {
    let file = made(b"the constants", &["libssl.so.3", "libc.so.6"], "$ORIGIN/../lib:/opt/lib");
    let elf = Elf::read(file.as_slice()).unwrap();
    assert_eq!(elf.libraries.needed, ["libssl.so.3", "libc.so.6"]);
    assert_eq!(elf.libraries.search, ["$ORIGIN/../lib", "/opt/lib"]);
    let Range { offset, length } = elf.data[0];
    assert_eq!(some_bytes(file.as_slice(), offset, length as usize), b"the constants");
    assert_eq!(elf.data.len(), 1);
}

#[test]
fn without_sections_what_is_loaded_counts() {
    let mut file = made(b"the constants", &[], "");
    file[60..62].fill(0);
    let elf = Elf::read(file.as_slice()).unwrap();
    let whole = Range { offset: 0, length: file.len() as u64 - 2 * SECTION_LEN as u64 };
    assert_eq!(elf.data, [whole]);
}

#[test_case(b""; "nothing")]
#[test_case(b"#!/bin/sh\n"; "a script")]
#[test_case(b"\x7fELF\x01\x01\x01"; "32 bits")]
#[test_case(b"\x7fELF\x02\x02\x01"; "big-endian")]
fn other_files_are_none(head: &[u8]) {
    let mut file = head.to_vec();
    file.resize(512, 0);
    assert_eq!(Elf::read(file.as_slice()), None);
}

#[test]
fn every_prefix_is_read_without_harm() {
    let file = made(b"the constants", &["libssl.so.3", "libc.so.6"], "/opt/lib");
    let whole = Elf::read(file.as_slice()).unwrap();
    for length in 0..file.len() {
        let read = Elf::read(&file[..length]);
        assert_eq!(read.is_some(), length >= HEADER_LEN, "{length}");
        // A library is named whole or not at all.
        for name in read.into_iter().flat_map(|elf| elf.libraries.needed) {
            assert!(whole.libraries.needed.contains(&name), "{length}: {name}");
        }
    }
}

#[test]
fn the_machines_own_programs_are_read() {
    for (path, library) in [("/usr/bin/openssl", "libssl.so.3"), ("/usr/bin/wget", "libgnutls.so.30")] {
        let file = File::open(path).unwrap();
        let elf = Elf::read(&file).unwrap();
        assert!(elf.libraries.needed.iter().any(|name| name == library), "{path}: {elf:?}");
        let length = file.metadata().unwrap().len();
        assert!(elf.data.iter().all(|range| range.offset + range.length <= length), "{path}: {elf:?}");
    }
}

proptest! {
    #[test]
    fn any_change_of_bytes_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut file = made(b"the constants", &["libssl.so.3", "libc.so.6"], "/opt/lib");
        for (index, byte) in changes {
            let at = index.index(file.len());
            file[at] = byte;
        }
        if let Some(elf) = Elf::read(file.as_slice()) {
            prop_assert!(elf.libraries.needed.len() <= MAX_DYNAMIC);
            prop_assert!(elf.data.len() <= MAX_SECTIONS);
            prop_assert!(elf.libraries.needed.iter().all(|name| name.len() < MAX_NAME));
            super::super::markers::Markers::find(file.as_slice(), &elf);
        }
    }

    #[test]
    fn any_bytes_behind_the_magic_are_survived(rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let file = [b"\x7fELF\x02\x01\x01".as_slice(), &rest].concat();
        if let Some(elf) = Elf::read(file.as_slice()) {
            super::super::markers::Markers::find(file.as_slice(), &elf);
        }
    }
}
