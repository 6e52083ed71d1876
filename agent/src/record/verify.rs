//! Whether an audit log is as it was written: no record altered, removed, repeated or moved.
//!
//! Every writer's lines are a chain of their own, read by [`super::chain`]. What cannot be seen: that records are cut off
//! the end of a chain whose head nobody keeps, and that a whole log was replaced where it is not signed.

use super::{
    chain::{Head, Seal, hash_of_hex},
    signer::{PublicKey, Signed, SignedHead},
    sink::{CHECKPOINT, Checkpoint},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, BufRead, Read as _},
    path::{Path, PathBuf},
};

/// A longer line is no record.
const MAX_LINE: u64 = 16 << 20;

/// What was found in the files of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The key that signatures were verified with.
    pub key: Option<String>,
    /// Whole records, checkpoints not counted.
    pub records: u64,
    /// Writers.
    pub chains: usize,
    /// Signatures that are right.
    pub signatures: u64,
    /// Records behind the last signature of their chains: whoever can write the log could have altered them.
    pub unsigned: u64,
    /// Chains that begin in files which are not among these.
    pub earlier: Vec<Earlier>,
    /// Lines without an end or in pieces, of which no chain has anything: their writers were killed, or the disk was full.
    pub torn: Vec<Place>,
    /// What is wrong, in the order of the files.
    pub problems: Vec<Problem>,
}

/// What a chain has in files that were not read: the oldest are removed in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Earlier {
    /// The chain.
    pub chain: String,
    /// The last record that is elsewhere.
    pub last: u64,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it was noticed.
    pub place: Place,
    /// The chain; none where the line is in none.
    pub chain: Option<String>,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The record, or the one before it, is not what was written.
    Altered {
        /// Its number in the chain.
        sequence: u64,
    },
    /// Records are not there.
    Removed {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// The newest records are not there.
    CutOff {
        /// The first.
        first: u64,
        /// The last that was signed.
        last: u64,
    },
    /// Records stand elsewhere than they were written.
    Reordered {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A record stands there again.
    Repeated {
        /// Its number.
        sequence: u64,
    },
    /// A record of no writer.
    Unsealed,
    /// A chain's first line here does not say where it goes on.
    Headless {
        /// The number of that line.
        sequence: u64,
    },
    /// A signature is wrong.
    WrongSignature {
        /// The signed record's number.
        sequence: u64,
    },
    /// A checkpoint has no signature of this key.
    NotSigned {
        /// Who signed it, if anybody.
        by: Option<String>,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match &self.fault {
            Fault::Altered { sequence } => write!(f, "record {sequence} or the one before it was altered")?,
            Fault::Removed { first, last } => {
                write!(f, "{} removed before this line", records(*first, *last))?
            }
            Fault::CutOff { first, last } => write!(f, "{} cut off the end", records(*first, *last))?,
            Fault::Reordered { first, last } => {
                write!(f, "{} moved: {} behind this line", records(*first, *last), stands(*first, *last))?;
            }
            Fault::Repeated { sequence } => write!(f, "record {sequence} stands here again")?,
            Fault::Unsealed => write!(f, "a record that no tidegate has written")?,
            Fault::Headless { sequence } => {
                write!(f, "the chain begins with record {sequence}: what stood before was removed")?;
            }
            Fault::WrongSignature { sequence } => write!(f, "the signature of record {sequence} is wrong")?,
            Fault::NotSigned { by: None } => write!(f, "a checkpoint that is not signed")?,
            Fault::NotSigned { by: Some(key) } => write!(f, "a checkpoint signed by another key, {key}")?,
        }
        match &self.chain {
            Some(chain) => write!(f, " (chain {chain})"),
            None => Ok(()),
        }
    }
}

fn records(first: u64, last: u64) -> String {
    if first == last { format!("record {first} was") } else { format!("records {first} to {last} were") }
}

fn stands(first: u64, last: u64) -> &'static str {
    if first == last { "it stands" } else { "they stand" }
}

