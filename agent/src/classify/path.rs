//! Canonical paths: the one spelling of a path that every reader understands alike.
//!
//! A path that another reader could take for a different one is refused, and what is accepted goes to the upstream
//! byte for byte. One thing is normalised: a single `/` at the end, which client libraries add (python-digitalocean
//! asks for `/v2/account/`) and the API ignores, is left off, so that the upstream sees the path that was judged.

use std::{borrow::Cow, fmt, iter};

/// A path in canonical form, without query: a part of the one that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath<'r>(&'r str);

/// Why a path is not canonical.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// It is empty, `*` or a relative path.
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// `//`, in plain or inside a segment with encoded slashes.
    #[error("the path has an empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..`.
    #[error("the path has the segment `{0}`")]
    DotSegment(String),
    /// A character that must not stand in a path unescaped, or that starts path parameters.
    #[error("the path holds `{0}` unescaped")]
    Character(String),
    /// `%` without two hexadecimal digits.
    #[error("the path holds the broken escape `{0}`")]
    BrokenEscape(String),
    /// An escape of a character that needs none, or that could be read as structure.
    #[error("the path holds the escape `{0}`, which readers may understand differently")]
    Escape(String),
}

impl<'r> CanonicalPath<'r> {
    /// Parses the path of a request as it came, without the query.
    ///
    /// Accepted are `/`, and paths of non-empty segments of RFC 3986's `pchar` without `;`, with or without one
    /// `/` behind the last. An escape must
    /// stand for a printable ASCII character that is neither unreserved (another reader would take `%61` for
    /// `a`) nor one of `%`, `;`, `?`, `#`, `\`. An escaped slash is accepted here between non-empty pieces;
    /// routing accepts it only in a parameter that can hold one.
    ///
    /// # Errors
    /// Says what is not canonical.
    pub fn parse(raw_path: &'r str) -> Result<Self, Error> {
        let rest = raw_path.strip_prefix('/').ok_or(Error::NotAbsolute)?;
        if rest.is_empty() {
            return Ok(Self(raw_path));
        }
        let path = raw_path.strip_suffix('/').unwrap_or(raw_path);
        let path = Self(path);
        if !is_ordinary(path.behind_root()) {
            cut_at_slashes(path.behind_root()).try_for_each(check_segment)?;
        }
        Ok(path)
    }

    /// Exactly the bytes that go to the upstream.
    pub fn as_str(self) -> &'r str {
        self.0
    }

    /// The segments, still escaped. The path `/` has none.
    pub fn segments(self) -> impl Iterator<Item = &'r str> {
        cut_at_slashes(self.behind_root()).filter(|segment| !segment.is_empty())
    }

    /// What follows the slash that it begins with.
    pub(super) fn behind_root(self) -> &'r str {
        self.0.strip_prefix('/').unwrap_or(self.0)
    }

    /// The path as a reader would see it that decodes before it looks for slashes, if that is another one.
    pub(super) fn with_slashes_decoded(self) -> Option<String> {
        holds_slash(self.0).then(|| self.0.replace("%2F", "/").replace("%2f", "/"))
    }

    /// A path as another reader sees it, which need not be canonical.
    pub(super) fn as_read(path: &'r str) -> Self {
        Self(path)
    }
}

/// The first segment of a text, and what follows its slash, if it has one. Segments are too short for a search by
/// words of several bytes to pay.
pub(super) fn cut(text: &str) -> (&str, Option<&str>) {
    let slash = text.bytes().position(|byte| byte == b'/').and_then(|slash| text.split_at_checked(slash));
    match slash {
        Some((segment, rest)) => (segment, rest.get(1..)),
        None => (text, None),
    }
}

fn cut_at_slashes(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let (segment, tail) = cut(rest?);
        rest = tail;
        Some(segment)
    })
}

