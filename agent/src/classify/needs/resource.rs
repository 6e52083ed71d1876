//! A named resource: its kind, where that depends on the request, and its value.

use super::{Named, Naming, Place, Pointer, Target, Where};
use serde_json::Value;
use std::borrow::Cow;

/// The kind of tags.
pub(super) const TAG: &str = "tag";

/// The largest integer up to which every reader of JSON holds each one exactly: 2^53.
const MAX_EXACT: u64 = 1 << 53;

/// The words for a kind that URNs, `resource_type` and trusted sources use where the catalogue has another one.
const WORDS: [(&str, &str); 6] = [
    ("database", "database_cluster"),
    ("dbaas", "database_cluster"),
    ("floatingip", "reserved_ip"),
    ("k8s", "kubernetes_cluster"),
    ("kubernetes", "kubernetes_cluster"),
    ("loadbalancer", "load_balancer"),
];

/// Words in the place of a kind for what is no resource: a database may trust an address.
const ADDRESS: &str = "ip_addr";

/// Why a value names no resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoResource {
    /// The field that tells the kind is not there, or no word.
    #[error("has no plain word beside it that says what it is")]
    NoKind,
    /// It is another thing, such as an address.
    #[error("is no resource")]
    Other,
    /// It is no URN.
    #[error("is no URN such as `do:droplet:123`")]
    NoUrn,
}

/// The kind that such a word means, which is the word itself unless the API has several; none for an address.
pub fn kind_of_word(word: &str) -> Option<&str> {
    if word == ADDRESS {
        return None;
    }
    Some(WORDS.iter().find(|(known, _)| *known == word).map_or(word, |(_, kind)| kind))
}

/// The resource that a value names at a target; `word` stands in the field beside it.
pub(super) fn named<'a, 'r>(
    target: &'a Target,
    value: Cow<'r, str>,
    word: Option<&str>,
) -> Result<Named<'a, 'r>, NoResource> {
    let place = Where::At(&target.place);
    let of_word = |word: &str, value: Cow<'r, str>| {
        let kind = kind_of_word(word).ok_or(NoResource::Other)?;
        Ok(Named { kind: Cow::Owned(kind.to_owned()), value, place: place.clone() })
    };
    match &target.naming {
        Naming::Kind(kind) => Ok(Named { kind: Cow::Borrowed(kind), value, place }),
        Naming::Urn => {
            let parts = value.strip_prefix("do:").and_then(|rest| rest.split_once(':'));
            let (word, id) =
                parts.filter(|(word, id)| is_word(word) && !id.is_empty()).ok_or(NoResource::NoUrn)?;
            of_word(word, Cow::Owned(id.to_owned()))
        }
        Naming::Beside(_) => of_word(word.filter(|word| is_word(word)).ok_or(NoResource::NoKind)?, value),
    }
}

/// Whether a word can be one of the API's for a kind. Another spelling of one must not pass for an unknown kind.
fn is_word(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Does something with the values at a target in the body, and the word beside each that tells its kind.
pub(super) fn visit<'v>(
    target: &Target,
    body: &'v Value,
    visit: &mut impl FnMut(Cow<'v, str>, Option<&'v str>),
) {
    let Place::Body(pointer) = &target.place else { return };
    let beside = match &target.naming {
        Naming::Beside(sibling) => pointer.split_last().map(|(holder, field)| (sibling, holder, field)),
        Naming::Kind(_) | Naming::Urn => None,
    };
    let Some((sibling, holder, field)) = beside else {
        Pointer::visit(pointer.steps(), body, &mut |value| {
            if let Some(value) = text(value) {
                visit(value, None);
            }
        });
        return;
    };
    Pointer::visit(holder, body, &mut |holder| {
        if let Some(value) = holder.get(field).and_then(text) {
            visit(value, holder.get(&**sibling).and_then(Value::as_str));
        }
    });
}

/// A value as the identifier of a resource: none for what says nothing or is no identifier.
pub(super) fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.into()),
        Value::Number(number) if is_exact(number) => Some(number.to_string().into()),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => None,
    }
}

/// Whether a number is an integer that every reader holds exactly.
pub(in super::super) fn is_exact(number: &serde_json::Number) -> bool {
    let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    size.is_some_and(|size| size <= MAX_EXACT)
}
