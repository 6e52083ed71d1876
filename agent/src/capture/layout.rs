//! Where fields lie in the running kernel's structures, read from the types that it publishes (BTF), since they
//! differ from one kernel to the next.
//!
//! The format is that of <https://docs.kernel.org/bpf/btf.html>.

use std::{collections::HashMap, fs, io, path::Path};

/// Where the kernel publishes its types.
pub const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The name of a global of the kernel side, with the structure and field whose place it holds.
type Wanted = (&'static str, &'static str, &'static str);

const FIELDS: [Wanted; 8] = [
    ("TASK_PID", "task_struct", "pid"),
    ("BPRM_FILE", "linux_binprm", "file"),
    ("FILE_INODE", "file", "f_inode"),
    ("INODE_NUMBER", "inode", "i_ino"),
    ("INODE_SUPER", "inode", "i_sb"),
    ("SUPER_DEVICE", "super_block", "s_dev"),
    ("CGROUP_NODE", "cgroup", "kn"),
    ("NODE_ID", "kernfs_node", "id"),
];

/// Why the places are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not publish its types.
    #[error("cannot read {KERNEL_TYPES}; boot a kernel with CONFIG_DEBUG_INFO_BTF")]
    Read(#[source] io::Error),
    /// What it publishes is not in the known form.
    #[error("{KERNEL_TYPES} is not in the form of BTF version 1")]
    Malformed,
    /// A structure has no such field.
    #[error("the kernel's `struct {0}` has no field `{1}`")]
    Missing(&'static str, &'static str),
}

/// The places of all fields that the kernel side reads, each in bytes under its global's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<(&'static str, u32)>);

impl Layout {
    /// That of the running kernel.
    ///
    /// # Errors
    /// When the kernel does not tell, or has not all of the fields.
    pub fn of_kernel() -> Result<Self, Error> {
        Self::parse(&fs::read(Path::new(KERNEL_TYPES)).map_err(Error::Read)?)
    }

    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let types = Types::parse(bytes).ok_or(Error::Malformed)?;
        let offset = |(global, structure, field): Wanted| {
            types
                .offset(structure, field)
                .map(|offset| (global, offset))
                .ok_or(Error::Missing(structure, field))
        };
        FIELDS.into_iter().map(offset).collect::<Result<_, _>>().map(Self)
    }

    /// The globals of the kernel side, and what to set them to.
    pub fn globals(&self) -> &[(&'static str, u32)] {
        &self.0
    }
}

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
/// Deeper than structures without a name are nested anywhere.
const MAX_NESTING: usize = 8;

/// A structure or union: its members lie in words of three, from `members` on.
#[derive(Clone, Copy)]
struct Structure {
    members: usize,
    count: usize,
    /// Members' places hold the size of a bit field in their highest byte.
    has_bit_fields: bool,
}

struct Types<'a> {
    words: Vec<u32>,
    strings: &'a [u8],
    structures: HashMap<u32, Structure>,
    by_name: HashMap<&'a [u8], u32>,
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (magic, version) = (bytes.first_chunk::<2>()?, *bytes.get(2)?);
        if u16::from_ne_bytes(*magic) != MAGIC || version != 1 {
            return None;
        }
        let field = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
        let header = field(4)?;
        let section = |at: usize| {
            let from = header.checked_add(field(at)?)?;
            bytes.get(from..from.checked_add(field(at + 4)?)?)
        };
        let words = section(8)?.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        let strings = section(16)?;
        let mut types = Self { words, strings, structures: HashMap::new(), by_name: HashMap::new() };
        types.index()?;
        Some(types)
    }

    /// Walks all types, whose numbers are their order.
    fn index(&mut self) -> Option<()> {
        let mut at = 0;
        let mut number = 1;
        while at < self.words.len() {
            let (name, info) = (self.word(at)?, self.word(at + 1)?);
            let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            let members = at + 3;
            if kind == KIND_STRUCT || kind == KIND_UNION {
                let structure = Structure { members, count, has_bit_fields: info >> 31 != 0 };
                self.structures.insert(number, structure);
                if let Some(name) = self.string(name).filter(|name| kind == KIND_STRUCT && !name.is_empty()) {
                    self.by_name.entry(name).or_insert(number);
                }
            }
            at = members + words_after(kind, count)?;
            number += 1;
        }
        Some(())
    }

    fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        let number = *self.by_name.get(structure.as_bytes())?;
        Some(self.bits(number, field.as_bytes(), MAX_NESTING)? / 8)
    }

    /// How many bits a field lies behind the structure's beginning, looked for in nested ones without a name too.
    fn bits(&self, number: u32, field: &[u8], nesting: usize) -> Option<u32> {
        let structure = self.structures.get(&number)?;
        for index in 0..structure.count {
            let at = structure.members + 3 * index;
            let (name, of, place) = (self.string(self.word(at)?)?, self.word(at + 1)?, self.word(at + 2)?);
            let place = if structure.has_bit_fields { place & 0x00ff_ffff } else { place };
            if name == field {
                return Some(place);
            }
            if name.is_empty()
                && nesting > 0
                && let Some(within) = self.bits(of, field, nesting - 1)
            {
                return Some(place + within);
            }
        }
        None
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.words.get(at).copied()
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        self.strings.get(offset as usize..)?.split(|byte| *byte == 0).next()
    }
}

