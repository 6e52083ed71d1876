//! Looks into the maps that a daemon has pinned.

use anyhow::Result;
use aya::maps::{HashMap, Map, MapData};
use tidegate_ebpf_common::{LAYOUT, maps};

/// How many entries a map has that is pinned where this process sees it.
pub(crate) fn entries(agent: u32, name: &str) -> Result<usize> {
    let path = format!("/proc/{agent}/root/sys/fs/bpf/tidegate/v{LAYOUT}/maps/{name}");
    let map = Map::HashMap(MapData::from_pin(path)?);
    // Only the number of entries counts, so that their bytes need no names.
    Ok(match name {
        maps::ORIGINALS => HashMap::<_, u64, [u8; 96]>::try_from(map)?.keys().count(),
        maps::EXEMPT => HashMap::<_, u64, u32>::try_from(map)?.keys().count(),
        _ => HashMap::<_, [u8; 32], [u8; 96]>::try_from(map)?.keys().count(),
    })
}
