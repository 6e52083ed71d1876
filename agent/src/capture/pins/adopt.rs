//! The maps that earlier agents left: only what is exactly what the programs declare is adopted.

use super::{super::sys, Error, Pins, io_error, names};
use aya::{
    maps::{MapInfo, MapType},
    programs::loaded_programs,
};
use aya_obj::{EbpfSectionKind, Object, generated::bpf_map_type};
use std::{
    fmt::{self, Display, Formatter},
    io,
    os::fd::AsFd,
    path::Path,
};

/// The ring of the programs' log lines: each build has its own lines, so each agent has its own ring.
const LOG_RING: &str = "AYA_LOGS";

/// How much of a map's name the kernel keeps.
const KERNEL_NAME: usize = 15;

/// What must be equal for two maps to be used by the same programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { kind, key_size, value_size, max_entries, flags } = self;
        match bpf_map_type::try_from(*kind).ok().and_then(|kind| MapType::try_from(kind).ok()) {
            Some(kind) => write!(f, "type {kind:?}")?,
            None => write!(f, "type {kind}")?,
        }
        write!(
            f,
            ", keys of {key_size} and values of {value_size} bytes, {max_entries} entries, flags {flags:#x}"
        )
    }
}

/// A map that is to be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Declared {
    pub(in super::super) name: String,
    shape: Shape,
}

/// The maps of the object that are worth keeping: no constants of one build, and no log.
pub(in super::super) fn declared(object: &[u8], sizes: &[(&str, u32)]) -> Result<Vec<Declared>, Error> {
    let object = Object::parse(object).map_err(Error::Object)?;
    let kept = object.maps.into_iter().filter(|(name, map)| {
        matches!(map.section_kind(), EbpfSectionKind::Maps | EbpfSectionKind::BtfMaps) && name != LOG_RING
    });
    let mut declared: Vec<Declared> = kept
        .map(|(name, map)| {
            let size = sizes.iter().find(|(sized, _)| *sized == name).map(|(_, size)| *size);
            let shape = Shape {
                kind: map.map_type(),
                key_size: map.key_size(),
                value_size: map.value_size(),
                max_entries: size.unwrap_or(map.max_entries()),
                flags: map.map_flags(),
            };
            Declared { name, shape }
        })
        .collect();
    declared.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(declared)
}

/// Checks every map that is there, and pins those again whose pins are gone while programs still use them: a program
/// with an empty map in their place would let everybody through.
pub(in super::super) fn prepare(pins: &Pins, declared: &[Declared]) -> Result<(), Error> {
    let Some(directory) = pins.maps() else { return Ok(()) };
    let mut missing = Vec::new();
    for map in declared {
        let path = directory.join(&map.name);
        if path.try_exists().map_err(io_error("inspect", &path))? {
            let info = MapInfo::from_pin(&path).map_err(unusable(&path))?;
            check(&info, map, &path)?;
        } else {
            missing.push(map);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    for link in names(&pins.links())? {
        rescue(&mut missing, &pins.links().join(link), &directory)?;
    }
    Ok(())
}

/// The id of the map pinned at `path`; None where there is none.
pub(in super::super) fn id_at(path: &Path) -> Result<Option<u32>, Error> {
    if !path.try_exists().map_err(io_error("inspect", path))? {
        return Ok(None);
    }
    Ok(Some(MapInfo::from_pin(path).map_err(unusable(path))?.id()))
}

/// Pins a map that is in use.
pub(in super::super) fn pin_again(id: u32, path: &Path) -> Result<(), Error> {
    let map = MapInfo::from_id(id).and_then(|info| info.fd()).map_err(unusable(path))?;
    sys::pin(map.as_fd(), path).map_err(io_error("pin the map at", path))
}

fn check(info: &MapInfo, map: &Declared, path: &Path) -> Result<(), Error> {
    let found = Shape {
        kind: info.map_type().map_err(unusable(path))? as u32,
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
        flags: info.map_flags(),
    };
    if found == map.shape {
        Ok(())
    } else {
        Err(Error::Shape { path: path.to_owned(), found, expected: map.shape })
    }
}

/// Pins those of the missing maps that the program of a pinned link uses.
fn rescue(missing: &mut Vec<&Declared>, link: &Path, directory: &Path) -> Result<(), Error> {
    let info = sys::Link::open(link).and_then(|link| link.info()).map_err(io_error("read the link", link))?;
    let programs =
        |source: aya::programs::ProgramError| io_error("find the program of", link)(io::Error::other(source));
    let mut loaded = loaded_programs().filter_map(Result::ok);
    let Some(program) = loaded.find(|program| program.id() == info.program_id) else { return Ok(()) };
    for id in program.map_ids().map_err(programs)?.unwrap_or_default() {
        let info = MapInfo::from_id(id).map_err(unusable(link))?;
        let Some(at) = missing.iter().position(|map| kernel_name(&map.name) == info.name()) else { continue };
        let map = missing.swap_remove(at);
        let path = directory.join(&map.name);
        check(&info, map, &path)?;
        pin_again(id, &path)?;
        tracing::warn!(map = map.name, "its pin was gone; pinned again, with what it holds");
    }
    Ok(())
}

fn kernel_name(name: &str) -> &[u8] {
    let name = name.as_bytes();
    name.get(..KERNEL_NAME).unwrap_or(name)
}

fn unusable(path: &Path) -> impl Fn(aya::maps::MapError) -> Error {
    let path = path.to_owned();
    move |source| Error::Map { path: path.clone(), source }
}
