//! YAML as manifests have it, with the place of every value, so that problems are told with their lines as those of
//! TOML files are.
//!
//! Only what means the same to every reader is read. Kubernetes reads YAML 1.1, in which a bare `on` is a boolean, and
//! other tools YAML 1.2, in which it is a text: where a text is expected, such words must be quoted. Anchors, tags and
//! keys that stand twice are refused.

mod deserialize;
mod scalar;

use crate::toml_file::{Error, Source};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};
use serde::de::DeserializeOwned;
use std::ops::Range;

/// More levels than any manifest has.
const MAX_DEPTH: usize = 32;

/// A value, and where it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Bytes of the text.
    pub span: Range<usize>,
    value: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Scalar {
        text: String,
        is_plain: bool,
    },
    Sequence(Vec<Node>),
    /// Keys are scalars, and none stands twice.
    Mapping(Vec<(Node, Node)>),
}

/// The documents of a file; those with nothing in them are left out.
///
/// # Errors
/// With the first thing that is no YAML, or none that is read here.
pub fn documents(source: &Source) -> Result<Vec<Node>, Error> {
    let places = Places::of(&source.text);
    let mut reader = Reader { parser: Parser::new_from_str(&source.text), places: &places };
    reader.documents().map_err(|problem| source.invalid(problem.span, &problem.message))
}

impl Node {
    /// The value under a key, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The text, where it is one and cannot be taken for anything else.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, is_plain } if !is_plain || scalar::is_text(text) => Some(text),
            Value::Scalar { .. } | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, is_plain: true } if scalar::is_null(text))
    }

    /// Whether it has keys.
    pub fn is_mapping(&self) -> bool {
        matches!(self.value, Value::Mapping(_))
    }

    /// The keys and values of a mapping.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let pairs = match &self.value {
            Value::Mapping(pairs) => pairs.as_slice(),
            Value::Scalar { .. } | Value::Sequence(_) => &[],
        };
        pairs.iter().map(|(key, value)| (key.name(), value))
    }

    /// The place of a key of a mapping.
    pub fn place_of(&self, key: &str) -> Option<Range<usize>> {
        let Value::Mapping(pairs) = &self.value else { return None };
        pairs.iter().find(|(name, _)| name.name() == key).map(|(name, _)| name.span.clone())
    }

    /// The keys and numbers that lead to the value at this place of the text.
    pub fn path_at(&self, offset: usize) -> String {
        let (mut path, mut node) = (String::new(), self);
        while let Some((step, below)) = node.step_to(offset) {
            let separator = if path.is_empty() || step.starts_with('[') { "" } else { "." };
            path.push_str(separator);
            path.push_str(&step);
            node = below;
        }
        path
    }

    fn step_to(&self, offset: usize) -> Option<(String, &Self)> {
        let is_in = |node: &Self| node.span.contains(&offset) || node.span.start == offset;
        match &self.value {
            Value::Scalar { .. } => None,
            Value::Sequence(items) => {
                let (number, item) = items.iter().enumerate().find(|(_, item)| is_in(item))?;
                Some((format!("[{number}]"), item))
            }
            Value::Mapping(pairs) => {
                let (key, value) = pairs.iter().find(|(key, value)| is_in(key) || is_in(value))?;
                let is_word = key.name().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                let step = if is_word { key.name().to_owned() } else { format!("[{:?}]", key.name()) };
                Some((step, value))
            }
        }
    }

    /// Reads it as a value of the given shape; `source` is the text that it stands in.
    ///
    /// # Errors
    /// When it has keys or types that the shape has not; only the first such problem is known.
    pub fn parse<T: DeserializeOwned>(&self, source: &Source) -> Result<T, Error> {
        T::deserialize(self).map_err(|error| {
            let span = error.span.unwrap_or_else(|| self.span.clone());
            source.invalid(span, &error.message)
        })
    }

    fn name(&self) -> &str {
        match &self.value {
            Value::Scalar { text, .. } => text,
            Value::Sequence(_) | Value::Mapping(_) => "",
        }
    }
}

/// Something that is not read.
struct Problem {
    span: Range<usize>,
    message: String,
}

/// Where lines begin: the parser counts characters.
struct Places<'t> {
    text: &'t str,
    lines: Vec<usize>,
}

impl<'t> Places<'t> {
    fn of(text: &'t str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, lines: std::iter::once(0).chain(ends).collect() }
    }

    fn offset(&self, marker: Marker) -> usize {
        let line = self.lines.get(marker.line().saturating_sub(1)).copied().unwrap_or(self.text.len());
        let rest = self.text.get(line..).unwrap_or_default();
        line + rest.char_indices().nth(marker.col()).map_or(rest.len(), |(at, _)| at)
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.offset(span.start);
        start..self.offset(span.end).max(start)
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    places: &'t Places<'t>,
}

impl<'t> Reader<'t> {
    fn documents(&mut self) -> Result<Vec<Node>, Problem> {
        let mut documents = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(documents),
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                event @ (Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd) => {
                    let node = self.node(event, span, 0)?;
                    documents.extend(Some(node).filter(|node| !node.is_null()));
                }
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = self.places.offset(*error.marker());
                Err(Problem { span: at..at, message: error.info().to_owned() })
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Problem> {
        let place = self.places.range(span);
        let refuse = |message: &str| Err(Problem { span: place.clone(), message: message.to_owned() });
        if depth > MAX_DEPTH {
            return refuse("nested too deeply");
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.is_some()),
            Event::Alias(anchor) => (*anchor, false),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => (0, false),
        };
        if anchor != 0 {
            return refuse("anchors and aliases (`&`, `*`) are not read; write the value out, or quote it");
        }
        if tag {
            return refuse("tags (`!`) are not read; quote the value, or remove the tag");
        }
        let mut end = place.end;
        let value = match event {
            Event::Scalar(text, style, ..) => {
                Value::Scalar { text: text.into_owned(), is_plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => Value::Sequence(self.sequence(depth, &mut end)?),
            Event::MappingStart(..) => Value::Mapping(self.mapping(depth, &mut end)?),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::Alias(_)
            | Event::SequenceEnd
            | Event::MappingEnd => return refuse("a value is missing here"),
        };
        Ok(Node { span: place.start..end.max(place.start), value })
    }

    /// The end of a list or mapping: its bracket, or the end of the last value in it.
    fn end(&self, span: Span, last: usize) -> usize {
        if span.is_empty() { last } else { self.places.range(span).end }
    }

    fn sequence(&mut self, depth: usize, end: &mut usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                *end = self.end(span, *end);
                return Ok(items);
            }
            let item = self.node(event, span, depth + 1)?;
            *end = item.span.end;
            items.push(item);
        }
    }

    fn mapping(&mut self, depth: usize, end: &mut usize) -> Result<Vec<(Node, Node)>, Problem> {
        let mut pairs: Vec<(Node, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                *end = self.end(span, *end);
                return Ok(pairs);
            }
            let key = self.node(event, span, depth + 1)?;
            if !matches!(key.value, Value::Scalar { .. }) {
                return Err(Problem { span: key.span, message: "a key is a single word".to_owned() });
            }
            if pairs.iter().any(|(other, _)| other.name() == key.name()) {
                let message = format!("`{}` stands here twice", key.name());
                return Err(Problem { span: key.span, message });
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            *end = value.span.end;
            pairs.push((key, value));
        }
    }
}

#[cfg(test)]
mod tests;
