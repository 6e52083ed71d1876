//! The one redactor that every string of a record or log passes, and the escaping of what a person reads.
//!
//! It looks for DigitalOcean's tokens, for the credentials of an `authorization` value, and for base64 that holds a token;
//! in the text itself and in what its percent-encoding stands for.

use super::{fingerprint::Fingerprinter, token};
use std::{borrow::Cow, ops::Range};

/// Replaces secrets by their fingerprints.
#[derive(Clone, Debug)]
pub struct Redactor {
    fingerprinter: Fingerprinter,
}

/// A secret, where it stands in the original text, and what stands there instead.
struct Secret {
    range: Range<usize>,
    instead: String,
}

/// Shorter base64 cannot hold a token (7 + 64 bytes).
const MIN_ENCODED_TOKEN_LEN: usize = 88;
/// Shorter words behind `bearer` are prose.
const MIN_BEARER_LEN: usize = 20;
/// Percent-encoding is undone at most so often; nothing real encodes more than twice.
const MAX_DECODINGS: usize = 3;

impl Redactor {
    /// With the fingerprints of this value.
    pub fn new(fingerprinter: Fingerprinter) -> Self {
        Self { fingerprinter }
    }

    /// The text with each token as `dop_v1_[redacted:<fingerprint>]` (its own type) and other credentials as
    /// `[redacted:<fingerprint>]`.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !may_hold_secret(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        self.searched(text)
    }

    fn searched<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut secrets = self.secrets(&View::of(text.as_bytes()));
        for escapes in [Escapes::All, Escapes::NoneEndingInD] {
            let mut view = View::of(text.as_bytes());
            for _ in 0..MAX_DECODINGS {
                let Some(decoded) = view.percent_decoded(escapes) else { break };
                view = decoded;
                secrets.extend(self.secrets(&view));
            }
        }
        if secrets.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(replaced(text, secrets)) }
    }

    fn secrets(&self, view: &View<'_>) -> Vec<Secret> {
        let tokens = token::find_all(&view.bytes).into_iter().map(|found| {
            let range = found.range.clone();
            (range, self.token_instead(&view.bytes, found))
        });
        let encoded = runs(&view.bytes, MIN_ENCODED_TOKEN_LEN).filter_map(|run| {
            let text = view.bytes.get(run.clone()).unwrap_or_default();
            // The run may begin before the base64 does, with a path's slash for one, so try every alignment.
            (0..4).find_map(|skip| {
                let decoded = token::from_base64(text.get(skip..)?);
                let found = token::find_all(&decoded).pop()?;
                Some((run.clone(), self.token_instead(&decoded, found)))
            })
        });
        let credentials = self.credentials(&view.bytes);
        tokens
            .chain(encoded)
            .chain(credentials)
            .map(|(range, instead)| Secret { range: view.original(range), instead })
            .collect()
    }

    fn token_instead(&self, text: &[u8], found: token::Token) -> String {
        let token = text.get(found.range).unwrap_or_default();
        let prefix = token.get(..found.prefix_len).unwrap_or_default();
        format!("{}{}", String::from_utf8_lossy(prefix), self.redacted(token))
    }

    /// The credentials behind the word `bearer` or `basic`.
    fn credentials(&self, text: &[u8]) -> Vec<(Range<usize>, String)> {
        let mut found = Vec::new();
        for run in runs(text, 1) {
            let credentials = text.get(run.clone()).unwrap_or_default();
            let before = text.get(..run.start).unwrap_or_default();
            let word = before.trim_ascii_end();
            let is_behind = |scheme: &[u8]| {
                word.len() < before.len()
                    && word
                        .len()
                        .checked_sub(scheme.len())
                        .and_then(|start| word.get(start..))
                        .is_some_and(|end| end.eq_ignore_ascii_case(scheme))
            };
            let is_secret = if is_behind(b"bearer") {
                credentials.len() >= MIN_BEARER_LEN && credentials.iter().any(u8::is_ascii_digit)
            } else {
                is_behind(b"basic") && token::from_base64(credentials).contains(&b':')
            };
            if is_secret {
                found.push((run, self.redacted(credentials)));
            }
        }
        found
    }

    fn redacted(&self, secret: &[u8]) -> String {
        format!("[redacted:{}]", self.fingerprinter.fingerprint(secret))
    }
}

