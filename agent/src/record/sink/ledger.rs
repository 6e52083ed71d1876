//! A file with this writer's chain, and the lines that wait to be written to it at once.

use super::{file::LogFile, rotation::Rotation};
use crate::record::{chain::Head, unfinished::Begun};
use std::io;

/// As much as waits; more is written at once.
const MAX_WAITING: usize = 64 * 1024;

/// The file and the chain.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) file: LogFile,
    pub(super) chain: Head,
    /// Whether the file has a line of the chain.
    pub(super) is_begun: bool,
    /// How many records stand behind the last checkpoint.
    pub(super) unsigned: u64,
    pub(super) rotation: Rotation,
    pub(super) waiting: Waiting,
}

/// Lines of reads, which need not be in the log before anything else happens. They are sealed when they are written, so
/// that the chain goes on only from what stands in the file.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
    /// One a line: were the process killed, the next start would tell how many are lost.
    begun: Vec<Begun>,
}

/// What is to be done about the lines that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Somebody has to see to it that they are written soon.
    Soon,
    /// Somebody does already.
    SeenTo,
    Now,
}

impl Waiting {
    pub(super) fn push(&mut self, line: &[u8], begun: Begun) -> Due {
        let is_first = self.begun.is_empty();
        self.lines.extend_from_slice(line);
        self.ends.push(self.lines.len());
        self.begun.push(begun);
        match (self.lines.len() >= MAX_WAITING, is_first) {
            (true, _) => Due::Now,
            (false, true) => Due::Soon,
            (false, false) => Due::SeenTo,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.begun.len()
    }

    /// Room for the next ones.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.ends.clear();
        self.begun.clear();
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts.zip(&self.ends).filter_map(|(start, end)| self.lines.get(start..*end))
    }
}

impl Ledger {
    /// The chain goes on only from what stands in the file.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let (sealed, next) = self.chain.seal(line);
        self.file.append(&sealed)?;
        self.chain = next;
        Ok(())
    }

    /// Appends what waits, as far as there is room, and answers how many lines that are. What waits stays what it is.
    pub(super) fn append_waiting(&mut self) -> (usize, io::Result<()>) {
        // A line alone is written again where another writer's death has spoilt it.
        if self.waiting.len() == 1 {
            let lines = std::mem::take(&mut self.waiting.lines);
            let result = self.append(&lines);
            self.waiting.lines = lines;
            return (usize::from(result.is_ok()), result);
        }
        let mut next = self.chain.clone();
        let (mut sealed, mut heads) = (Vec::with_capacity(2 * self.waiting.lines.len()), Vec::new());
        for line in self.waiting.lines() {
            next.seal_onto(&mut sealed, line);
            heads.push((sealed.len(), next.sequence, next.hash));
        }
        let (stands, result) = self.file.append_all(&sealed);
        let whole = heads.partition_point(|(end, ..)| *end <= stands);
        if let Some((_, sequence, hash)) = whole.checked_sub(1).and_then(|last| heads.get(last)) {
            (self.chain.sequence, self.chain.hash) = (*sequence, *hash);
        }
        (whole, result)
    }
}