/// How many words follow the three of every type.
fn words_after(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Pointers, arrays' and functions' kin that name one other type in their three words.
        2 | 7..=12 | 16 | 18 => 0,
        // An integer's form, a variable's linkage, the component that a tag is for.
        1 | 14 | 17 => 1,
        3 => 3,
        KIND_STRUCT | KIND_UNION | 15 | 19 => 3 * count,
        6 | 13 => 2 * count,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types as the kernel writes them: an integer, `struct inner` without a name, and `struct task_struct`.
    fn made_up() -> Vec<u8> {
        let strings = b"\0int\0task_struct\0state\0pid\0flags\0";
        let at = |name: &str| {
            let name = [b"\0", name.as_bytes(), b"\0"].concat();
            let place = strings.windows(name.len()).position(|window| window == name).unwrap();
            u32::try_from(place + 1).unwrap()
        };
        let words = [
            // 1: int
            vec![at("int"), 1 << 24, 4, 32],
            // 2: struct { int flags : 3 (at bit 0); int pid; }
            vec![0, 1 << 31 | 4 << 24 | 2, 8, at("flags"), 1, 3 << 24, at("pid"), 1, 32],
            // 3: struct task_struct { int state; struct { … }; }
            vec![at("task_struct"), 4 << 24 | 2, 12, at("state"), 1, 0, 0, 2, 32],
        ]
        .concat();
        let types: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let header = [24, 0, length(&types), length(&types), length(strings)];
        let mut bytes = [&MAGIC.to_ne_bytes()[..], &[1, 0]].concat();
        bytes.extend(header.iter().flat_map(|word: &u32| word.to_ne_bytes()));
        bytes.extend(types);
        bytes.extend_from_slice(strings);
        bytes
    }

    #[test]
    fn a_field_is_found_in_a_nested_structure_without_a_name() {
        let bytes = made_up();
        let types = Types::parse(&bytes).unwrap();
        assert_eq!(types.offset("task_struct", "state"), Some(0));
        assert_eq!(types.offset("task_struct", "flags"), Some(4));
        assert_eq!(types.offset("task_struct", "pid"), Some(8));
        assert_eq!(types.offset("task_struct", "none"), None);
        assert_eq!(types.offset("none", "pid"), None);
    }

    #[test]
    fn half_a_file_is_refused_without_harm() {
        let bytes = made_up();
        for length in 0..bytes.len() {
            let _unknown = Layout::parse(&bytes[..length]).unwrap_err();
        }
    }

    #[test]
    fn the_running_kernel_has_every_field() {
        let layout = Layout::of_kernel().unwrap();
        assert_eq!(layout.globals().len(), FIELDS.len());
        let place = |global| layout.globals().iter().find(|(name, _)| *name == global).unwrap().1;
        assert!(place("TASK_PID") > 0 && place("TASK_PID") < 16_384);
    }
}