/// Reads a log's files, the oldest first.
#[derive(Debug)]
pub struct Verifier {
    key: Option<PublicKey>,
    chains: BTreeMap<String, Chain>,
    report: Report,
    /// Records that are missing, by the number of the problem that says so; they may stand further on.
    gaps: Vec<Gap>,
    expected: Option<SignedHead>,
}

#[derive(Debug)]
struct Chain {
    head: Head,
    unsigned: u64,
}

#[derive(Debug)]
struct Gap {
    problem: usize,
    chain: String,
    missing: BTreeSet<u64>,
}

/// A gap that is longer is not looked for further on.
const MAX_GAP: u64 = 100_000;

#[derive(Deserialize)]
struct Phase {
    #[serde(rename = "tidegate.phase")]
    phase: String,
}

impl Verifier {
    /// With a key, every chain must be signed by it.
    pub fn new(key: Option<PublicKey>) -> Self {
        Self { key, chains: BTreeMap::new(), report: Report::default(), gaps: Vec::new(), expected: None }
    }

    /// Expects that the log goes at least as far as its agent has signed.
    pub fn expect(&mut self, head: SignedHead) {
        self.expected = Some(head);
    }

    /// Reads the next file.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub fn read(&mut self, file: &Path, mut reader: impl BufRead) -> io::Result<()> {
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut text)? == 0 {
                break;
            }
            let place = || Place { file: file.to_owned(), line };
            let Some(whole) = text.strip_suffix(b"\n") else {
                self.report.torn.push(place());
                continue;
            };
            if whole.is_empty() {
                continue;
            }
            match Seal::of(whole) {
                Some(seal) => self.sealed(&seal, whole, &place),
                None if serde_json::from_slice::<serde_json::Value>(whole).is_ok() => {
                    self.problem(place(), None, Fault::Unsealed);
                }
                None => self.report.torn.push(place()),
            }
        }
        Ok(())
    }

    /// What was found.
    pub fn finish(mut self) -> Report {
        for gap in &self.gaps {
            if let Some(problem) = self.report.problems.get_mut(gap.problem)
                && gap.missing.is_empty()
                && let Fault::Removed { first, last } = problem.fault
            {
                problem.fault = Fault::Reordered { first, last };
            }
        }
        if let Some(SignedHead { path, signed, signature }) = self.expected.take() {
            let head = &signed.head;
            let seen = self.chains.get(&head.id).map_or(0, |chain| chain.head.sequence);
            let is_signed = self.key.is_some_and(|key| key.verifies(&signed, &signature));
            let fault = match is_signed {
                true if seen < head.sequence => Some(Fault::CutOff { first: seen + 1, last: head.sequence }),
                true => None,
                false => Some(Fault::WrongSignature { sequence: head.sequence }),
            };
            let place = Place { file: path, line: 0 };
            fault.into_iter().for_each(|fault| self.problem(place.clone(), Some(&head.id), fault));
        }
        self.report.key = self.key.map(|key| key.short());
        self.report.chains = self.chains.len();
        self.report.unsigned = self.chains.values().map(|chain| chain.unsigned).sum();
        self.report
    }

    fn problem(&mut self, place: Place, chain: Option<&str>, fault: Fault) {
        self.report.problems.push(Problem { place, chain: chain.map(str::to_owned), fault });
    }

    fn sealed(&mut self, seal: &Seal<'_>, line: &[u8], place: &impl Fn() -> Place) {
        let Head { id, sequence, .. } = &seal.head;
        let phase = serde_json::from_slice::<Phase>(line).map(|line| line.phase);
        let checkpoint = if phase.is_ok_and(|phase| phase == CHECKPOINT) {
            serde_json::from_slice::<Checkpoint>(line).ok()
        } else {
            self.report.records += 1;
            None
        };
        let Some(before) = self.before(seal, checkpoint.as_ref(), place) else { return };
        if !seal.follows(&before.hash) {
            self.problem(place(), Some(id), Fault::Altered { sequence: *sequence });
        }
        let is_signed = checkpoint.is_some_and(|checkpoint| self.check(&checkpoint, &before, place));
        let unsigned = self.chains.get(id).map_or(0, |chain| chain.unsigned);
        let unsigned = if is_signed { 0 } else { unsigned + 1 };
        self.chains.insert(id.clone(), Chain { head: seal.head.clone(), unsigned });
    }

    /// What stood before the line in its chain; None where the line has been there, or must not count.
    fn before(
        &mut self,
        seal: &Seal<'_>,
        checkpoint: Option<&Checkpoint>,
        place: &impl Fn() -> Place,
    ) -> Option<Head> {
        let Head { id, sequence, .. } = &seal.head;
        let expected = self.chains.get(id).map(|chain| chain.head.clone());
        let said = checkpoint.and_then(|checkpoint| hash_of_hex(checkpoint.before.as_bytes()));
        let said = said.map(|hash| Head { id: id.clone(), sequence: sequence.saturating_sub(1), hash });
        match expected {
            Some(head) if *sequence == head.sequence + 1 => Some(head),
            Some(head) if *sequence > head.sequence => {
                let (first, last) = (head.sequence + 1, sequence - 1);
                let problem = self.report.problems.len();
                self.problem(place(), Some(id), Fault::Removed { first, last });
                if last - first < MAX_GAP {
                    self.gaps.push(Gap { problem, chain: id.clone(), missing: (first..=last).collect() });
                }
                // What the line follows is not there, so that nothing can be said of it but by itself.
                let trusted = said.filter(|said| seal.follows(&said.hash));
                if trusted.is_none() {
                    self.chains.insert(id.clone(), Chain { head: seal.head.clone(), unsigned: 0 });
                }
                trusted
            }
            Some(_) => {
                let moved =
                    self.gaps.iter_mut().find(|gap| gap.chain == *id && gap.missing.contains(sequence));
                match moved {
                    Some(gap) => {
                        gap.missing.remove(sequence);
                    }
                    None => self.problem(place(), Some(id), Fault::Repeated { sequence: *sequence }),
                }
                None
            }
            None => {
                if let Some(after) = checkpoint.and_then(|checkpoint| checkpoint.after.as_deref()) {
                    self.check_after(after, place);
                }
                // Only where a chain goes on in a new file can it have a part elsewhere.
                let opens = checkpoint.is_some_and(|checkpoint| checkpoint.opens);
                let said = said.filter(|_| opens);
                if let Some(said) = said.as_ref().filter(|said| said.sequence > 0) {
                    self.report.earlier.push(Earlier { chain: id.clone(), last: said.sequence });
                }
                if said.is_none() {
                    self.problem(place(), Some(id), Fault::Headless { sequence: *sequence });
                    self.chains.insert(id.clone(), Chain { head: seal.head.clone(), unsigned: 1 });
                }
                said
            }
        }
    }

    /// Another chain must have come as far as the first line of this one says.
    fn check_after(&mut self, after: &str, place: &impl Fn() -> Place) {
        let Some((id, last)) = after.split_once(':') else { return };
        let Ok(last) = last.parse::<u64>() else { return };
        let seen = self.chains.get(id).map_or(0, |chain| chain.head.sequence);
        if seen < last {
            self.problem(place(), Some(id), Fault::Removed { first: seen + 1, last });
        }
    }

    /// Whether the checkpoint is signed as it should be.
    fn check(&mut self, checkpoint: &Checkpoint, signed: &Head, place: &impl Fn() -> Place) -> bool {
        let Some(key) = self.key else { return checkpoint.signature.is_some() };
        let by = checkpoint.key.clone();
        let fault = match &checkpoint.signature {
            Some(signature) if by.as_deref() == Some(&*key.short()) => {
                let opens = checkpoint.opens;
                if key.verifies(&Signed { head: signed.clone(), opens }, signature) {
                    self.report.signatures += 1;
                    return true;
                }
                Fault::WrongSignature { sequence: signed.sequence }
            }
            Some(_) => Fault::NotSigned { by },
            None => Fault::NotSigned { by: None },
        };
        self.problem(place(), Some(&signed.id), fault);
        false
    }
}

#[cfg(test)]
mod tests;
