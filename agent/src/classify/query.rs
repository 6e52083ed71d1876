//! The query, taken apart. Pure.

use super::{Error, Operation, fold, form};
use smallvec::SmallVec;
use std::{borrow::Cow, collections::BTreeSet};

/// The parameter that makes some servers take a request for another method's.
const OVERRIDE_PARAMETER: &str = "_method";

/// One parameter as it stands in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The name, escaped.
    pub raw_name: &'a str,
    /// The value, escaped; empty where there is no `=`.
    pub raw_value: &'a str,
}

impl<'a> Pair<'a> {
    /// The name, decoded.
    pub fn name(&self) -> Cow<'a, str> {
        decode(self.raw_name)
    }

    /// The value, decoded.
    pub fn value(&self) -> Cow<'a, str> {
        decode(self.raw_value)
    }
}

/// The parameters of a query, in order.
pub fn pairs(query: &str) -> impl Iterator<Item = Pair<'_>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
        Pair { raw_name, raw_value }
    })
}

/// Undoes escapes and `+`, whatever comes of it.
fn decode_anyhow(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(String::from_utf8_lossy(&form::decode(text.as_bytes())).into_owned())
}

/// Undoes escapes and `+`; a text whose bytes are no UTF-8 stays as it is, so that it equals no other.
fn decode(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    String::from_utf8(form::decode(text.as_bytes())).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Whether there is nothing to decode.
fn is_plain(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'%' | b'+'))
}

/// Refuses a query that two servers could read differently: characters that must not stand there, another method,
/// a parameter twice, and the operation's deciding parameters in a spelling or place where only some look.
pub(super) fn check(query: &str, operation: Option<&Operation>) -> Result<(), Error> {
    if query.is_empty() || is_ordinary(query, operation) {
        return Ok(());
    }
    check_closely(query, operation)
}

/// The most parameters of an ordinary query, each of which is compared with all others.
const MAX_ORDINARY: usize = 16;

/// Whether a query is of the kind that clients mostly send, so that nothing can be wrong with it: few parameters of
/// plain words, each once, of which none is another spelling of one that counts. Of other queries it tells nothing.
fn is_ordinary(query: &str, operation: Option<&Operation>) -> bool {
    let mut seen = SmallVec::<[&str; 4]>::new();
    query.split('&').all(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_first = !seen.contains(&name) && seen.len() < MAX_ORDINARY;
        seen.push(name);
        is_first
            && !name.is_empty()
            && name != OVERRIDE_PARAMETER
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:,@/".contains(&byte))
            && operation.is_none_or(|operation| is_spelt_well(name, operation))
    })
}

/// Whether a name of plain letters is the operation's own parameter, or looks like none of them.
fn is_spelt_well(name: &str, operation: &Operation) -> bool {
    let is_meant = |known: &&str| fold::is_like_plain(known, name);
    match operation.query_names().find(is_meant) {
        Some(known) => known == name,
        None => !operation.body_names().any(|known| is_meant(&known)),
    }
}

fn check_closely(query: &str, operation: Option<&Operation>) -> Result<(), Error> {
    check_characters(query)?;
    check_override(query)?;
    if let Some(operation) = operation {
        check_spelling(query, operation)?;
    }
    let lists = operation.map_or(&[][..], |operation| &operation.lists);
    let mut seen = BTreeSet::new();
    for pair in pairs(query) {
        let name = decode(pair.raw_name);
        if !is_text(pair.raw_name) || !is_text(pair.raw_value) {
            let problem = "has bytes that are no UTF-8, or NUL, in or behind";
            return Err(Error::QueryAmbiguous(format!("{problem} `{}`", fold::shown(&name))));
        }
        if seen.contains(&name) && !lists.iter().any(|list| **list == *name) {
            return Err(Error::QueryAmbiguous(format!("has `{}` twice", fold::shown(&name))));
        }
        seen.insert(name);
    }
    Ok(())
}

/// Servers leave out what is no UTF-8, or put something in its place, and some end a text at NUL; so a deny rule
/// would be asked about another name than theirs.
fn is_text(text: &str) -> bool {
    is_plain(text) || String::from_utf8(form::decode(text.as_bytes())).is_ok_and(|text| !text.contains('\0'))
}

/// Printable ASCII with whole escapes.
fn check_characters(query: &str) -> Result<(), Error> {
    if let Some(character) = query.chars().find(|character| !character.is_ascii_graphic()) {
        return Err(Error::Query(character.escape_default().to_string()));
    }
    for tail in query.split('%').skip(1) {
        if !tail.get(..2).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) {
            let digits = tail.get(..2).unwrap_or(tail);
            return Err(Error::Query(format!("%{digits}")));
        }
    }
    Ok(())
}

/// Some servers also cut at `;`, and some take `_method[]` for `_method`.
fn check_override(query: &str) -> Result<(), Error> {
    let mut names = query.split(['&', ';']).map(|piece| decode_anyhow(name_of(piece)));
    let is_override = |name: Cow<'_, str>| {
        let name = name.trim_start_matches(char::is_whitespace);
        name.split(['[', '\0']).next().is_some_and(|name| name.eq_ignore_ascii_case(OVERRIDE_PARAMETER))
    };
    if names.any(is_override) { Err(Error::MethodOverride(OVERRIDE_PARAMETER)) } else { Ok(()) }
}

/// A deciding parameter must be written as the API has it, and what the body decides must not stand in the query,
/// from which some servers fill in what the body lacks.
fn check_spelling(query: &str, operation: &Operation) -> Result<(), Error> {
    for pair in query.split('&') {
        for (index, piece) in pair.split(';').enumerate() {
            let given = name_of(piece);
            let bare = bare(given);
            let is_meant = |name: &&str| fold::folds_to(name, &bare);
            if let Some(name) = operation.query_names().find(is_meant) {
                let has_more = index > 0 || pair.contains(';');
                if has_more {
                    return Err(Error::QueryAmbiguous(format!("has an unescaped `;` about `{name}`")));
                }
                if given != name {
                    let given = fold::shown(given);
                    return Err(Error::QueryAmbiguous(format!(
                        "has `{given}`, another spelling of `{name}`"
                    )));
                }
            } else if let Some(name) = operation.body_names().find(is_meant) {
                return Err(Error::QueryAmbiguous(format!("has `{name}`, which belongs in the body")));
            }
        }
    }
    Ok(())
}

fn name_of(piece: &str) -> &str {
    piece.split_once('=').map_or(piece, |(name, _)| name)
}

/// A name as the most careless reader has it: decoded twice, without brackets and what stands in them, folded.
fn bare(name: &str) -> String {
    let once = decode_anyhow(name);
    let name = decode_anyhow(&once);
    let name = name.trim_start_matches(|c: char| c == '[' || c.is_whitespace());
    let name = name.split(['[', ']', '\0']).next().unwrap_or_default();
    if name.contains('.') { fold::folded(&name.replace('.', "")) } else { fold::folded(name) }
}

#[cfg(test)]
mod tests;