/// Whether a search can find anything: a token's `_v`, the end of a scheme's word, an escape, or enough base64. Nearly
/// every string of a record has none of these.
fn may_hold_secret(text: &[u8]) -> bool {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c');
    let behind = text.get(1..).unwrap_or_default();
    // Without an early end the compiler looks at many bytes at once.
    let may_tell = text.iter().zip(behind).fold(false, |found, (&first, &second)| {
        let is_token = (first == b'_') & matches!(second, b'v' | b'V');
        let is_scheme = matches!(first, b'r' | b'R' | b'c' | b'C') & is_space(second);
        found | (second == b'%') | is_token | is_scheme
    });
    text.starts_with(b"%")
        || may_tell
        || text.len() >= MIN_ENCODED_TOKEN_LEN && runs(text, MIN_ENCODED_TOKEN_LEN).next().is_some()
}

/// Escapes what would steer a terminal or reorder a line: control characters and those of bidirectional text.
pub fn escape_control(text: &str) -> Cow<'_, str> {
    if !text.contains(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if is_steering(char) { escaped.extend(char.escape_unicode()) } else { escaped.push(char) }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal may do something else with this character than show it. All of them are below U+10000.
pub(super) fn is_steering(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The runs of at least `min_len` characters of base64.
fn runs(text: &[u8], min_len: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    text.split(|&byte| token::base64_value(byte).is_none())
        .map(move |run| {
            let range = start..start + run.len();
            start = range.end + 1;
            range
        })
        .filter(move |range| range.len() >= min_len)
}

fn replaced(text: &str, mut secrets: Vec<Secret>) -> String {
    // Of two secrets that begin together the longer one goes first, and swallows the other.
    secrets.sort_by_key(|secret| (secret.range.start, usize::MAX - secret.range.end));
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for Secret { range, instead } in secrets {
        if range.end <= copied {
            continue;
        }
        out.push_str(text.get(copied..range.start).unwrap_or_default());
        out.push_str(&instead);
        copied = range.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// A text, maybe decoded, and where each of its bytes begins in the original.
struct View<'a> {
    bytes: Cow<'a, [u8]>,
    /// Empty while the bytes are the original's; else one entry more than there are bytes.
    starts: Vec<usize>,
}

impl<'a> View<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes: Cow::Borrowed(bytes), starts: Vec::new() }
    }

    fn start(&self, at: usize) -> usize {
        if self.starts.is_empty() { at } else { self.starts.get(at).copied().unwrap_or_default() }
    }

    fn original(&self, range: Range<usize>) -> Range<usize> {
        self.start(range.start)..self.start(range.end)
    }

    /// The view with one level of percent-encoding undone; none if there is no encoding in it.
    fn percent_decoded(&self, escapes: Escapes) -> Option<View<'a>> {
        if !self.bytes.contains(&b'%') {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut starts = Vec::with_capacity(self.bytes.len() + 1);
        let mut at = 0;
        while let Some(&byte) = self.bytes.get(at) {
            starts.push(self.start(at));
            let decoded = self.bytes.get(at..).and_then(|text| percent_encoded(text, escapes));
            bytes.push(decoded.unwrap_or(byte));
            at += if decoded.is_some() { 3 } else { 1 };
        }
        starts.push(self.start(at));
        (bytes.len() < self.bytes.len()).then_some(View { bytes: Cow::Owned(bytes), starts })
    }
}

/// Which escapes are undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    All,
    /// No letter of a token is written by one whose last digit is `d`; that `d` may be a token's first.
    NoneEndingInD,
}

fn percent_encoded(text: &[u8], escapes: Escapes) -> Option<u8> {
    let &[b'%', high, low] = text.first_chunk()? else { return None };
    if escapes == Escapes::NoneEndingInD && low.eq_ignore_ascii_case(&b'd') {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests;
