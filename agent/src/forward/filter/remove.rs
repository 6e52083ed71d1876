//! What is taken out of a JSON document, and what stays as it was written.
//!
//! Where a document is not of the form that a pointer expects, more is taken out rather than less: an array
//! where an object should be is looked through, and so is an object where an array should be.

use super::scan::{self, Scanner, decoded};
use crate::classify::{Filter, filter::Kind, pointer::Step};
use std::borrow::Cow;

/// A document without the parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Filtered<'b> {
    /// The document: the very bytes where nothing was in it to take out.
    pub bytes: Cow<'b, [u8]>,
    /// How often each filter took something out, in the filters' order.
    pub removed: Vec<u64>,
}

/// Takes the parts that the filters name out of a document. Values that stay are the same to the byte.
///
/// # Errors
/// When the body is not one JSON document.
pub fn apply<'b>(filters: &[&Filter], body: &'b [u8]) -> Result<Filtered<'b>, scan::Error> {
    let mut remover = Remover {
        targets: filters.iter().map(|filter| Target::of(filter)).collect(),
        removed: vec![0; filters.len()],
        scanner: Scanner::new(body)?,
        out: String::with_capacity(body.len()),
    };
    let whole: Vec<At> = (0..filters.len()).map(|target| At { target, step: 0 }).collect();
    remover.value(&whole)?;
    remover.scanner.end()?;
    let is_same = remover.removed.iter().all(|count| *count == 0);
    let bytes = if is_same { Cow::Borrowed(body) } else { Cow::Owned(remover.out.into_bytes()) };
    Ok(Filtered { bytes, removed: remover.removed })
}

/// What a filter is after, and the way there.
struct Target<'f> {
    steps: Vec<&'f Step>,
    kind: &'f Kind,
}

impl<'f> Target<'f> {
    fn of(filter: &'f Filter) -> Self {
        let mut steps: Vec<&Step> = filter.pointer.steps().iter().collect();
        // The pointer to items may end at the array or at its elements.
        if let (Kind::Items { .. }, Some(Step::Field(_)) | None) = (&filter.kind, steps.last()) {
            steps.push(&Step::Each);
        }
        Self { steps, kind: &filter.kind }
    }
}

/// A value on the way to a target: the step that leads on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    target: usize,
    step: usize,
}

/// What a member or element is to the targets.
#[derive(Debug, Default)]
struct Place {
    /// The targets that it is.
    hits: Vec<usize>,
    /// The targets that it is on the way to.
    ways: Vec<At>,
}

struct Remover<'f, 'b> {
    targets: Vec<Target<'f>>,
    removed: Vec<u64>,
    scanner: Scanner<'b>,
    out: String,
}

impl<'f, 'b> Remover<'f, 'b> {
    fn value(&mut self, ways: &[At]) -> Result<(), scan::Error> {
        match self.scanner.peek() {
            Some(b'{') if !ways.is_empty() => self.object(ways),
            Some(b'[') if !ways.is_empty() => self.array(ways),
            _ => {
                let value = self.scanner.value()?;
                self.out.push_str(value);
                Ok(())
            }
        }
    }

