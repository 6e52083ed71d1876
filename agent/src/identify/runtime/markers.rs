//! Words in a program's constants that give away what it is made of.

use super::elf::{Elf, Range, ReadAt, some_bytes};

/// How much of a file is looked through: enough for the largest runtimes that carry markers.
const BUDGET: u64 = 64 << 20;
/// How much of it is in memory at once.
const CHUNK: usize = 1 << 20;

/// What a word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A part of Deno that no other program has a use for.
    Deno,
    /// The same of Bun.
    Bun,
    /// The same of Node.
    Node,
    /// What every program that Go has linked begins its description with.
    Go,
    /// Where the Rust compiler had its standard library.
    Rust,
    /// A message of rustls.
    Rustls,
    /// OpenSSL's own name for its directory.
    OpenSsl,
    /// The variable by which OpenSSL, Go, and Rust's native roots are told of certificates.
    CertificateVariable,
    /// The name of a public root, of which a few tell that the program carries all of them.
    Root(u8),
    /// The first line of a public root's PEM.
    PemRoot,
}

/// So many names of roots are no accident: programs name one or two where they test or pin.
const FEW: usize = 3;

/// Each word has a `~` in it that is not the word's, so that this program itself does not hold what it looks for.
const WORDS: [(&[u8], Marker); 14] = [
    (b"ext:core~/mod.js", Marker::Deno),
    (b"BUN_INSTALL~_CACHE_DIR", Marker::Bun),
    (b"NODE_REPL~_HISTORY", Marker::Node),
    (b"\xff Go ~buildinf:", Marker::Go),
    (b"/rus~tc/", Marker::Rust),
    (b"invalid peer~ certificate", Marker::Rustls),
    (b"OPENSSL~DIR: ", Marker::OpenSsl),
    (b"SSL_CERT~_FILE", Marker::CertificateVariable),
    (b"ISRG Root~ X1", Marker::Root(0)),
    (b"DigiCert Global~ Root G2", Marker::Root(1)),
    (b"GTS Root~ R1", Marker::Root(2)),
    (b"USERTrust RSA~ Certification Authority", Marker::Root(3)),
    (b"Amazon Root~ CA 1", Marker::Root(4)),
    (b"MIIFazCCA1OgAwIBAgIRAIIQz7DSQONZRGPgu2OC~iwAwDQYJKoZIhvcNAQELBQAw", Marker::PemRoot),
];

/// The markers that a program has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markers(Vec<Marker>);

impl Markers {
    /// Looks through the program's constants.
    pub fn find(file: &(impl ReadAt + ?Sized), elf: &Elf) -> Self {
        let mut search = Search::new();
        let longest = search.words.iter().map(|(word, _)| word.len()).max().unwrap_or_default();
        let mut budget = BUDGET;
        for Range { offset, length } in &elf.data {
            let length = (*length).min(budget);
            budget -= length;
            let mut at = 0;
            while at < length {
                let take = usize::try_from(length - at).unwrap_or(CHUNK).min(CHUNK);
                let chunk = some_bytes(file, offset.saturating_add(at), take);
                search.look(&chunk);
                // The rest says nothing more of a program of Go's, and is large.
                if search.found.contains(&Marker::Go) {
                    return Self(search.found);
                }
                if chunk.len() < take || take < CHUNK {
                    break;
                }
                // A word may lie across the border.
                at += (CHUNK - longest) as u64;
            }
        }
        Self(search.found)
    }

    /// Whether it has this one.
    pub fn has(&self, marker: Marker) -> bool {
        self.0.contains(&marker)
    }

    /// Whether it carries public roots of its own.
    pub fn has_roots(&self) -> bool {
        let named = self.0.iter().filter(|marker| matches!(marker, Marker::Root(_))).count();
        named >= FEW || self.has(Marker::PemRoot)
    }

    /// These, for tests of what is made of them.
    #[cfg(test)]
    pub(super) fn of(markers: &[Marker]) -> Self {
        Self(markers.to_vec())
    }
}

/// All words at once, since reading on is most of the work.
struct Search {
    words: Vec<(Vec<u8>, Marker)>,
    /// Which of the words begin with a byte: bit N stands for word N.
    beginning: [u16; 256],
    found: Vec<Marker>,
}

impl Search {
    fn new() -> Self {
        let word = |word: &[u8]| word.iter().copied().filter(|byte| *byte != b'~').collect();
        let words: Vec<(Vec<u8>, Marker)> =
            WORDS.iter().map(|(text, marker)| (word(text), *marker)).collect();
        let mut beginning = [0; 256];
        for (number, (word, _)) in words.iter().enumerate() {
            let first = word.first().and_then(|first| beginning.get_mut(usize::from(*first)));
            if let Some(words) = first {
                *words |= 1 << number;
            }
        }
        Self { words, beginning, found: Vec::new() }
    }

    fn look(&mut self, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            let candidates = self.beginning.get(usize::from(*byte)).copied().unwrap_or_default();
            if candidates == 0 {
                continue;
            }
            let here = bytes.get(at..).unwrap_or_default();
            for (number, (word, marker)) in self.words.iter().enumerate() {
                if candidates & (1 << number) != 0 && here.starts_with(word) {
                    self.found.push(*marker);
                    // It need not be found again.
                    if let Some(words) = self.beginning.get_mut(usize::from(*byte)) {
                        *words &= !(1 << number);
                    }
                }
            }
        }
    }
}
