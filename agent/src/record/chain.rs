//! The hash chain of one writer: every line names the one before it, so that none can be altered, removed or moved
//! without the next one showing it.
//!
//! ```text
//! {…,"tidegate.chain.id":"4f…","tidegate.chain.seq":7,"tidegate.chain.hash":"9c…"}
//! hash = SHA-256(hash of the writer's line before ‖ this line up to the key of its hash)
//! ```
//!
//! Several writers may share a file: each has a chain of its own, and the lines of all may stand between each other's.

use super::hex;
use aws_lc_rs::{
    digest::{Context, SHA256},
    rand,
};
use serde::{Deserialize, Serialize};

/// A chain's own name, of 64 random bits.
pub(super) const ID_LENGTH: usize = 16;

/// What stands before a chain's name.
const ID_KEY: &str = ",\"tidegate.chain.id\":\"";
/// What stands before the line's number.
const SEQUENCE_KEY: &str = "\",\"tidegate.chain.seq\":";
/// What stands before the hash, which is the line's last value.
const HASH_KEY: &str = ",\"tidegate.chain.hash\":\"";
const END: &str = "\"}";
/// As much as a seal adds to a line, or a little less.
const SEAL_LENGTH: usize = 160;

/// A SHA-256.
pub type Hash = [u8; 32];

/// Where a chain is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Head {
    /// Whose chain it is.
    pub id: String,
    /// The last line's number; the first has 1.
    pub sequence: u64,
    /// Its hash; of a chain without lines, zeros.
    pub hash: Hash,
}

impl Head {
    /// A chain without lines.
    pub(super) fn begin() -> Result<Self, super::RandomUnavailable> {
        let mut id = [0; ID_LENGTH / 2];
        rand::fill(&mut id).map_err(|_| super::RandomUnavailable)?;
        Ok(Self { id: hex(&id), sequence: 0, hash: Hash::default() })
    }

    /// The object in `line` with its place in the chain, as a line; and where the chain is once that is written.
    pub(super) fn seal(&self, line: &[u8]) -> (Vec<u8>, Self) {
        let mut sealed = Vec::with_capacity(line.len() + SEAL_LENGTH);
        let mut head = self.clone();
        head.seal_onto(&mut sealed, line);
        (sealed, head)
    }

    /// As [`Self::seal`], behind other lines, with the chain going on as if that were written.
    pub(super) fn seal_onto(&mut self, lines: &mut Vec<u8>, line: &[u8]) {
        let object = line.strip_suffix(b"\n").unwrap_or(line);
        let open = object.strip_suffix(b"}").unwrap_or(object);
        let start = lines.len();
        lines.extend_from_slice(open);
        self.sequence += 1;
        let place = [ID_KEY, &self.id, SEQUENCE_KEY, &self.sequence.to_string()];
        place.iter().for_each(|part| lines.extend_from_slice(part.as_bytes()));
        self.hash = link(&self.hash, lines.get(start..).unwrap_or_default());
        for part in [HASH_KEY, &hex(&self.hash), END, "\n"] {
            lines.extend_from_slice(part.as_bytes());
        }
    }
}

/// A line's place in its chain, as the line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal<'l> {
    pub(super) head: Head,
    /// What the hash is of, besides the hash before.
    covered: &'l [u8],
}

#[derive(Deserialize)]
struct Place {
    #[serde(rename = "tidegate.chain.id")]
    id: String,
    #[serde(rename = "tidegate.chain.seq")]
    sequence: u64,
}

impl<'l> Seal<'l> {
    /// None where the line is no JSON, or not sealed.
    pub(super) fn of(line: &'l [u8]) -> Option<Self> {
        let Place { id, sequence } = serde_json::from_slice(line).ok()?;
        let rest = line.strip_suffix(END.as_bytes())?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(2 * size_of::<Hash>())?)?;
        let covered = rest.strip_suffix(HASH_KEY.as_bytes())?;
        Some(Self { head: Head { id, sequence, hash: hash_of_hex(digits)? }, covered })
    }

    /// Whether the line stands behind one with this hash, as it was written.
    pub(super) fn follows(&self, before: &Hash) -> bool {
        link(before, self.covered) == self.head.hash
    }
}

fn link(before: &Hash, covered: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(covered);
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The hash that 64 hexadecimal digits write.
pub(super) fn hash_of_hex(digits: &[u8]) -> Option<Hash> {
    let digits = std::str::from_utf8(digits).ok()?;
    let mut hash = Hash::default();
    let is_lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 2 * hash.len() || !digits.bytes().all(is_lower) {
        return None;
    }
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trimmed(line: &[u8]) -> &[u8] {
        line.strip_suffix(b"\n").unwrap()
    }

    #[test]
    fn each_line_follows_the_one_before_and_no_other() {
        let start = Head::begin().unwrap();
        let (first, one) = start.seal(b"{\"a\":1}\n");
        let (second, two) = one.seal(b"{\"a\":1}\n");
        let (first, second) = (Seal::of(trimmed(&first)).unwrap(), Seal::of(trimmed(&second)).unwrap());
        assert_eq!((&first.head, &second.head), (&one, &two));
        assert_eq!((one.sequence, two.sequence), (1, 2));
        assert!(first.follows(&start.hash) && second.follows(&one.hash));
        assert!(!second.follows(&start.hash) && !first.follows(&two.hash));
    }

    #[test]
    fn a_sealed_line_is_still_one_json_object() {
        let (line, _) = Head::begin().unwrap().seal(b"{\"a\":\"}\"}\n");
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((value["a"].as_str(), value["tidegate.chain.seq"].as_u64()), (Some("}"), Some(1)));
    }

    #[test]
    fn a_byte_that_is_changed_anywhere_is_seen() {
        let start = Head::begin().unwrap();
        let (line, _) = start.seal(br#"{"tidegate.reason":"missing_scope","n":12}"#);
        let line = trimmed(&line);
        for at in 0..line.len() {
            let mut changed = line.to_vec();
            changed[at] ^= 1;
            let is_whole = Seal::of(&changed).is_some_and(|seal| seal.follows(&start.hash));
            assert!(!is_whole, "{}", String::from_utf8_lossy(&changed));
        }
    }

    #[test]
    fn a_prefix_of_a_line_is_none() {
        let (line, _) = Head::begin().unwrap().seal(b"{\"a\":1}");
        let line = trimmed(&line);
        assert!((0..line.len()).all(|end| Seal::of(&line[..end]).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Seal::of(&line);
        }
    }
}