    fn object(&mut self, ways: &[At]) -> Result<(), scan::Error> {
        self.scanner.enter()?;
        self.out.push('{');
        let ways = self.looking_through(ways);
        let (mut is_first, mut is_first_shown) = (true, true);
        while let Some(name) = self.scanner.next_name(is_first)? {
            is_first = false;
            let plain = decoded(name);
            let place = self.place(&ways, |step| match step {
                Step::Field(field) => Some(is_same_name(field, &plain)),
                Step::Each => Some(true),
            });
            if self.hides(&place.hits)? {
                self.scanner.value()?;
                continue;
            }
            if !std::mem::take(&mut is_first_shown) {
                self.out.push(',');
            }
            self.out.push_str(name);
            self.out.push(':');
            self.value(&place.ways)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn array(&mut self, ways: &[At]) -> Result<(), scan::Error> {
        self.scanner.enter()?;
        self.out.push('[');
        let place = self.place(ways, |step| match step {
            Step::Field(_) => None,
            Step::Each => Some(true),
        });
        let (mut is_first, mut is_first_shown) = (true, true);
        while self.scanner.next_element(is_first)? {
            is_first = false;
            if self.hides(&place.hits)? {
                self.scanner.value()?;
                continue;
            }
            if !std::mem::take(&mut is_first_shown) {
                self.out.push(',');
            }
            self.value(&place.ways)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// An object where an array should be counts as its only element, too.
    fn looking_through(&self, ways: &[At]) -> Vec<At> {
        let mut all = ways.to_vec();
        for way in ways {
            let mut step = way.step;
            while let (Some(Step::Each), Some(_)) =
                (self.step(way.target, step), self.step(way.target, step + 1))
            {
                step += 1;
                all.push(At { target: way.target, step });
            }
        }
        all
    }

    fn step(&self, target: usize, step: usize) -> Option<&'f Step> {
        self.targets.get(target)?.steps.get(step).copied()
    }

    /// What a value is that the next steps of these ways may lead to: `leads` says whether a step does, or
    /// nothing where the value itself stands for the one that it is in.
    fn place(&self, ways: &[At], leads: impl Fn(&Step) -> Option<bool>) -> Place {
        let mut place = Place::default();
        for way in ways {
            let Some(step) = self.step(way.target, way.step) else { continue };
            let next = At { target: way.target, step: way.step + 1 };
            match leads(step) {
                None => place.ways.push(*way),
                Some(false) => {}
                Some(true) if self.step(next.target, next.step).is_some() => place.ways.push(next),
                Some(true) => place.hits.push(way.target),
            }
        }
        place
    }

    /// Whether the value that comes next is taken out by any of the targets that it is, and counts it.
    fn hides(&mut self, hits: &[usize]) -> Result<bool, scan::Error> {
        let mut fields = None;
        let mut is_hidden = false;
        for &hit in hits {
            let Some(Target { kind, .. }) = self.targets.get(hit) else { continue };
            let is_hit = match kind {
                Kind::Field | Kind::Credential => true,
                Kind::Items { field, prefix } => {
                    let fields = match &mut fields {
                        Some(fields) => fields,
                        None => fields.insert(fields_of(self.scanner)?),
                    };
                    is_item(fields, field, prefix)
                }
            };
            if is_hit {
                is_hidden = true;
                if let Some(count) = self.removed.get_mut(hit) {
                    *count += 1;
                }
            }
        }
        Ok(is_hidden)
    }
}

/// An object's field: its name, and its value where that is a string.
type Field<'b> = (Cow<'b, str>, Option<Cow<'b, str>>);

/// The fields of the object that comes next; none where it is no object.
fn fields_of(mut scanner: Scanner<'_>) -> Result<Vec<Field<'_>>, scan::Error> {
    let mut fields = Vec::new();
    if scanner.peek() == Some(b'{') {
        scanner.enter()?;
        while let Some(name) = scanner.next_name(fields.is_empty())? {
            let is_string = scanner.peek() == Some(b'"');
            let value = scanner.value()?;
            fields.push((decoded(name), is_string.then(|| decoded(value))));
        }
    }
    Ok(fields)
}

/// Whether an element with these fields is one of the items. What does not tell what it is may be one.
fn is_item(fields: &[Field<'_>], field: &str, prefix: &str) -> bool {
    let mut telling =
        fields.iter().filter(|(name, _)| is_same_name(field, name)).map(|(_, value)| value).peekable();
    telling.peek().is_none()
        || telling.any(|value| {
            let start = value.as_ref().map(|value| value.as_bytes().get(..prefix.len()));
            start.is_none_or(|start| start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())))
        })
}

/// Many readers of JSON take a name in another case for the same, some by all of Unicode's rules.
fn is_same_name(left: &str, right: &str) -> bool {
    fn folded(name: &str) -> impl Iterator<Item = char> {
        name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
    }
    left.eq_ignore_ascii_case(right)
        || (!(left.is_ascii() && right.is_ascii()) && folded(left).eq(folded(right)))
}