impl fmt::Display for CanonicalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Whether a segment holds an escaped slash.
pub(super) fn holds_slash(segment: &str) -> bool {
    // Most have no escape at all, which is found out faster.
    has_escape(segment) && (segment.contains("%2F") || segment.contains("%2f"))
}

/// The value that a segment of a canonical path stands for.
pub(super) fn decode(segment: &str) -> Cow<'_, str> {
    if !has_escape(segment) {
        return segment.into();
    }
    let mut value = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((plain, tail)) = rest.split_once('%') {
        value.push_str(plain);
        let escape = tail.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // A canonical path has whole escapes of ASCII only; anything else stays as it is.
        match escape {
            Some(byte) if byte.is_ascii() => {
                value.push(char::from(byte));
                rest = tail.get(2..).unwrap_or("");
            }
            _ => {
                value.push('%');
                rest = tail;
            }
        }
    }
    value.push_str(rest);
    value.into()
}

fn has_escape(segment: &str) -> bool {
    segment.bytes().any(|byte| byte == b'%')
}

/// Whether what follows the root is of the kind that clients mostly send, so that nothing can be wrong with it: plain
/// characters, and behind no slash another one, a dot, or nothing. Of other paths it tells nothing.
fn is_ordinary(path: &str) -> bool {
    let last = path.bytes().try_fold(b'/', |before, byte| {
        let is_plain = PLAIN.get(usize::from(byte)).is_some_and(|is_plain| *is_plain);
        let fits = if before == b'/' { is_plain && byte != b'.' } else { is_plain || byte == b'/' };
        fits.then_some(byte)
    });
    last.is_some_and(|last| last != b'/')
}

fn check_segment(segment: &str) -> Result<(), Error> {
    if segment.bytes().all(|byte| PLAIN.get(usize::from(byte)).is_some_and(|is_plain| *is_plain)) {
        return check_piece(segment);
    }
    let mut characters = segment.chars();
    let mut piece = String::new();
    while let Some(character) = characters.next() {
        match character {
            '%' => {
                let escaped = check_escape(&mut characters)?;
                if escaped == '/' {
                    check_piece(&piece)?;
                    piece.clear();
                } else {
                    piece.push(escaped);
                }
            }
            _ if is_plain(character) => piece.push(character),
            _ => return Err(Error::Character(character.escape_default().to_string())),
        }
    }
    check_piece(&piece)
}

/// Reads the two digits after `%`.
fn check_escape(characters: &mut std::str::Chars<'_>) -> Result<char, Error> {
    let digits: String = characters.take(2).collect();
    let text = || format!("%{}", digits.escape_default());
    if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::BrokenEscape(text()));
    }
    match u8::from_str_radix(&digits, 16).map(char::from) {
        Ok(escaped) if is_escapable(escaped) => Ok(escaped),
        _ => Err(Error::Escape(text())),
    }
}

/// Checks what stands between slashes, plain or escaped.
fn check_piece(piece: &str) -> Result<(), Error> {
    match piece {
        "" => Err(Error::EmptySegment),
        "." | ".." => Err(Error::DotSegment(piece.to_owned())),
        _ => Ok(()),
    }
}

const fn is_unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_' | '~')
}

/// `pchar` of RFC 3986 without `%` and without `;`, behind which some servers look for path parameters.
const fn is_plain(character: char) -> bool {
    is_unreserved(character)
        || matches!(character, '!' | '$' | '&' | '\'' | '(' | ')' | '*' | '+' | ',' | '=' | ':' | '@')
}

/// [`is_plain`] of each byte.
#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < plain.len() {
        plain[byte] = is_plain(byte as u8 as char);
        byte += 1;
    }
    plain
};

/// Escapes have no use for characters outside printable ASCII here: no identifier of the API holds one, while
/// some readers fold them to ASCII. `%25` would decode to another escape.
fn is_escapable(character: char) -> bool {
    matches!(character, ' '..='~') && !is_unreserved(character) && !"%;?#\\".contains(character)
}

#[cfg(test)]
mod tests;
